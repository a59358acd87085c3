//! How large a value may be: checked on its way in, and on its way out, whatever a frame would unfold to.

use bytes::Bytes;

use super::compression::aside;
use super::frame_errors::Unreadable;
use super::{lz4, zstd};
use crate::error::{Error, Kind, Result};

/// Checks a value on its way in: its JSON against the cap of `max` bytes.
pub fn admit(json: &[u8], max: usize) -> Result<()> {
    if json.len() > max {
        return Err(too_large(max));
    }
    Ok(())
}

/// Why a value is not taken, of which nobody needs to know how large it is.
#[must_use]
pub fn too_large(max: usize) -> Error {
    let message = format!(
        "the value takes more than the {max} bytes that redis_max_value_bytes allows: store it in parts or raise the setting"
    );
    Error::new(Kind::Serialization, message)
}

/// Checks a value on its way out, and hands its JSON bytes on: at most `max` of them, whatever a
/// frame would unfold to.
pub fn open(stored: Bytes, max: usize) -> Result<Bytes> {
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
    let decompress = if stored.starts_with(&zstd::MAGIC) {
        zstd::decompress
    } else if stored.starts_with(&lz4::MAGIC) {
        lz4::decompress
    } else {
        return Ok(stored);
    };
    let unfolded = aside(stored.len(), || decompress(&stored, max));
    unfolded.map(Bytes::from).map_err(|why| match why {
        Unreadable::NoMemory => Error::new(Kind::Memory, why.message(max)),
        _ => Error::new(Kind::Corrupt, why.message(max)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::value::Compression;

    #[test]
    fn a_value_at_the_cap_passes_and_one_byte_more_is_refused_both_ways() {
        assert!(admit(b"1234", 4).is_ok());
        assert_eq!(admit(b"12345", 4).unwrap_err().kind(), Kind::Serialization);
        assert_eq!(open(Bytes::from_static(b"1234"), 4).unwrap(), &b"1234"[..]);
        assert_eq!(
            open(Bytes::from_static(b"12345"), 4).unwrap_err().kind(),
            Kind::Corrupt
        );
    }

    /// One frame of each codec over the same text.
    fn frames(json: &[u8]) -> [Vec<u8>; 2] {
        ["zstd", "lz4"].map(|codec| {
            let compression = Compression::new(codec, 0, None).unwrap();
            compression.compress(json).unwrap().into_owned()
        })
    }

    fn text() -> Vec<u8> {
        let lines = (0..300).map(|n: u32| {
            format!(
                "{n}: Marley was dead, to begin with.
"
            )
        });
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn a_content_that_there_is_no_memory_for_is_not_called_corrupt() {
        let told = lz4_flex::frame::FrameInfo::new().content_size(Some(1 << 62));
        let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(told, Vec::new());
        frame.write_all(b"1234").unwrap();
        frame.flush().unwrap();
        let frame = Bytes::from(frame.get_ref().clone());
        let refused = open(frame.clone(), usize::MAX).unwrap_err();
        assert_eq!(refused.kind(), Kind::Memory);
        assert_eq!(open(frame, 4).unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn a_frame_is_smaller_and_gives_what_was_folded_into_it() {
        let json = text();
        for frame in frames(&json) {
            assert!(frame.len() < json.len());
            assert_eq!(open(frame.into(), json.len()).unwrap(), json);
        }
    }

    #[test]
    fn frames_one_after_another_are_one_value() {
        let (first, second) = (text(), vec![b'x'; 300_000]);
        for (mut whole, more) in frames(&first).into_iter().zip(frames(&second)) {
            whole.extend(more);
            let found = open(whole.into(), usize::MAX).unwrap();
            assert_eq!(found, [&first[..], &second].concat());
        }
    }

    #[test]
    fn a_frame_over_the_cap_is_corrupt_and_names_the_setting() {
        let json = text();
        for frame in frames(&json) {
            let error = open(frame.into(), json.len() - 1).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(
                error.to_string().contains("redis_max_value_bytes"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_frame_that_was_cut_off_anywhere_is_corrupt() {
        for frame in frames(&text()) {
            for length in 4..frame.len() {
                let error = open(frame[..length].to_vec().into(), 1 << 20).unwrap_err();
                assert_eq!(error.kind(), Kind::Corrupt, "{length}");
            }
        }
    }

    #[test]
    fn a_frame_with_a_byte_changed_is_corrupt_or_still_the_same_value() {
        let json = text();
        for frame in frames(&json) {
            for index in 4..frame.len() {
                let mut damaged = frame.clone();
                damaged[index] ^= 0x55;
                if let Ok(found) = open(damaged.into(), 1 << 20) {
                    assert_eq!(found, json, "byte {index}");
                }
            }
        }
    }

    #[test]
    fn bytes_behind_a_frame_are_damage() {
        for mut frame in frames(&text()) {
            frame.extend(b"rest");
            assert_eq!(
                open(frame.into(), 1 << 20).unwrap_err().kind(),
                Kind::Corrupt
            );
        }
    }

    #[test]
    fn whatever_is_stored_is_opened_within_the_cap_or_refused() {
        const MAX: usize = 1 << 20;
        let words: [&[u8]; 5] = [&zstd::MAGIC, &lz4::MAGIC, b"{\"", &[0; 4], &[0xff; 8]];
        crate::fuzz::fuzz("values", &words, |stored, _| {
            let is_frame = stored.starts_with(&zstd::MAGIC) || stored.starts_with(&lz4::MAGIC);
            match open(Bytes::copy_from_slice(stored), MAX) {
                Ok(json) if is_frame => assert!(json.len() <= MAX),
                Ok(json) => assert_eq!(json, stored),
                Err(error) => assert_eq!(error.kind(), Kind::Corrupt),
            }
        });
    }
}
