//! JSON bytes -> a dict of the top-level fields that were asked for.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};

use super::decode::Parser;
use super::failure::{Failure, Result};

/// What a document is to one who asks for fields of it.
pub(crate) enum Projected<'py> {
    /// Of a dict that holds something: what was asked for.
    Chosen(Bound<'py, PyDict>),
    /// Any other value, whole.
    Other(Bound<'py, PyAny>),
}

/// The fields of one JSON document for whose names `asked` says yes.
///
/// The others are read over: no objects are made of them, yet what [`decode`](super::decode)
/// refuses is refused here too. `asked` hears each name once, in the order in which a dict has
/// them, when the whole text is known to be JSON.
pub(crate) fn decode_fields<'py>(
    py: Python<'py>,
    json: &[u8],
    asked: impl Fn(&Bound<'py, PyAny>) -> PyResult<bool>,
) -> Result<Projected<'py>> {
    let mut parser = Parser::new(py, json);
    if parser.cursor.next_token() != Some(b'{') {
        return super::decode(py, json).map(Projected::Other);
    }
    // Strings that are read over are not looked at as UTF-8 one by one.
    if let Err(error) = std::str::from_utf8(json) {
        return Ok(parser.cursor.corrupt(&error.to_string())?);
    }
    let places = places(&mut parser)?;
    if places.is_empty() {
        return Ok(Projected::Other(places.into_any()));
    }
    let chosen = PyDict::new(py);
    for (name, place) in places.iter().collect::<Vec<_>>() {
        if asked(&name).map_err(Failure::Raised)? {
            parser.cursor.at = place.extract().map_err(Failure::Raised)?;
            let value = parser.value(1)?;
            chosen.set_item(name, value).map_err(Failure::Raised)?;
        }
    }
    Ok(Projected::Chosen(chosen))
}

/// Where the value of each name begins. A dict, for then a name that occurs twice has its first
/// place in the order and its last value, as `json.loads` has it.
fn places<'py>(parser: &mut Parser<'py, '_>) -> Result<Bound<'py, PyDict>> {
    let py = parser.py;
    let places = PyDict::new(py);
    let (depth, mut ended) = parser.cursor.enter(0, b'}')?;
    while !ended {
        let name = parser.key()?;
        let place = PyInt::new(py, parser.cursor.at);
        places.set_item(name, place).map_err(Failure::Raised)?;
        parser.skip(depth)?;
        ended = parser.cursor.ends(b'}')?;
    }
    parser.cursor.end()?;
    Ok(places)
}
