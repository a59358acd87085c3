//! Frames of LZ4: the LZ4 Frame Format Description.

use std::io::{BufRead, Read, Write};

use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};

use super::frame_errors::Unreadable;
use crate::error::Result;
use crate::memory;

/// First bytes of a frame: "Magic Number".
pub(super) const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];

/// Bytes of JSON in a block, and what is written around a block and around a frame at most.
const SMALLEST_BLOCK: usize = 64 * 1024;
const OF_A_BLOCK: usize = 8;
const OF_A_FRAME: usize = 64;

/// JSON longer than this is written in blocks of the largest size, and what the encoder takes for those: a block, and one
/// that has grown by a tenth.
const SMALL: usize = 256 * 1024;
const ENCODER: usize = 9 * 1024 * 1024;

/// One frame that tells its content's size and carries a checksum; None if it cannot be made.
pub(super) fn compress(json: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut frame = Vec::new();
    let blocks = json.len() / SMALLEST_BLOCK + 1;
    memory::reserve(&mut frame, json.len() + blocks * OF_A_BLOCK + OF_A_FRAME)?;
    if json.len() > SMALL {
        memory::look_for(ENCODER)?;
    }
    let header = FrameInfo::new()
        .content_size(Some(json.len() as u64))
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(header, frame);
    Ok(match encoder.write_all(json) {
        Ok(()) => encoder.finish().ok(),
        Err(_) => None,
    })
}

/// The content of one frame, or of several one after another: at most `max` bytes, and the
/// decoder's own block buffers, which the format limits to 4 MiB each.
pub(super) fn decompress(frame: &[u8], max: usize) -> Result<Vec<u8>, Unreadable> {
    let source = Source {
        rest: frame,
        asked_in_vain: false,
    };
    let mut decoder = FrameDecoder::new(source);
    let mut content = Vec::new();
    if let Some(size) = content_size(frame) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > max {
            return Err(Unreadable::TooLarge);
        }
        // Memory that a header asks for in vain is never touched.
        memory::reserve(&mut content, size).map_err(|_| Unreadable::NoMemory)?;
    }
    memory::look_for(3 * block_size(frame)).map_err(|_| Unreadable::NoMemory)?;
    loop {
        let block = decoder
            .fill_buf()
            .map_err(|error| Unreadable::Damaged("lz4", error.to_string()))?;
        let length = block.len();
        if length > 0 {
            if length > max - content.len() {
                return Err(Unreadable::TooLarge);
            }
            memory::reserve(&mut content, length).map_err(|_| Unreadable::NoMemory)?;
            content.extend_from_slice(block);
            decoder.consume(length);
            continue;
        }
        let source = decoder.get_ref();
        // The decoder takes bytes that end between two blocks for the end of the frame.
        if source.asked_in_vain {
            return Err(Unreadable::Damaged("lz4", "it is cut off".to_owned()));
        }
        if source.rest.is_empty() {
            return Ok(content);
        }
    }
}

/// The size that the header tells: the eight bytes behind FLG and BD, if the fourth bit of FLG is set.
fn content_size(frame: &[u8]) -> Option<u64> {
    let declared = frame.get(4)? & 0b1000 != 0;
    let size = frame.get(6..14)?.try_into().ok()?;
    declared.then_some(u64::from_le_bytes(size))
}

/// The largest size of a block, as the second byte of the frame's descriptor says. The decoder takes one for what it
/// reads, and up to two for what it makes of it.
fn block_size(frame: &[u8]) -> usize {
    let code = frame.get(5).map_or(0, |descriptor| descriptor >> 4 & 7);
    1 << (8 + 2 * code)
}

/// The bytes of frames, and whether more were asked for than there are.
struct Source<'a> {
    rest: &'a [u8],
    asked_in_vain: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.rest.read(buffer)?;
        self.asked_in_vain |= length < buffer.len();
        Ok(length)
    }
}
