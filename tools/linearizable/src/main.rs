//! Whether what was told of registers can have happened one operation after the other.
//!
//! Each line of stdin is an operation of one register: its name, when it was called, when it
//! answered, and what it was. A `-` for the answer's time says that the outcome is unknown: it may
//! take effect at any later time, or never. A `-` for a value says that there was none.
//!
//! ```text
//! a 10 20 write 1
//! a 15 - write 2
//! a 30 40 read 2
//! a 50 60 delete true
//! ```
//!
//! Each register that contradicts itself is a line of stdout: its name, and when the first answer
//! came that cannot be explained.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, read_to_string, stdin};

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::Action::{Call, Response};
use todc_utils::linearizability::history::History;
use todc_utils::specifications::Specification;

#[derive(Clone, Debug)]
enum Operation {
    Write(u64),
    Read(Option<u64>),
    /// What it said was there before it, if it said anything.
    Delete(Option<bool>),
}

struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = Operation;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Operation, state: &Self::State) -> (bool, Self::State) {
        match operation {
            Operation::Write(value) => (true, Some(*value)),
            Operation::Read(value) => (value == state, *state),
            Operation::Delete(Some(found)) if *found != state.is_some() => (false, *state),
            Operation::Delete(_) => (true, None),
        }
    }
}

struct Told {
    called: u64,
    answered: Option<u64>,
    operation: Operation,
}

fn parsed(line: &str) -> Option<(&str, Told)> {
    let words: Vec<_> = line.split(' ').collect();
    let &[name, called, answered, kind, value] = words.as_slice() else {
        return None;
    };
    let operation = match (kind, value) {
        ("write", value) => Operation::Write(value.parse().ok()?),
        ("read", "-") => Operation::Read(None),
        ("read", value) => Operation::Read(Some(value.parse().ok()?)),
        ("delete", "-") => Operation::Delete(None),
        ("delete", value) => Operation::Delete(Some(value.parse().ok()?)),
        _ => return None,
    };
    let answered = match answered {
        "-" => None,
        time => Some(time.parse().ok()?),
    };
    let called = called.parse().ok()?;
    #[rustfmt::skip]
    let told = Told { called, answered, operation };
    Some((name, told))
}

/// Whether the operations that had been called by `until` can be explained.
///
/// One that had not answered by then is unknown. What is unknown is answered after everything
/// else: at that place in the order, it changes nothing that anybody has seen.
fn can_be(operations: &[Told], until: u64) -> bool {
    let mut actions = Vec::new();
    for (number, told) in operations.iter().enumerate() {
        let answered = told.answered.filter(|answered| *answered <= until);
        let operation = match (&told.operation, answered) {
            _ if told.called > until => continue,
            (Operation::Read(_), None) => continue,
            (Operation::Delete(_), None) => Operation::Delete(None),
            (operation, _) => operation.clone(),
        };
        // Of equal times a call comes first: the two are at once.
        actions.push(((told.called, false), (number, Call(operation.clone()))));
        let end = (answered.unwrap_or(u64::MAX), true);
        actions.push((end, (number, Response(operation))));
    }
    actions.sort_by_key(|(time, _)| *time);
    actions.is_empty()
        || WGLChecker::<Register>::is_linearizable(History::from_actions(
            actions.into_iter().map(|(_, action)| action).collect(),
        ))
}

fn main() -> Result<(), Error> {
    let text = read_to_string(stdin())?;
    let mut registers = BTreeMap::<&str, Vec<Told>>::new();
    for line in text.lines() {
        let (name, told) = parsed(line)
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("no operation: {line:?}")))?;
        registers.entry(name).or_default().push(told);
    }
    for (name, operations) in registers {
        if can_be(&operations, u64::MAX) {
            continue;
        }
        let mut times: Vec<_> = operations.iter().filter_map(|told| told.answered).collect();
        times.sort_unstable();
        let explained = times.partition_point(|time| can_be(&operations, *time));
        println!("{name} {}", times[explained]);
    }
    Ok(())
}
