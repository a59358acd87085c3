//! Frames of LZ4: the LZ4 Frame Format Description.

use std::io::{BufRead, Read, Write};

use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};

use super::Unreadable;

/// First bytes of a frame: "Magic Number".
pub(super) const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];

/// One frame that tells its content's size and carries a checksum; None if it cannot be made.
pub(super) fn compress(json: &[u8]) -> Option<Vec<u8>> {
    let header = FrameInfo::new()
        .content_size(Some(json.len() as u64))
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(header, Vec::with_capacity(json.len()));
    encoder.write_all(json).ok()?;
    encoder.finish().ok()
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
        content
            .try_reserve_exact(size)
            .map_err(|_| Unreadable::NoMemory)?;
    }
    loop {
        let block = decoder
            .fill_buf()
            .map_err(|error| Unreadable::Damaged("lz4", error.to_string()))?;
        let length = block.len();
        if length > 0 {
            if length > max - content.len() {
                return Err(Unreadable::TooLarge);
            }
            content
                .try_reserve(length)
                .map_err(|_| Unreadable::NoMemory)?;
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
