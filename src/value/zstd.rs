//! Frames of Zstandard, RFC 8878.

use std::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{CParameter, DCtx, compress_bound, get_error_name, get_frame_content_size};

use super::frame_errors::Unreadable;
use crate::error::Result;
use crate::memory;

/// First bytes of a frame: section 3.1.1.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The codec's own level.
pub(super) const LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;
/// The first guess at the size of a content that its frame does not tell.
const FIRST_GUESS: usize = 64 * 1024;
/// How much larger the next guess is: the work of all failed ones is a third of the last.
const GROWTH: usize = 4;
const TOO_SMALL: usize = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();

thread_local! {
    // Making a context costs more than compressing a small value with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// The lowest and the highest level.
pub(super) fn levels() -> (i32, i32) {
    let range = zstd::compression_level_range();
    (*range.start(), *range.end())
}

/// One frame that tells its content's size and carries a checksum; None if it cannot be made.
pub(super) fn compress(json: &[u8], level: i32) -> Result<Option<Vec<u8>>> {
    let mut frame = Vec::new();
    memory::reserve(&mut frame, compress_bound(json.len()))?;
    let made = COMPRESSOR.with_borrow_mut(|held| {
        if held.is_none() {
            let mut made = Compressor::new(level).ok()?;
            made.set_parameter(CParameter::ChecksumFlag(true)).ok()?;
            *held = Some(made);
        }
        let compressor = held.as_mut()?;
        compressor.set_compression_level(level).ok()?;
        compressor.compress_to_buffer(json, &mut frame).ok()
    });
    Ok(made.map(|_| frame))
}

/// The content of one frame, or of several one after another: at most `max` bytes.
///
/// No window is kept beside the content, since all of it lies in one buffer, so what a frame can
/// make this take is bounded by `max`, whatever it claims.
pub(super) fn decompress(frame: &[u8], max: usize) -> Result<Vec<u8>, Unreadable> {
    let damaged = |said: &str| Unreadable::Damaged("zstd", said.to_owned());
    let declared = get_frame_content_size(frame).map_err(|_| damaged("its header"))?;
    let mut room = match declared {
        Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
        None => frame.len().saturating_mul(GROWTH).max(FIRST_GUESS).min(max),
    };
    if room > max {
        return Err(Unreadable::TooLarge);
    }
    DECOMPRESSOR.with_borrow_mut(|held| {
        if held.is_none() {
            *held = DCtx::try_create();
        }
        let decompressor = held.as_mut().ok_or(Unreadable::NoMemory)?;
        loop {
            let mut content = Vec::new();
            memory::reserve(&mut content, room).map_err(|_| Unreadable::NoMemory)?;
            match decompressor.decompress(&mut content, frame) {
                Ok(_) => {
                    content.shrink_to_fit();
                    return Ok(content);
                }
                Err(TOO_SMALL) if room < max => {
                    room = room.saturating_mul(GROWTH).clamp(FIRST_GUESS.min(max), max);
                }
                Err(TOO_SMALL) => return Err(Unreadable::TooLarge),
                Err(code) => return Err(damaged(get_error_name(code))),
            }
        }
    })
}
