//! Which values are stored as frames, and of which codec; where the work on a large one is done.

use std::borrow::Cow;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::{lz4, zstd};
use crate::error::{Error, Kind, Result};

/// Bytes of JSON below which a value is stored as it is: a frame of so little saves next to
/// nothing of what the server spends on a key.
pub const MIN_BYTES: usize = 1024;

/// Bytes from which compressing or decompressing them is done aside: they take half a millisecond
/// or more, and handing the sockets over to another thread a few hundredths of one.
const ASIDE_BYTES: usize = 64 * 1024;

/// What makes a frame of a value's JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Nothing: JSON is stored as it is.
    #[default]
    None,
    /// Frames of RFC 8878, at one of the levels that `Codec::levels` gives.
    Zstd {
        /// Higher is smaller and slower.
        level: i32,
    },
    /// Frames of the LZ4 Frame Format; one level.
    Lz4,
}

impl Codec {
    /// The codec of this name, at its own level if None is given.
    pub fn new(name: &str, level: Option<i32>) -> Result<Self> {
        let refuse = |message: String| Err(Error::new(Kind::Config, message));
        match (name, level) {
            // A level stays in the settings when compression is turned off for a while.
            ("none", _) => Ok(Self::None),
            ("lz4", None) => Ok(Self::Lz4),
            ("lz4", Some(level)) => refuse(format!(
                "redis_compression_level={level}: lz4 has no levels, leave the setting out"
            )),
            ("zstd", level) => {
                let (level, (least, most)) = (level.unwrap_or(zstd::LEVEL), zstd::levels());
                if level < least || level > most {
                    return refuse(format!(
                        "redis_compression_level={level}: zstd has the levels {least} to {most}"
                    ));
                }
                Ok(Self::Zstd { level })
            }
            _ => refuse(format!(
                "redis_compression {name:?} must be 'none', 'zstd' or 'lz4'"
            )),
        }
    }
}

/// How the values of a store are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    codec: Codec,
    min_bytes: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            min_bytes: MIN_BYTES,
        }
    }
}

impl Compression {
    /// Frames of the codec of this name, for values of at least `min_bytes` of JSON.
    pub fn new(codec: &str, min_bytes: usize, level: Option<i32>) -> Result<Self> {
        let codec = Codec::new(codec, level)?;
        Ok(Self { codec, min_bytes })
    }

    /// Whether there is anything to do: values may be stored as frames.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.codec != Codec::None
    }

    /// Whether frames of so many bytes of JSON are made [`aside`].
    #[must_use]
    pub fn takes_long(&self, bytes: usize) -> bool {
        self.is_on() && bytes >= ASIDE_BYTES
    }

    /// What is stored for a value: a frame where one is asked for and smaller, else its JSON. An error if
    /// there is no memory for a frame.
    pub fn compress<'json>(&self, json: &'json [u8]) -> Result<Cow<'json, [u8]>> {
        if json.len() < self.min_bytes {
            return Ok(Cow::Borrowed(json));
        }
        let frame = match self.codec {
            Codec::None => None,
            Codec::Zstd { level } => zstd::compress(json, level)?,
            Codec::Lz4 => lz4::compress(json)?,
        };
        Ok(match frame {
            Some(frame) if frame.len() < json.len() => Cow::Owned(frame),
            _ => Cow::Borrowed(json),
        })
    }
}

/// Does work on so many bytes. Where that takes long, the other tasks of this thread, sockets
/// among them, go on on another one meanwhile.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if bytes >= ASIDE_BYTES && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        return tokio::task::block_in_place(work);
    }
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_below_the_minimum_or_that_does_not_shrink_is_stored_as_it_is() {
        let long = vec![b'1'; 2000];
        for codec in ["zstd", "lz4"] {
            let compression = Compression::new(codec, 2000, None).unwrap();
            assert!(compression.compress(&long).unwrap().len() < 100);
            assert_eq!(&*compression.compress(&long[1..]).unwrap(), &long[1..]);
            let eager = Compression::new(codec, 0, None).unwrap();
            assert_eq!(&*eager.compress(b"{}").unwrap(), b"{}");
        }
        assert_eq!(&*Compression::default().compress(&long).unwrap(), &long[..]);
    }

    #[test]
    fn a_level_that_the_codec_has_not_is_refused_by_name() {
        for (codec, level) in [("zstd", 23), ("zstd", i32::MIN), ("lz4", 1)] {
            let error = Codec::new(codec, Some(level)).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(
                error.to_string().starts_with("redis_compression_level="),
                "{error}"
            );
        }
        assert!(Codec::new("zstd", Some(22)).is_ok());
        assert_eq!(Codec::new("none", Some(99)).unwrap(), Codec::None);
        assert!(Codec::new("gzip", None).is_err());
    }
    #[test]
    fn work_is_done_aside_only_where_there_is_another_thread_for_the_others() {
        assert_eq!(aside(ASIDE_BYTES, || 7), 7);
        let alone = tokio::runtime::Builder::new_current_thread();
        let several = tokio::runtime::Builder::new_multi_thread();
        for mut builder in [alone, several] {
            let runtime = builder.build().unwrap();
            for bytes in [0, ASIDE_BYTES] {
                assert_eq!(runtime.block_on(async { aside(bytes, || 7) }), 7);
            }
        }
    }
}
