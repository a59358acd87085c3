//! Fuzzing on the stable toolchain: inputs of a corpus, mutated, thrown at what reads bytes of others.
//!
//! A corpus is a directory of `tests/corpora`; each file is one input, and what once failed belongs
//! there. `FUZZ_SECONDS` says how long each target is tried (`make fuzz MINUTES=60` for long), and
//! `FUZZ_SEED` repeats a run.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

/// Seconds for a target in an ordinary run of the tests.
const SECONDS: u64 = 5;
/// Bytes of an input beyond which it is not grown.
const LONG: usize = 4096;

/// Numbers that look random, the same ones for the same seed: xorshift64*.
pub(crate) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from((self.next() >> 11) % end).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[4]
    }
}

/// Tries inputs until the time is over; one that panics is told, written down, and fails the test.
///
/// `words` are what a reader of these inputs looks for: bytes that chance alone would hardly find.
pub(crate) fn fuzz(corpus: &str, words: &[&[u8]], mut target: impl FnMut(&[u8], &mut Chance)) {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(corpus) | 1
    });
    let mut chance = Chance(seed | 1);
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let inputs = read(corpus);
    let mut tried = 0_u64;
    for input in &inputs {
        attempt(corpus, seed, input, &mut chance, &mut target);
    }
    while !tried.is_multiple_of(256) || Instant::now() < until {
        let input = mutated(&inputs, words, &mut chance);
        attempt(corpus, seed, &input, &mut chance, &mut target);
        tried += 1;
    }
    println!("{corpus}: {tried} inputs, FUZZ_SEED={seed}");
}

fn attempt(
    corpus: &str,
    seed: u64,
    input: &[u8],
    chance: &mut Chance,
    target: &mut impl FnMut(&[u8], &mut Chance),
) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input, chance))) {
        told(corpus, seed, input);
        resume_unwind(panic as Box<dyn Any + Send>);
    }
}

fn told(corpus: &str, seed: u64, input: &[u8]) {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let file = found.join(format!("{corpus}-{seed}"));
    let kept = fs::create_dir_all(found).and_then(|()| fs::write(&file, input));
    println!(
        "{corpus}: FUZZ_SEED={seed} found b\"{}\" (kept: {kept:?}, {}); put it into the corpus",
        input.escape_ascii(),
        file.display(),
    );
}

/// The inputs of a corpus, in the order of their names.
fn read(corpus: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpora")
        .join(corpus);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory:?} is empty");
    files
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect()
}

/// One of the inputs, changed in a few places.
fn mutated(inputs: &[Vec<u8>], words: &[&[u8]], chance: &mut Chance) -> Vec<u8> {
    let mut input = inputs[chance.below(inputs.len())].clone();
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        let end = at + chance.below((input.len() - at).min(16) + 1);
        match chance.below(8) {
            0 => input.truncate(at),
            1 if at < input.len() => input[at] ^= 1 << chance.below(8),
            2 if at < input.len() => input[at] = chance.byte(),
            3 => drop(input.drain(at..end)),
            4 => input.insert(at, chance.byte()),
            5 if !words.is_empty() => {
                let word = words[chance.below(words.len())];
                drop(input.splice(at..end, word.iter().copied()));
            }
            6 => {
                // The end of another one.
                let other = &inputs[chance.below(inputs.len())];
                let from = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                // Some of it twice.
                let again = input[at..end].to_vec();
                drop(input.splice(at..at, again));
            }
        }
    }
    input.truncate(LONG);
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_again_and_they_are_of_many_kinds() {
        let corpus = [b"$5\r\nhello\r\n".to_vec(), b"*1\r\n:7\r\n".to_vec()];
        let inputs = |seed| -> Vec<_> {
            let mut chance = Chance(seed);
            (0..200)
                .map(|_| mutated(&corpus, &[b"\r\n"], &mut chance))
                .collect()
        };
        assert_eq!(inputs(7), inputs(7));
        let different: std::collections::HashSet<_> = inputs(7).into_iter().collect();
        assert!(different.len() > 150, "{}", different.len());
    }
}
