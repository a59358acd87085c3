//! How much of a text can stand in a JSON string as it is, and which bytes are to be escaped.

use wide::u8x16;

/// Bytes looked at together, as two vectors, which all 64-bit processors have.
pub(super) const BLOCK: usize = 32;

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

/// How many bytes of a JSON string from the start on are plain text or escapes that are skipped: the `skipped` ones, known
/// by their second character. What follows is the closing quote, another escape, or no string.
pub(crate) fn escaped_prefix(bytes: &[u8], skipped: impl Fn(u8) -> bool) -> usize {
    let mut start = 0;
    loop {
        let rest = &bytes[start..];
        let bits = match rest.first_chunk() {
            Some(block) => special_in_block(block),
            None => special_in_block(&filled_up(rest)),
        };
        match next_block(rest, bits, &skipped) {
            Ok(length) if start + length < bytes.len() => start += length,
            Ok(_) => return bytes.len(),
            Err(length) => return start + length,
        }
    }
}

/// Where the next block begins, an escape behind the end of this one, or what ends in this one.
#[inline]
fn next_block(
    bytes: &[u8],
    mut special: u64,
    skipped: impl Fn(u8) -> bool,
) -> Result<usize, usize> {
    loop {
        let at = special.trailing_zeros() as usize;
        if at == BLOCK {
            return Ok(BLOCK);
        }
        match bytes[at..] {
            [b'\\', escape, ..] if skipped(escape) && at + 1 == BLOCK => return Ok(BLOCK + 1),
            [b'\\', escape, ..] if skipped(escape) => special &= !(0b11 << at),
            _ => return Err(at),
        }
    }
}

/// The bytes that stand before the first special one.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the look at it"
)]
#[inline(always)]
pub(super) fn plain_in_block(block: &[u8; BLOCK]) -> usize {
    special_in_block(block).trailing_zeros() as usize
}

/// A bit for each special byte, the first byte's lowest, and one more for the end of the block.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the look at it"
)]
#[inline(always)]
pub(super) fn special_in_block(block: &[u8; BLOCK]) -> u64 {
    bits_of(block, special)
}

/// All ones for each special byte.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the look at it"
)]
#[inline(always)]
pub(super) fn special(bytes: u8x16) -> u8x16 {
    bytes.simd_lt(u8x16::splat(0x20))
        | bytes.simd_eq(u8x16::splat(b'"'))
        | bytes.simd_eq(u8x16::splat(b'\\'))
}

/// The highest bit of what each byte is made, the first byte's lowest, and one more for the end of the block.
#[expect(
    clippy::inline_always,
    reason = "a call for each block costs as much as the look at it"
)]
#[inline(always)]
pub(super) fn bits_of(block: &[u8; BLOCK], made: impl Fn(u8x16) -> u8x16) -> u64 {
    let halves = block.as_chunks().0.iter().rev();
    halves.fold(1, |bits, half| {
        bits << 16 | u64::from(made(u8x16::new(*half)).to_bitmask())
    })
}

/// A block that begins with these fewer bytes, and zeros behind them. It is put together of parts that overlap, in
/// registers: the processor cannot read a block out of bytes that it has just written.
#[inline]
pub(super) fn filled_up(bytes: &[u8]) -> [u8; BLOCK] {
    /// The first so many bytes, and the last, moved to where they stand.
    macro_rules! joined {
        ($part:ty, $whole:ty) => {{
            const SIZE: usize = size_of::<$part>();
            let first = bytes.first_chunk::<SIZE>().copied().unwrap_or_default();
            let last = bytes.last_chunk::<SIZE>().copied().unwrap_or_default();
            let last = <$whole>::from(<$part>::from_le_bytes(last)) << (8 * (bytes.len() - SIZE));
            last | <$whole>::from(<$part>::from_le_bytes(first))
        }};
    }
    let (low, high): (u128, u128) = match bytes.len() {
        0 => (0, 0),
        1 => (bytes[0].into(), 0),
        2..4 => (joined!(u16, u32).into(), 0),
        4..8 => (joined!(u32, u64).into(), 0),
        8..=16 => (joined!(u64, u128), 0),
        length => {
            let first = bytes.first_chunk().copied().unwrap_or_default();
            let last = bytes.last_chunk().copied().unwrap_or_default();
            (
                u128::from_le_bytes(first),
                u128::from_le_bytes(last) >> (8 * (BLOCK - length)),
            )
        }
    };
    let mut block = [0; BLOCK];
    block[..BLOCK / 2].copy_from_slice(&low.to_le_bytes());
    block[BLOCK / 2..].copy_from_slice(&high.to_le_bytes());
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

/// Whether a byte of UTF-8 is to be escaped in a JSON string: RFC 8259, section 7.
#[inline]
pub(super) fn is_special(byte: u8) -> bool {
    matches!(byte, ..0x20 | b'"' | b'\\')
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
    fn escapes_are_skipped_wherever_they_stand() {
        let skipped = |escape| escape != b'u';
        let ends: [&[u8]; 6] = [b"", b"\"", b"\\", b"\\u", b"\n", b"\"\\\""];
        for before in 0..70 {
            for escapes in 0..70 {
                for end in ends {
                    let text = [
                        &b"a".repeat(before),
                        &b"\\\\\\\"\\n"[..],
                        &b"\\n".repeat(escapes),
                    ]
                    .concat();
                    let bytes = [&text, end].concat();
                    assert_eq!(escaped_prefix(&bytes, skipped), text.len());
                    assert_eq!(escaped_prefix(&bytes, |_| false), before);
                }
            }
        }
    }
}
