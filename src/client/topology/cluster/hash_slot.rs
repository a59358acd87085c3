//! Which of the 16,384 slots a command belongs to.
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>

/// Slots in a cluster.
pub(super) const SLOTS: u16 = 16384;

/// The slot of a key: the CRC16 of it, or of its hash tag.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let crc = tag(key).iter().fold(0, |crc: u16, &byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) ^ u16::from(byte))]
    });
    crc % SLOTS
}

/// What stands between the first `{` and the first `}` after it, if that is something.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

/// The key of a command of ours; None for one that is on no key.
pub(super) fn key_of<'word>(words: &[&'word [u8]]) -> Option<&'word [u8]> {
    match words.first().copied()? {
        b"MEMORY" => words.get(2).copied(),
        b"EVAL" | b"EVALSHA" => words.get(3).copied(),
        b"PING" | b"INFO" | b"SCAN" | b"CONFIG" | b"CLIENT" | b"CLUSTER" | b"ACL" => None,
        _ => words.get(1).copied(),
    }
}

/// CRC16/XMODEM of each byte.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b""), 0);
        let same = |one: &str, other: &str| slot_of(one.as_bytes()) == slot_of(other.as_bytes());
        assert!(same("{user1000}.following", "user1000"));
        assert!(same("foo{}{bar}", "foo{}{bar}"));
        assert_eq!(tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn a_command_says_where_its_key_is() {
        assert_eq!(key_of(&[b"SET", b"k", b"v"]), Some(&b"k"[..]));
        assert_eq!(key_of(&[b"MEMORY", b"USAGE", b"k"]), Some(&b"k"[..]));
        let script: [&[u8]; 5] = [b"EVALSHA", b"sha", b"1", b"k", b"argument"];
        assert_eq!(key_of(&script), Some(&b"k"[..]));
        assert_eq!(key_of(&[b"SCAN", b"0"]), None);
        assert_eq!(key_of(&[]), None);
    }
}
