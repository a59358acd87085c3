//! Stored bytes <-> JSON bytes: the size cap, and the frames a stored value may be wrapped in.

use crate::error::{Error, Kind, Result};

/// First bytes of a zstd frame: RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// First bytes of an LZ4 frame: the LZ4 Frame Format Description, "Magic Number".
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];

/// Checks a value on its way in: its JSON against the cap of `max` bytes.
pub fn admit(json: &[u8], max: usize) -> Result<()> {
    if json.len() > max {
        let size = json.len();
        return Err(Error::new(
            Kind::Serialization,
            format!(
                "the value takes {size} bytes, redis_max_value_bytes allows {max}: store it in parts or raise the setting"
            ),
        ));
    }
    Ok(())
}

/// Checks a value on its way out, and hands its JSON bytes on.
pub fn open(stored: Vec<u8>, max: usize) -> Result<Vec<u8>> {
    if stored.len() > max {
        let size = stored.len();
        return Err(Error::new(
            Kind::Corrupt,
            format!(
                "the stored value takes {size} bytes, redis_max_value_bytes allows {max}: raise the setting to read it"
            ),
        ));
    }
    // No JSON text begins with these bytes, so a frame is never mistaken for one.
    if stored.starts_with(&ZSTD_MAGIC) || stored.starts_with(&LZ4_MAGIC) {
        return Err(Error::new(
            Kind::Corrupt,
            "the stored value is compressed, which this version does not read: write it again uncompressed",
        ));
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_the_cap_passes_and_one_byte_more_is_refused_both_ways() {
        assert!(admit(b"1234", 4).is_ok());
        assert_eq!(admit(b"12345", 4).unwrap_err().kind(), Kind::Serialization);
        assert_eq!(open(b"1234".to_vec(), 4).unwrap(), b"1234");
        assert_eq!(
            open(b"12345".to_vec(), 4).unwrap_err().kind(),
            Kind::Corrupt
        );
    }

    #[test]
    fn compressed_frames_are_recognised_not_taken_for_json() {
        for magic in [ZSTD_MAGIC, LZ4_MAGIC] {
            let error = open([&magic[..], b"rest"].concat(), 64).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }
}
