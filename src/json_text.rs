//! The bytes of a JSON string that need a second look: those to escape, and its end.

/// Bytes looked at together. The compiler turns a block into a few vector instructions.
const BLOCK: usize = 32;

/// Whether a byte cannot stand in a JSON string as it is: RFC 8259, section 7.
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// How many bytes from the start on can stand in a JSON string as they are.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    let mut done = 0;
    for block in bytes.chunks_exact(BLOCK) {
        let special = block
            .iter()
            .fold(false, |any, &byte| any | is_special(byte));
        if special {
            break;
        }
        done += BLOCK;
    }
    let rest = &bytes[done..];
    done + rest
        .iter()
        .position(|&byte| is_special(byte))
        .unwrap_or(rest.len())
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
                }
            }
        }
        assert_eq!(plain_prefix("é\u{7f}\u{2028}".as_bytes()), 6);
    }
}
