//! JSON strings -> code points of one width, which is how CPython keeps a string: first measured, then written.

use std::mem::MaybeUninit;

use wide::u8x16;

use super::cursor::{Cursor, Result, Unescaped, short_escape};
use super::plain_text::{BLOCK, bits_of, filled_up, special_in_block};

/// The widths. A string is kept in the first one that all its code points fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// A byte, the same as in UTF-8.
    Ascii,
    /// A byte.
    Latin1,
    /// Two bytes.
    Bmp,
    /// Four bytes.
    Any,
}

/// What the text of a JSON string takes. Whether it is UTF-8 is seen when it is written.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    /// Code points.
    pub(crate) count: usize,
    /// Not 0 if there is a character beyond ASCII; the same of U+00FF and of U+FFFF.
    beyond_ascii: u64,
    beyond_latin1: u64,
    beyond_bmp: u64,
}

impl Measure {
    /// Reads a string from its opening quote on, and counts all of it. False if it holds a lone surrogate.
    pub(crate) fn add_string(&mut self, cursor: &mut Cursor<'_>) -> Result<bool> {
        let start = cursor.at + 1;
        cursor.at = start + self.add_plain(&cursor.json[start..]);
        cursor.unescape(self)
    }

    pub(crate) fn width(&self) -> Width {
        match (self.beyond_ascii, self.beyond_latin1, self.beyond_bmp) {
            (0, 0, 0) => Width::Ascii,
            (_, 0, 0) => Width::Latin1,
            (_, _, 0) => Width::Bmp,
            _ => Width::Any,
        }
    }

    /// Counts the characters that begin in the first bytes of a block.
    #[inline]
    fn add_bytes(&mut self, block: &[u8; BLOCK], length: usize) {
        let known = (1 << length) - 1;
        let beyond_ascii = bits_of(block, |bytes| bytes) & known;
        self.count += length;
        if beyond_ascii == 0 {
            return;
        }
        let follows = |bytes: u8x16| (bytes & u8x16::splat(0xc0)).simd_eq(u8x16::splat(0x80));
        let from = |first| move |bytes: u8x16| bytes.simd_ge(u8x16::splat(first));
        self.count -= (bits_of(block, follows) & known).count_ones() as usize;
        self.beyond_ascii |= beyond_ascii;
        self.beyond_latin1 |= bits_of(block, from(0xc4)) & known;
        self.beyond_bmp |= bits_of(block, from(0xf0)) & known;
    }

    /// Counts a block up to where the string ends or what is not counted here; gives how many bytes, and whether
    /// that is the whole block.
    #[inline]
    fn add_block(&mut self, block: &[u8; BLOCK], bytes: &[u8]) -> (usize, bool) {
        let mut special = special_in_block(block);
        let mut escapes = 0;
        let (length, is_whole) = loop {
            let at = special.trailing_zeros() as usize;
            if at == BLOCK {
                break (BLOCK, true);
            }
            match bytes[at..] {
                [b'\\', escape, ..] if short_escape(escape).is_some() => escapes += 1,
                _ => break (at, false),
            }
            if at + 1 == BLOCK {
                break (BLOCK + 1, true);
            }
            special &= !(0b11 << at);
        };
        self.add_bytes(block, length.min(BLOCK));
        self.count += length.saturating_sub(BLOCK);
        self.count -= escapes;
        (length, is_whole)
    }
}

/// An escape of two characters counts as plain text.
impl Unescaped for Measure {
    fn add_plain(&mut self, bytes: &[u8]) -> usize {
        let mut start = 0;
        while start < bytes.len() {
            let rest = &bytes[start..];
            let (length, is_whole) = match rest.first_chunk() {
                Some(block) => self.add_block(block, rest),
                None => self.add_block(&filled_up(rest), rest),
            };
            start += length;
            if !is_whole {
                break;
            }
        }
        start.min(bytes.len())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.add_bytes(&filled_up(bytes), bytes.len());
    }
}

/// What a code point is kept in.
pub(crate) trait Unit: Copy {
    /// That of a code point that fits.
    fn of(code_point: u32) -> Self;
    /// That of a byte, as if the byte were a code point.
    fn of_byte(byte: u8) -> Self;
}

macro_rules! units {
    ($($unit:ty),*) => {$(
        impl Unit for $unit {
            #[allow(clippy::cast_possible_truncation, reason = "the code point fits")]
            fn of(code_point: u32) -> Self {
                code_point as $unit
            }

            fn of_byte(byte: u8) -> Self {
                byte.into()
            }
        }
    )*};
}
units!(u8, u16, u32);

/// Memory that holds nothing yet.
impl<U: Unit> Unit for MaybeUninit<U> {
    fn of(code_point: u32) -> Self {
        Self::new(U::of(code_point))
    }

    fn of_byte(byte: u8) -> Self {
        Self::new(U::of_byte(byte))
    }
}

/// Writes as many code points of a JSON string as there is room for; gives the bytes read, or nothing if they are no
/// UTF-8. The string goes on to its closing quote, and the text behind it. Whatever it is, all the room is written.
pub(crate) fn write_code_points<U: Unit>(json: &[u8], room: &mut [U]) -> Option<usize> {
    let (mut read, mut written) = (0, 0);
    while written < room.len() {
        if let Some(block) = json[read..].first_chunk() {
            let plain = write_plain(block, &mut room[written..]);
            read += plain;
            written += plain;
            if plain == BLOCK {
                continue;
            }
        }
        for unit in &mut room[written..] {
            let Some((code_point, length)) = first_code_point(&json[read..]) else {
                room[written..].fill(U::of_byte(0));
                return None;
            };
            *unit = U::of(code_point);
            read += length;
            written += 1;
            // One that stands alone between two others is not worth a block.
            if let [next, after, ..] = json[read..]
                && is_plain(next)
                && is_plain(after)
                && json.len() - read >= BLOCK
            {
                break;
            }
        }
    }
    Some(read)
}

/// Whether a byte of a JSON string is a code point by itself.
fn is_plain(byte: u8) -> bool {
    byte < 0x80 && byte != b'\\'
}

/// Writes what is plain at the start of a block, as far as there is room; gives how much.
#[inline]
fn write_plain<U: Unit>(block: &[u8; BLOCK], room: &mut [U]) -> usize {
    let plain = bits_of(block, |bytes| bytes | bytes.simd_eq(u8x16::splat(b'\\'))).trailing_zeros()
        as usize;
    if let Some(units) = room.first_chunk_mut() {
        // The whole block: what is behind the plain ones is written over.
        write_bytes(block, units);
        return plain;
    }
    let plain = plain.min(room.len());
    let mut units = [U::of_byte(0); BLOCK];
    write_bytes(block, &mut units);
    room[..plain].copy_from_slice(&units[..plain]);
    plain
}

#[inline]
fn write_bytes<U: Unit>(block: &[u8; BLOCK], units: &mut [U; BLOCK]) {
    for (unit, &byte) in units.iter_mut().zip(block) {
        *unit = U::of_byte(byte);
    }
}

/// The code point that bytes of a JSON string begin with, and how many of them it takes. The well-formed sequences are
/// those of the Unicode Standard, table 3-7.
fn first_code_point(bytes: &[u8]) -> Option<(u32, usize)> {
    let joined = |first: u8, others: &[u8]| {
        others.iter().fold(u32::from(first), |code, other| {
            code << 6 | u32::from(other & 0x3f)
        })
    };
    Some(match *bytes {
        [b'\\', b'u', ..] => {
            let mut cursor = Cursor { json: bytes, at: 2 };
            let character = cursor.unicode_escape().ok()??;
            (character.into(), cursor.at)
        }
        [b'\\', escape, ..] => (short_escape(escape)?.into(), 2),
        [byte @ ..0x80, ..] => (byte.into(), 1),
        [a @ 0xc2..=0xdf, b @ 0x80..=0xbf, ..] => (joined(a & 0x1f, &[b]), 2),
        [0xe0, b @ 0xa0..=0xbf, c @ 0x80..=0xbf, ..] => (joined(0, &[b, c]), 3),
        [
            a @ (0xe1..=0xec | 0xee..=0xef),
            b @ 0x80..=0xbf,
            c @ 0x80..=0xbf,
            ..,
        ] => (joined(a & 0xf, &[b, c]), 3),
        [0xed, b @ 0x80..=0x9f, c @ 0x80..=0xbf, ..] => (joined(0xd, &[b, c]), 3),
        [0xf0, b @ 0x90..=0xbf, c @ 0x80..=0xbf, d @ 0x80..=0xbf, ..] => (joined(0, &[b, c, d]), 4),
        [
            a @ 0xf1..=0xf3,
            b @ 0x80..=0xbf,
            c @ 0x80..=0xbf,
            d @ 0x80..=0xbf,
            ..,
        ] => (joined(a & 7, &[b, c, d]), 4),
        [0xf4, b @ 0x80..=0x8f, c @ 0x80..=0xbf, d @ 0x80..=0xbf, ..] => (joined(4, &[b, c, d]), 4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a JSON string says, by way of this module.
    fn written(json: &str) -> Option<(Width, Vec<u32>)> {
        let mut cursor = Cursor {
            json: json.as_bytes(),
            at: 0,
        };
        let mut measure = Measure::default();
        let whole = measure.add_string(&mut cursor).unwrap();
        let length = cursor.at - 2;
        whole.then(|| {
            let units = match measure.width() {
                Width::Ascii | Width::Latin1 => {
                    units::<u8>(&json.as_bytes()[1..], length, measure.count)
                }
                Width::Bmp => units::<u16>(&json.as_bytes()[1..], length, measure.count),
                Width::Any => units::<u32>(&json.as_bytes()[1..], length, measure.count),
            };
            (measure.width(), units)
        })
    }

    fn units<U: Unit + Into<u32>>(json: &[u8], length: usize, count: usize) -> Vec<u32> {
        let mut units = vec![U::of_byte(b'?'); count];
        assert_eq!(write_code_points(json, &mut units), Some(length));
        units.into_iter().map(Into::into).collect()
    }

    /// The text, written as JSON in the way given, comes back as it was, whatever follows it.
    fn comes_back(text: &str, json: &str) {
        let code_points: Vec<u32> = text.chars().map(u32::from).collect();
        let width = match code_points.iter().max().copied().unwrap_or(0) {
            ..0x80 => Width::Ascii,
            0x80..0x100 => Width::Latin1,
            0x100..0x1_0000 => Width::Bmp,
            0x1_0000.. => Width::Any,
        };
        for behind in ["", ",\"語\"]", &" ".repeat(BLOCK), &"é".repeat(BLOCK)] {
            let found = written(&format!("\"{json}\"{behind}"));
            assert_eq!(
                found,
                Some((width, code_points.clone())),
                "{json:?} {behind:?}"
            );
        }
    }

    #[test]
    fn a_character_of_each_kind_is_written_wherever_it_stands() {
        let edges = [
            ("a", "a"),
            ("\u{7f}", "\u{7f}"),
            ("\u{80}", "\u{80}"),
            ("\u{ff}", "\u{ff}"),
            ("\u{100}", "\u{100}"),
            ("\u{7ff}", "\u{7ff}"),
            ("\u{800}", "\u{800}"),
            ("\u{d7ff}", "\u{d7ff}"),
            ("\u{e000}", "\u{e000}"),
            ("\u{ffff}", "\u{ffff}"),
            ("\u{10000}", "\u{10000}"),
            ("\u{40000}", "\u{40000}"),
            ("\u{10ffff}", "\u{10ffff}"),
            ("\n", "\\n"),
            ("\"", "\\\""),
            ("\\", "\\\\"),
            ("/", "\\/"),
            ("\0", "\\u0000"),
            ("é", "\\u00E9"),
            ("語", "\\u8a9e"),
            ("😀", "\\ud83d\\ude00"),
        ];
        for length in 0..2 * BLOCK + 2 {
            for (edge, json) in edges {
                comes_back(&edge.repeat(length), &json.repeat(length));
                for at in 0..=length {
                    let (before, after) = ("b".repeat(at), "c".repeat(length - at));
                    comes_back(
                        &format!("{before}{edge}{after}"),
                        &format!("{before}{json}{after}"),
                    );
                    comes_back(
                        &format!("{before}{edge}-é{edge}{after}"),
                        &format!("{before}{json}-é{json}{after}"),
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_utf_8_is_told_and_all_the_room_written() {
        let bad: [&[u8]; 14] = [
            b"\x80",
            b"\xbf",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xc3",
            b"\xc3(",
            b"\xe0\x9f\x80",
            b"\xe2\x82",
            b"\xed\xa0\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xff",
            b"\xe2\x28\xa1",
        ];
        for sequence in bad {
            for before in 0..BLOCK + 2 {
                for after in [0, 1, 2, BLOCK] {
                    let text = [&b"a".repeat(before)[..], sequence, &b"z".repeat(after)].concat();
                    let json =
                        [b"\"", &text[..], b"\" and what follows, as long as a block"].concat();
                    let mut cursor = Cursor { json: &json, at: 0 };
                    let mut measure = Measure::default();
                    measure.add_string(&mut cursor).unwrap();
                    let mut room = vec![u32::MAX; measure.count];
                    let read = write_code_points(&json[1..], &mut room);
                    assert_ne!(read, Some(text.len()), "{text:x?}");
                    assert!(!room.contains(&u32::MAX), "{text:x?}");
                }
            }
        }
    }
}
