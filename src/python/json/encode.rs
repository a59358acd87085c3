//! Python value -> JSON bytes, with the meaning of `json.dumps(value, ensure_ascii=False)`.

use pyo3::exceptions::{PyException, PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use super::failure::{Failure, Result};
use super::python_str::{self, Unwritten};
use super::scratch_buffer;
use crate::error::{Error, Kind};
use crate::json::{SLACK, write_float};
use crate::memory;
use crate::panics;
use crate::stack;
use crate::value::{admit, too_large};

/// Bytes kept free for what is written between two looks at the room: a number as a key, a number, what separates them.
const ROOM: usize = 2 * SLACK;

/// Levels of nesting a value may have: what `json` itself survives on every Python.
const MAX_DEPTH: usize = 900;

/// What a value may not go beyond, from some place in it on.
#[derive(Clone, Copy)]
struct Bounds {
    depth: usize,
    /// Of the JSON as a whole.
    bytes: usize,
}

/// Hands the JSON of `value` to `take`, if it takes at most `max` bytes. It is written where there is
/// room already, and what is too large is not written to its end.
pub(crate) fn encoded<T>(
    value: &Bound<'_, PyAny>,
    max: usize,
    take: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    let mut json = scratch_buffer::take();
    let bounds = Bounds {
        depth: 0,
        bytes: max,
    };
    let written = panics::or_no_memory(|| {
        memory::claim(&mut json, ROOM);
        write(value, &mut json, bounds)?;
        bounds.hold(&mut json)
    });
    let written = written.unwrap_or_else(|error| Err(error.into()));
    let taken = written.and_then(|()| take(&json));
    scratch_buffer::leave(json);
    taken
}

/// A failure of the value's own code refuses the value; an interrupt, or no memory, does not.
fn raised<T>(py: Python<'_>, error: PyErr, what: &str) -> Result<T> {
    if error.is_instance_of::<PyException>(py) && !error.is_instance_of::<PyMemoryError>(py) {
        return refuse(format!("{what}: {error}"));
    }
    Err(Failure::Raised(error))
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Serialization, message).into())
}

fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    // Exact types first, the commonest first; each test compares one pointer.
    if let Ok(text) = value.cast_exact::<PyString>() {
        write_text(text, out, bounds)
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        write_dict(dict, out, bounds)
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_array(list.iter(), out, bounds)
    } else if let Ok(int) = value.cast_exact::<PyInt>() {
        write_int(int, out)
    } else if let Ok(float) = value.cast_exact::<PyFloat>() {
        write_float(float.value(), out);
        Ok(())
    } else if value.is_none() {
        out.extend_from_slice(b"null");
        Ok(())
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
        Ok(())
    } else {
        write_subclass(value, out, bounds)
    }
}

/// Subclasses count as what they extend, in the order in which `json` asks. The host writes by
/// `json.dump`, whose encoder is the one in Python: it asks whether a container is true, and then
/// goes through what its own `__iter__` or `items` gives.
fn write_subclass(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    if let Ok(text) = value.cast::<PyString>() {
        write_text(text, out, bounds)
    } else if let Ok(int) = value.cast::<PyInt>() {
        write_int(int, out)
    } else if let Ok(float) = value.cast::<PyFloat>() {
        write_float(float.value(), out);
        Ok(())
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        write_array(tuple.iter(), out, bounds)
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        write_array_subclass(value, out, bounds)
    } else if value.is_instance_of::<PyDict>() {
        write_dict_subclass(value, out, bounds)
    } else {
        refuse(format!(
            "a {} is no JSON value: turn it into dicts, lists, text, numbers, True, False or None",
            type_name(value)
        ))
    }
}

impl Bounds {
    fn deeper(self, out: &mut Vec<u8>) -> Result<Self> {
        memory::claim(out, ROOM);
        if self.depth == MAX_DEPTH {
            return refuse(format!(
                "the value nests deeper than {MAX_DEPTH} levels, or holds itself"
            ));
        }
        if stack::is_low() {
            return refuse(format!(
                "the value nests deeper than {} levels, which is all that this thread's stack has room \
                 for: use a thread with a larger one (threading.stack_size)",
                self.depth
            ));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    /// Ends the writing of what is too large already.
    fn hold(self, out: &mut Vec<u8>) -> Result<()> {
        memory::claim(out, ROOM);
        Ok(admit(out, self.bytes)?)
    }
}

fn write_array<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    bounds: Bounds,
) -> Result<()> {
    let bounds = bounds.deeper(out)?;
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&item, out, bounds)?;
        bounds.hold(out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_array_subclass(array: &Bound<'_, PyAny>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    let bounds = bounds.deeper(out)?;
    out.push(b'[');
    if own(array, "__bool__", array.is_truthy())? {
        for (index, item) in own(array, "__iter__", array.try_iter())?.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(&own(array, "__iter__", item)?, out, bounds)?;
            bounds.hold(out)?;
        }
    }
    out.push(b']');
    Ok(())
}

fn write_dict(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    let bounds = bounds.deeper(out)?;
    // Writing a subclass runs its code, which may change this very dict: it is looked at again
    // after each item, and the iterator is never asked beyond what there was.
    let length = dict.len();
    out.push(b'{');
    for (index, (key, item)) in dict.iter().take(length).enumerate() {
        write_member(index, &key, &item, out, bounds)?;
        if dict.len() != length {
            return refuse(
                "a dict changed while it was written: hand over one that nobody changes",
            );
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_dict_subclass(dict: &Bound<'_, PyAny>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    let bounds = bounds.deeper(out)?;
    out.push(b'{');
    if own(dict, "__bool__", dict.is_truthy())? {
        let items = dict
            .call_method0("items")
            .and_then(|items| items.try_iter());
        for (index, pair) in own(dict, "items", items)?.enumerate() {
            let pair = own(dict, "items", pair)?;
            // A pair is whatever can be taken apart into two.
            let parts: Vec<_> = own(dict, "items", pair.try_iter())?
                .take(3)
                .collect::<PyResult<_>>()
                .or_else(|error| own(dict, "items", Err(error)))?;
            let [key, item] = &parts[..] else {
                return refuse(format!(
                    "{}.items() gave something that is no pair",
                    type_name(dict)
                ));
            };
            write_member(index, key, item, out, bounds)?;
        }
    }
    out.push(b'}');
    Ok(())
}

/// What a value's own method gave.
fn own<T>(value: &Bound<'_, PyAny>, method: &str, gave: PyResult<T>) -> Result<T> {
    gave.or_else(|error| {
        let what = format!("{}.{method}() failed", type_name(value));
        raised(value.py(), error, &what)
    })
}

fn write_member(
    index: usize,
    key: &Bound<'_, PyAny>,
    item: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    bounds: Bounds,
) -> Result<()> {
    if index > 0 {
        out.push(b',');
    }
    write_key(key, out, bounds)?;
    out.push(b':');
    write(item, out, bounds)?;
    bounds.hold(out)
}

/// A key as `json.dumps` makes it: numbers, True, False and None become text.
fn write_key(key: &Bound<'_, PyAny>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    if let Ok(text) = key.cast::<PyString>() {
        return write_text(text, out, bounds);
    }
    out.push(b'"');
    if let Ok(float) = key.cast::<PyFloat>() {
        write_float(float.value(), out);
    } else if key.is_none() {
        out.extend_from_slice(b"null");
    } else if let Ok(flag) = key.cast_exact::<PyBool>() {
        out.extend_from_slice(if flag.is_true() { b"true" } else { b"false" });
    } else if let Ok(int) = key.cast::<PyInt>() {
        write_int(int, out)?;
    } else {
        return refuse(format!(
            "a dict key is a {}: JSON takes text, numbers, True, False or None",
            type_name(key)
        ));
    }
    out.push(b'"');
    Ok(())
}

fn write_int(int: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Result<()> {
    if let Ok(small) = int.extract::<i64>() {
        out.extend_from_slice(itoa::Buffer::new().format(small).as_bytes());
        return Ok(());
    }
    let digits = own_repr::<PyInt>(int)?;
    memory::claim(out, digits.len() + ROOM);
    out.extend_from_slice(digits.as_bytes());
    Ok(())
}

/// `T.__repr__(value)`: a subclass, an enum say, may have put its own in its place.
fn own_repr<T: pyo3::PyTypeInfo>(value: &Bound<'_, PyAny>) -> Result<String> {
    let py = value.py();
    let repr = PyType::new::<T>(py).call_method1("__repr__", (value,));
    match repr.and_then(|text| text.extract::<String>()) {
        Ok(text) => Ok(text),
        Err(error) if error.is_instance_of::<PyValueError>(py) => {
            refuse(error.value(py).to_string())
        }
        Err(error) => raised(py, error, "a number cannot be written"),
    }
}

fn write_text(text: &Bound<'_, PyString>, out: &mut Vec<u8>, bounds: Bounds) -> Result<()> {
    // A character takes a byte at least.
    let room = bounds.bytes.saturating_sub(out.len());
    if text.code_point_len().unwrap_or(0) > room {
        return Err(too_large(bounds.bytes).into());
    }
    python_str::write(text, out).or_else(|unwritten| match unwritten {
        Unwritten::LoneSurrogate => {
            refuse("the text holds a lone surrogate, which UTF-8 cannot hold: repair the text")
        }
        Unwritten::Raised(error) => raised(text.py(), error, "the text cannot be read"),
    })
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value
        .get_type()
        .name()
        .map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
