//! Finds where a JSON value ends, in text that arrives in parts. It trusts the text: what is wrong
//! inside a value is found by who reads the value.

use crate::json::plain_prefix;

/// How far into a value the text seen so far goes.
#[derive(Default)]
pub(super) struct Scan {
    depth: usize,
    in_string: bool,
    in_word: bool,
    escaped: bool,
    /// Bytes of the value that were looked at.
    seen: usize,
}

impl Scan {
    /// Looks at what came since the last call. `value` is the text from the value's first byte on;
    /// the length of the value once it is known.
    pub(super) fn end(&mut self, value: &[u8]) -> Option<usize> {
        while let Some(&byte) = value.get(self.seen) {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    self.seen += 1;
                    continue;
                }
                let plain = plain_prefix(&value[self.seen..]);
                self.seen += plain;
                let special = *value.get(self.seen)?;
                self.seen += 1;
                self.escaped = special == b'\\';
                self.in_string = special != b'"';
                if !self.in_string && self.depth == 0 {
                    return Some(self.seen);
                }
                continue;
            }
            match byte {
                b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t' if self.in_word => {
                    self.in_word = false;
                    if self.depth == 0 {
                        return Some(self.seen);
                    }
                    continue;
                }
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.seen + 1);
                    }
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => self.in_word = true,
            }
            self.seen += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_it_ends_however_it_arrives() {
        for (text, length) in [
            (r#"{"a": "}\"]", "b": [1, {}]}, "next""#, 27),
            (r#""\\", 1"#, 4),
            ("-12.5e3\n}", 7),
            ("null,", 4),
            ("[]}", 2),
        ] {
            let text = text.as_bytes();
            assert_eq!(Scan::default().end(text), Some(length));
            let mut scan = Scan::default();
            let ends: Vec<usize> = (0..=text.len())
                .filter_map(|to| scan.end(&text[..to]))
                .collect();
            assert_eq!(ends.first(), Some(&length));
        }
    }
}
