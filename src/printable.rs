//! Text as it may be shown: in a log line, an error's message.
//!
//! Ids, keys, file names and what a server answers are written by others. Control characters among
//! them would clear a terminal, or forge a line of a log; bidirectional ones would show a name as
//! another. The twin of `printable.py`, which spells the escapes alike.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with an escape in place of each character that is not printable: C0, DEL, C1, format
/// characters, separators other than the space, and what no character is. Applied twice it changes
/// nothing more.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        let number = u32::from(character);
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if is_printable(character) => shown.push(character),
            // Writing to a string does not fail.
            _ if number < 0x100 => drop(write!(shown, "\\x{number:02x}")),
            _ if number < 0x1_0000 => drop(write!(shown, "\\u{number:04x}")),
            _ => drop(write!(shown, "\\U{number:08x}")),
        }
    }
    Cow::Owned(shown)
}

/// The standard library knows: `Debug` escapes what is not printable. It escapes combining marks too
/// where they have nothing to combine with, so that they come after a letter here.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let mut pair = [0; 5];
    pair[0] = b'a';
    let end = 1 + character.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..end])
        .is_ok_and(|pair| pair.escape_debug().nth(1) == Some(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_stays_and_everything_else_is_an_escape() {
        for (text, shown) in [
            ("plain [x] 'y' \"z\" \\n", "plain [x] 'y' \"z\" \\n"),
            ("é 日本 e\u{301} 😀", "é 日本 e\u{301} 😀"),
            ("a\n\r\t\0", "a\\n\\r\\t\\x00"),
            (
                "\u{1b}[2J\u{7f}\u{9b}\u{a0}\u{ad}",
                "\\x1b[2J\\x7f\\x9b\\xa0\\xad",
            ),
            ("\u{202e}\u{2028}\u{feff}", "\\u202e\\u2028\\ufeff"),
            ("\u{e0041}", "\\U000e0041"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown);
        }
    }

    #[test]
    fn no_character_is_left_that_a_terminal_acts_on() {
        let characters: Vec<char> = ('\0'..=char::MAX).collect();
        for some in characters.chunks(1_000) {
            let text: String = some.iter().collect();
            let raw = printable(&text).chars().find(|shown| shown.is_control());
            assert_eq!(raw, None, "from {:?} on", some[0]);
        }
    }
}
