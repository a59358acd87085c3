//! The JSON codec beside orjson, in one process and in turns: `make codec` and `make instructions`.
//!
//! Times are told as ratios of neighbouring rounds, which a busy machine slows alike; instructions
//! are counted by callgrind and are the same on every run. Values are made anew for each round of
//! encoding: orjson leaves a string's UTF-8 in the object and would find it there the next time.

#![expect(clippy::unwrap_used, reason = "a contestant that fails ends the race")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use nano_graphrag_redis::codec;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

const ROUNDS: usize = 60;
/// Values counted of each kind: every row of foreign words occurs among them.
const COUNTED: usize = 40;
const COUNTING: &str = "--counting";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    Python::initialize();
    let outcome = if asked(COUNTING) {
        Python::attach(under_callgrind)
    } else if asked("--instructions") {
        instructions()
    } else {
        Python::attach(times)
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        exit(1);
    }
}

/// One kind of value, as the host stores it.
struct Kind<'py> {
    name: String,
    texts: Vec<Bound<'py, PyBytes>>,
    loads: Bound<'py, PyAny>,
    orjson: Bound<'py, PyModule>,
}

impl<'py> Kind<'py> {
    fn all(py: Python<'py>, most: usize) -> PyResult<Vec<Self>> {
        let globals = PyDict::new(py);
        globals.set_item("root", env!("CARGO_MANIFEST_DIR"))?;
        py.run(
            c_str!(
                "import json, sys\nsys.path.insert(0, root)\nfrom benches import payloads\n\
                 texts = {name: [json.dumps(value, ensure_ascii=False, separators=(',', ':')).encode()\n\
                 for value in table.values()] for name, table in payloads.build().tables().items()}"
            ),
            Some(&globals),
            None,
        )?;
        let tables: BTreeMap<String, Vec<Bound<'py, PyBytes>>> =
            globals.as_any().get_item("texts")?.extract()?;
        tables
            .into_iter()
            .map(|(name, mut texts)| {
                texts.truncate(most);
                Ok(Self {
                    name,
                    texts,
                    loads: py.import("json")?.getattr("loads")?,
                    orjson: py.import("orjson")?,
                })
            })
            .collect()
    }

    /// The values, made by neither of the two.
    fn values(&self) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.texts
            .iter()
            .map(|text| self.loads.call1((text,)))
            .collect()
    }

    /// Runs the four contestants in turn, each through `run`, which is told its name.
    fn turn(&self, py: Python<'py>, mut run: impl FnMut(&str, &mut dyn FnMut())) -> PyResult<()> {
        let (dumps, loads) = (self.orjson.getattr("dumps")?, self.orjson.getattr("loads")?);
        let values = self.values()?;
        for name in ["encode", "again"] {
            run(name, &mut || {
                for value in &values {
                    let mut json = Vec::new();
                    black_box(codec::encode(black_box(value), &mut json)).unwrap();
                    black_box(json);
                }
            });
        }
        let values = self.values()?;
        for name in ["encode orjson", "again orjson"] {
            run(name, &mut || {
                for value in &values {
                    black_box(dumps.call1((value,))).unwrap();
                }
            });
        }
        run("decode", &mut || {
            for text in &self.texts {
                black_box(codec::decode(py, black_box(text.as_bytes()))).unwrap();
            }
        });
        run("decode orjson", &mut || {
            for text in &self.texts {
                black_box(loads.call1((text,))).unwrap();
            }
        });
        let field = self.values()?[0].call_method0("popitem")?.get_item(0)?;
        let field = PyList::new(py, [field])?.into_any();
        run("field", &mut || {
            for text in &self.texts {
                let found = codec::decode_fields(py, black_box(text.as_bytes()), &field);
                black_box(found).unwrap();
            }
        });
        run("field orjson", &mut || {
            for text in &self.texts {
                let whole = loads.call1((text,)).unwrap();
                let found = PyDict::new(py);
                for (name, value) in whole.cast_into::<PyDict>().unwrap() {
                    if field.contains(&name).unwrap() {
                        found.set_item(name, value).unwrap();
                    }
                }
                black_box(found);
            }
        });
        Ok(())
    }
}

/// `CODEC_VALUES=40` keeps the values of a kind in the processor's cache; all of them do not fit.
fn values() -> usize {
    let asked = std::env::var("CODEC_VALUES").ok();
    asked
        .and_then(|asked| asked.parse().ok())
        .unwrap_or(usize::MAX)
}

fn times(py: Python<'_>) -> PyResult<()> {
    println!(
        "{:<20} {:<8} {:>8} {:>8}  ratio",
        "microseconds a value", "", "ours", "orjson"
    );
    for kind in Kind::all(py, values())? {
        let mut rounds: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            kind.turn(py, |name, contestant| {
                let start = Instant::now();
                contestant();
                rounds.entry(name.into()).or_default().push(start.elapsed());
            })?;
        }
        for direction in ["encode", "again", "decode", "field"] {
            let (ours, theirs) = (&rounds[direction], &rounds[&format!("{direction} orjson")]);
            let mut ratios: Vec<f64> = ours
                .iter()
                .zip(theirs)
                .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64())
                .collect();
            ratios.sort_by(f64::total_cmp);
            let best = |times: &[Duration]| {
                let best = times.iter().min().map_or(0.0, Duration::as_secs_f64);
                best * 1e6 / f64::from(u32::try_from(kind.texts.len()).unwrap())
            };
            println!(
                "{:<20} {direction:<8} {:>8.2} {:>8.2} {:>6.2}",
                kind.name,
                best(ours),
                best(theirs),
                ratios[ratios.len() / 2],
            );
        }
    }
    Ok(())
}

/// Runs this program under callgrind, which writes a file each time `counted` returns.
fn instructions() -> PyResult<()> {
    let directory = tempfile::tempdir()?;
    let files = directory.path().join("count");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--zero-before=codec::counted",
            "--dump-after=codec::counted",
        ])
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(std::env::current_exe()?)
        .arg(COUNTING)
        .env("PYTHONHASHSEED", "0")
        .output()?;
    let names = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        exit(1);
    }
    println!(
        "{:<20} {:<8} {:>8} {:>8}  ratio",
        "instructions a value", "", "ours", "orjson"
    );
    let mut counts = BTreeMap::new();
    for (index, name) in names.lines().enumerate() {
        let file = directory.path().join(format!("count.{}", index + 1));
        counts.insert(name, total(&file)? / u32::try_from(COUNTED)?);
    }
    for (name, ours) in &counts {
        if let Some(theirs) = counts.get(&*format!("{name} orjson")) {
            println!(
                "{name:<29} {ours:>8} {theirs:>8} {:>6.2}",
                f64::from(*ours) / f64::from(*theirs)
            );
        }
    }
    Ok(())
}

fn total(file: &Path) -> PyResult<u32> {
    let text = std::fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    Ok(total.and_then(|total| total.parse().ok()).unwrap_or(0))
}

fn under_callgrind(py: Python<'_>) -> PyResult<()> {
    // CODEC_ONLY="text_chunks encode" counts one contestant, for a profile of it alone.
    let only = std::env::var("CODEC_ONLY").ok();
    for kind in Kind::all(py, COUNTED)? {
        // Once unseen: modules, key tables and allocators are warm afterwards.
        kind.turn(py, |_, contestant| contestant())?;
        kind.turn(py, |name, contestant| {
            let name = format!("{} {name}", kind.name);
            if only.as_ref().is_none_or(|only| *only == name) {
                println!("{name}");
                counted(contestant);
            } else {
                contestant();
            }
        })?;
    }
    Ok(())
}

/// What callgrind looks for by name.
#[inline(never)]
fn counted(contestant: &mut dyn FnMut()) {
    contestant();
    black_box(());
}
