//! JSON text: its grammar, how strings and numbers are written, and documents written anew.

pub(crate) mod cursor;
mod number;
mod rewrite;

pub(crate) use number::write_float;
pub(crate) use rewrite::{Layout, rewrite};

/// Bytes looked at together. The compiler turns a block into a few vector instructions.
const BLOCK: usize = 32;

/// How many bytes from the start on can stand in a JSON string as they are.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        let plain = plain_in_block(block);
        if plain < BLOCK {
            return index * BLOCK + plain;
        }
    }
    blocks.len() * BLOCK + plain_in_block(&filled_up(rest)).min(rest.len())
}

/// The bytes that stand before the first special one: RFC 8259, section 7.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the look at it"
)]
#[inline(always)]
fn plain_in_block(block: &[u8; BLOCK]) -> usize {
    // Whole bytes rather than truth values, and no early end: that is what vectors can do.
    let mut marks = [0; BLOCK];
    for (mark, &byte) in marks.iter_mut().zip(block) {
        let of = |special: bool| if special { u8::MAX } else { 0 };
        *mark = of(byte < 0x20) | of(byte == b'"') | of(byte == b'\\');
    }
    if marks.iter().fold(0, |all, mark| all | mark) == 0 {
        return BLOCK;
    }
    // A bit for each byte, and so no branch on where it stands, which nobody can foretell.
    let mut bits = 0;
    for word in marks.as_chunks::<8>().0.iter().rev() {
        bits = bits << 8 | gathered(u64::from_le_bytes(*word));
    }
    bits.trailing_zeros() as usize
}

/// The bits of bytes that are all ones or all zeros, those of the first byte lowest.
#[inline]
fn gathered(bytes: u64) -> u64 {
    // Byte n keeps its bit n; the product's highest byte is the sum of all bytes.
    (bytes & 0x8040_2010_0804_0201).wrapping_mul(0x0101_0101_0101_0101) >> 56
}

/// A block that begins with these fewer bytes.
fn filled_up(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

/// Appends the [`plain_prefix`] of the bytes; gives its length.
pub(crate) fn copy_plain(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut rest = bytes;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
        let plain = plain_in_block(block);
        out.extend_from_slice(block);
        if plain < BLOCK {
            out.truncate(out.len() - (BLOCK - plain));
            return bytes.len() - rest.len() + plain;
        }
        rest = after;
    }
    let plain = plain_in_block(&filled_up(rest)).min(rest.len());
    out.extend_from_slice(&rest[..plain]);
    bytes.len() - rest.len() + plain
}

/// Appends UTF-8 text as a JSON string.
pub(crate) fn write_utf8(mut utf8: &[u8], out: &mut Vec<u8>) {
    out.reserve(utf8.len() + BLOCK + 2);
    out.push(b'"');
    // Each block is written as it is and then looked at: most need no more than that.
    while let Some((block, rest)) = utf8.split_first_chunk::<BLOCK>() {
        out.extend_from_slice(block);
        let plain = plain_in_block(block);
        if plain == BLOCK {
            utf8 = rest;
        } else {
            out.truncate(out.len() - (BLOCK - plain));
            write_escape(block[plain], out);
            utf8 = &utf8[plain + 1..];
        }
    }
    while !utf8.is_empty() {
        let block = filled_up(utf8);
        let plain = plain_in_block(&block);
        out.extend_from_slice(&block);
        if plain >= utf8.len() {
            out.truncate(out.len() - (BLOCK - utf8.len()));
            break;
        }
        out.truncate(out.len() - (BLOCK - plain));
        write_escape(block[plain], out);
        utf8 = &utf8[plain + 1..];
    }
    out.push(b'"');
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

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for length in 0..100 {
            let plain = vec![b'a'; length];
            assert_eq!(plain_prefix(&plain), length);
            for special in [0, b'\n', 0x1f, b'"', b'\\'] {
                for position in 0..length {
                    let mut bytes = plain.clone();
                    bytes[position] = special;
                    assert_eq!(plain_prefix(&bytes), position);
                    let mut copied = b"before".to_vec();
                    assert_eq!(copy_plain(&bytes, &mut copied), position);
                    assert_eq!(copied, [b"before", &bytes[..position]].concat());
                }
            }
        }
        assert_eq!(plain_prefix("é\u{7f}\u{2028}".as_bytes()), 6);
    }

    #[test]
    fn every_character_is_written_as_json_has_it_wherever_it_stands() {
        let written = |text: &str| {
            let mut out = b"before".to_vec();
            write_utf8(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        for length in [0, 1, 7, 31, 32, 33, 63, 64, 65, 100] {
            let (before, after) = ("a".repeat(length), "é".repeat(length));
            for character in (0..0x100).filter_map(char::from_u32) {
                let expected = match character {
                    '"' | '\\' => format!("\\{character}"),
                    '\n' => "\\n".into(),
                    '\r' => "\\r".into(),
                    '\t' => "\\t".into(),
                    '\u{8}' => "\\b".into(),
                    '\u{c}' => "\\f".into(),
                    '\0'..' ' => format!("\\u{:04x}", u32::from(character)),
                    _ => character.into(),
                };
                assert_eq!(
                    written(&format!("{before}{character}{character}{after}{character}")),
                    format!("before\"{before}{expected}{expected}{after}{expected}\""),
                );
            }
        }
    }
}
