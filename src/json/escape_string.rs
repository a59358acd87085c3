//! Text, in whichever form it is kept, written as a JSON string: UTF-8, and what must be is escaped.

use wide::{i16x8, i32x8, u8x16};

use super::plain_text::{BLOCK, bits_of, filled_up, is_special, special};
use super::rewrite::SLACK;
use crate::memory;

/// Units for which there is made room at a time, however long what is written for them.
const PIECE: usize = 4096;
/// Bytes that a unit may take beyond its first: those of an escape.
const LONGEST: usize = 5;

/// The first half or the second half of a pair, without the other: no UTF-8 can hold it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoneSurrogate;

/// A form in which text is kept, unit by unit.
pub(crate) trait Form {
    /// What it is kept in.
    type Unit: Copy + From<u8>;
    /// A byte for each unit. One that is not written as that byte has one that [`marks`](Self::marks) marks.
    fn bytes(block: &[Self::Unit; BLOCK]) -> [u8; BLOCK];
    /// The same for what is less than a block; what is behind it is not looked at.
    fn last_bytes(units: &[Self::Unit]) -> [u8; BLOCK] {
        let mut block = [Self::Unit::from(b' '); BLOCK];
        block[..units.len()].copy_from_slice(units);
        Self::bytes(&block)
    }
    /// All ones for each byte that is not written as it is, or at least the highest bit.
    fn marks(bytes: u8x16) -> u8x16;
    /// The code point that a unit stands for.
    fn code_point(unit: Self::Unit) -> u32;
}

/// Bytes of UTF-8, each written as it is.
enum Utf8 {}

impl Form for Utf8 {
    type Unit = u8;

    fn bytes(block: &[u8; BLOCK]) -> [u8; BLOCK] {
        *block
    }

    fn last_bytes(bytes: &[u8]) -> [u8; BLOCK] {
        filled_up(bytes)
    }

    fn marks(bytes: u8x16) -> u8x16 {
        special(bytes)
    }

    /// Asked of ASCII alone, for it alone is escaped.
    fn code_point(unit: u8) -> u32 {
        u32::from(unit & 0x7f)
    }
}

/// Code points, each in as many bytes as the highest of them takes. A byte cannot hold all: those beyond become 0 or
/// 255, which are marked as control characters and as what is no ASCII.
macro_rules! code_points {
    ($($unit:ty: $bytes:expr),*) => {$(
        impl Form for $unit {
            type Unit = $unit;

            #[inline]
            fn bytes(block: &[$unit; BLOCK]) -> [u8; BLOCK] {
                $bytes(block)
            }

            #[inline]
            fn marks(bytes: u8x16) -> u8x16 {
                special(bytes) | bytes
            }

            fn code_point(unit: $unit) -> u32 {
                unit.into()
            }
        }
    )*};
}
code_points!(
    u8: |block: &[u8; BLOCK]| *block,
    u16: |block| narrowed(block, |units: &[u16; 8]| i16x8::new(units.map(u16::cast_signed))),
    u32: |block| narrowed(block, |units: &[u32; 8]| {
        i16x8::from_i32x8_saturate(i32x8::new(units.map(u32::cast_signed)))
    })
);

/// A byte for each unit, of which eight are a vector: the nearest to its signed value.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the block"
)]
#[inline(always)]
fn narrowed<U>(block: &[U; BLOCK], vector: impl Fn(&[U; 8]) -> i16x8) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let (halves, _) = bytes.as_chunks_mut::<16>();
    let (eights, _) = block.as_chunks::<8>();
    for (half, pair) in halves.iter_mut().zip(eights.as_chunks::<2>().0) {
        *half = u8x16::narrow_i16x8(vector(&pair[0]), vector(&pair[1])).to_array();
    }
    bytes
}

/// Appends UTF-8 text as a JSON string.
pub(crate) fn write_utf8(utf8: &[u8], out: &mut Vec<u8>) {
    let written = write_string::<Utf8>(utf8, out);
    debug_assert!(written.is_ok(), "UTF-8 has no surrogates");
}

/// Appends text as a JSON string; of text that UTF-8 cannot hold, a part.
pub(crate) fn write_string<F: Form>(
    mut text: &[F::Unit],
    out: &mut Vec<u8>,
) -> Result<(), LoneSurrogate> {
    memory::claim(
        out,
        text.len() + LONGEST * text.len().min(PIECE) + BLOCK + SLACK,
    );
    out.push(b'"');
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.len().min(PIECE));
        memory::claim(out, piece.len() + LONGEST * piece.len() + BLOCK + SLACK);
        write_piece::<F>(piece, out)?;
        text = rest;
    }
    out.push(b'"');
    Ok(())
}

/// Writes a part of a text, for which there is room.
fn write_piece<F: Form>(mut text: &[F::Unit], out: &mut Vec<u8>) -> Result<(), LoneSurrogate> {
    // Each block is written as it is and then looked at: most need no more than that.
    while let Some(block) = text.first_chunk() {
        write_block::<F>(text, F::bytes(block), BLOCK, out)?;
        text = &text[BLOCK..];
    }
    if text.is_empty() {
        return Ok(());
    }
    write_block::<F>(text, F::last_bytes(text), text.len(), out)
}

/// Writes the first units of a text, whose bytes are those of the block, as far as they count.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the block"
)]
#[inline(always)]
fn write_block<F: Form>(
    text: &[F::Unit],
    bytes: [u8; BLOCK],
    count: usize,
    out: &mut Vec<u8>,
) -> Result<(), LoneSurrogate> {
    let special = bits_of(&bytes, F::marks);
    let mut done = (special.trailing_zeros() as usize).min(count);
    out.extend_from_slice(&bytes);
    if done < BLOCK {
        out.truncate(out.len() - (BLOCK - done));
    }
    while done < count {
        if F::code_point(text[done]) < 0x80 {
            write_escape(bytes[done], out);
            done += 1;
        } else {
            done += write_wide::<F>(&text[done..count], out)?;
        }
        // What stands behind it is not looked at again, and copied from the text: the processor cannot read a
        // block out of two that it has just written.
        let plain = (special >> done).trailing_zeros() as usize;
        let plain = plain.min(count - done);
        match text[done..].first_chunk() {
            Some(block) => {
                out.extend_from_slice(&F::bytes(block));
                out.truncate(out.len() - (BLOCK - plain));
            }
            None => out.extend_from_slice(&bytes[done..][..plain]),
        }
        done += plain;
    }
    Ok(())
}

/// Writes the units that are no ASCII, and what stands between two of them, as spaces do; gives how
/// many it wrote.
fn write_wide<F: Form>(units: &[F::Unit], out: &mut Vec<u8>) -> Result<usize, LoneSurrogate> {
    let mut room = [0; 4 * BLOCK];
    let (mut length, mut done) = (0, 0);
    while let Some(&unit) = units.get(done) {
        let code = F::code_point(unit);
        if code < 0x80 {
            let next = units.get(done + 1).map_or(0, |&next| F::code_point(next));
            if next < 0x80 || u8::try_from(code).is_ok_and(is_special) {
                break;
            }
        }
        let (utf8, count) = utf8_of(code)?;
        room[length..length + 4].copy_from_slice(&utf8.to_le_bytes());
        length += count;
        done += 1;
    }
    out.extend_from_slice(&room[..length]);
    Ok(done)
}

/// The UTF-8 of a code point, lowest byte first, and how many bytes it has. Four are given whatever it
/// has, so that they are copied without a look at their number.
#[inline]
fn utf8_of(code: u32) -> Result<(u32, usize), LoneSurrogate> {
    let six = |shift: u32| code >> shift & 0x3f | 0x80;
    Ok(match code {
        ..0x80 => (code, 1),
        0x80..0x800 => (0xc0 | code >> 6 | six(0) << 8, 2),
        0xd800..0xe000 => return Err(LoneSurrogate),
        0x800..0x1_0000 => (0xe0 | code >> 12 | six(6) << 8 | six(0) << 16, 3),
        _ => (
            0xf0 | code >> 18 | six(12) << 8 | six(6) << 16 | six(0) << 24,
            4,
        ),
    })
}

fn write_escape(special: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match special {
        b'"' | b'\\' => special,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        control => {
            let digits = [
                HEX[usize::from(control >> 4)],
                HEX[usize::from(control & 15)],
            ];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length at which blocks begin or end.
    const LENGTHS: [usize; 10] = [0, 1, 7, 31, 32, 33, 63, 64, 65, 100];

    fn written<F: Form>(units: &[F::Unit]) -> Result<String, LoneSurrogate> {
        let mut out = b"before".to_vec();
        write_string::<F>(units, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// The JSON string of a text, a character at a time.
    fn expected(text: &str) -> String {
        let each = |character| match character {
            '"' | '\\' => format!("\\{character}"),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            '\u{8}' => "\\b".into(),
            '\u{c}' => "\\f".into(),
            '\0'..' ' => format!("\\u{:04x}", u32::from(character)),
            _ => character.into(),
        };
        let escaped: String = text.chars().map(each).collect();
        format!("before\"{escaped}\"")
    }

    /// Checks it in every form that can hold it.
    fn check(text: &str) {
        let codes: Vec<u32> = text.chars().map(u32::from).collect();
        let expected = Ok(expected(text));
        assert_eq!(written::<Utf8>(text.as_bytes()), expected);
        assert_eq!(written::<u32>(&codes), expected);
        let narrow: Result<Vec<u16>, _> = codes.iter().map(|&code| code.try_into()).collect();
        if let Ok(units) = narrow {
            assert_eq!(written::<u16>(&units), expected);
        }
        let narrow: Result<Vec<u8>, _> = codes.iter().map(|&code| code.try_into()).collect();
        if let Ok(units) = narrow {
            assert_eq!(written::<u8>(&units), expected);
        }
    }

    #[test]
    fn every_character_is_written_as_json_has_it_wherever_it_stands() {
        let boundaries = [
            0x7ff, 0x800, 0xd7ff, 0xe000, 0xfffd, 0xffff, 0x1_0000, 0x1_f600, 0x10_ffff,
        ];
        for character in (0..0x100).chain(boundaries).filter_map(char::from_u32) {
            for length in LENGTHS {
                let (plain, wide) = ("a".repeat(length), "é".repeat(length));
                check(&format!("{plain}{character}{character}{wide}{character}"));
                check(&format!("{wide}{character}{plain}"));
            }
        }
    }

    #[test]
    fn every_code_point_is_written_as_rust_writes_it() {
        let characters: Vec<char> = (char::MIN..=char::MAX).collect();
        for some in characters.chunks(1_000) {
            let units: Vec<u32> = some.iter().copied().map(u32::from).collect();
            let text: String = some.iter().collect();
            assert_eq!(written::<u32>(&units), Ok(expected(&text)));
        }
    }

    #[test]
    fn a_lone_surrogate_is_refused_wherever_it_stands() {
        for surrogate in [0xd800, 0xdbff, 0xdc00, 0xdfff] {
            for length in LENGTHS {
                let mut units = vec![u16::from(b'a'); length];
                units.push(surrogate);
                units.extend([0xe9; 40]);
                assert_eq!(written::<u16>(&units), Err(LoneSurrogate));
                let units: Vec<u32> = units.into_iter().map(u32::from).collect();
                assert_eq!(written::<u32>(&units), Err(LoneSurrogate));
            }
        }
    }
}
