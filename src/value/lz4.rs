//! Frames of LZ4: the LZ4 Frame Format Description.

use std::io::{BufRead, Write};

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
    memory::reserve(
        &mut frame,
        json.len() + (json.len() / SMALLEST_BLOCK + 1) * OF_A_BLOCK + OF_A_FRAME,
    )?;
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
pub(super) fn decompress(frames: &[u8], max: usize) -> Result<Vec<u8>, Unreadable> {
    let mut content = Vec::new();
    if let Some(size) = content_size(frames) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > max {
            return Err(Unreadable::TooLarge);
        }
        // Memory that a header asks for in vain is never touched.
        memory::reserve(&mut content, size).map_err(|_| Unreadable::NoMemory)?;
    }
    let mut rest = frames;
    while !rest.is_empty() {
        let Some((first, behind)) = split_first(rest) else {
            return Err(Unreadable::Damaged("lz4", "it is cut off".to_owned()));
        };
        add_content(first, max, &mut content)?;
        rest = behind;
    }
    Ok(content)
}

/// Adds the content of one frame, for which there is a decoder of its own: one that goes on with the next frame expects
/// blocks of the same size.
fn add_content(frame: &[u8], max: usize, content: &mut Vec<u8>) -> Result<(), Unreadable> {
    memory::look_for(3 * block_size(frame)).map_err(|_| Unreadable::NoMemory)?;
    let mut decoder = FrameDecoder::new(frame);
    loop {
        let block = decoder
            .fill_buf()
            .map_err(|error| Unreadable::Damaged("lz4", error.to_string()))?;
        let length = block.len();
        if length > max - content.len() {
            return Err(Unreadable::TooLarge);
        }
        memory::reserve(content, length).map_err(|_| Unreadable::NoMemory)?;
        content.extend_from_slice(block);
        decoder.consume(length);
        // A block may be empty, and the frame go on.
        if length == 0 && decoder.get_ref().is_empty() {
            return Ok(());
        }
    }
}

/// The first frame, and what follows it. None if it is not whole: the decoder takes bytes that end between two blocks for
/// the end of a frame.
fn split_first(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    const LENGTH: u32 = 0x7fff_ffff;
    let descriptor = frames.strip_prefix(&MAGIC)?.first()?;
    let flag = |bit: u8| usize::from(descriptor >> bit & 1);
    let (content_size, dictionary) = (8 * flag(3), 4 * flag(0));
    let (block_checksum, content_checksum) = (4 * flag(4), 4 * flag(2));
    // Magic number, FLG and BD, and the header's checksum.
    let mut end = MAGIC.len() + 2 + content_size + dictionary + 1;
    loop {
        let block = u32::from_le_bytes(*frames.get(end..)?.first_chunk()?);
        end += size_of::<u32>();
        if block == 0 {
            return frames.split_at_checked(end + content_checksum);
        }
        let block = usize::try_from(block & LENGTH).ok()?;
        end = end.checked_add(block)?.checked_add(block_checksum)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\"hello, this is a first frame\"";
    /// Magic number, FLG, BD, the content's size and the header's checksum.
    const HEADER: usize = 15;
    const END: usize = 8;
    const EMPTY_BLOCKS: [&[u8]; 2] = [&[0, 0, 0, 0x80], &[1, 0, 0, 0, 0]];

    fn frame() -> Vec<u8> {
        compress(TEXT).unwrap().unwrap()
    }

    fn is_damaged(frames: &[u8]) {
        let content = decompress(frames, 1000);
        assert!(
            matches!(content, Err(Unreadable::Damaged(..))),
            "{}: {:?}",
            frames.escape_ascii(),
            content.is_ok()
        );
    }

    #[test]
    fn frames_are_read_one_after_another() {
        assert_eq!(decompress(&frame(), 1000).ok().as_deref(), Some(TEXT));
        let twice = decompress(&[frame(), frame()].concat(), 1000);
        assert_eq!(twice.ok(), Some([TEXT, TEXT].concat()));
    }

    #[test]
    fn a_block_without_content_is_no_end_of_a_frame() {
        for empty in EMPTY_BLOCKS {
            let (header, blocks) = (&frame()[..HEADER], &frame()[HEADER..]);
            let (blocks, end) = blocks.split_at(blocks.len() - END);
            for whole in [
                [header, empty, blocks, end].concat(),
                [header, blocks, empty, end].concat(),
            ] {
                assert_eq!(decompress(&whole, 1000).ok().as_deref(), Some(TEXT));
            }
            for cut in [
                [header, empty].concat(),
                [header, empty, blocks].concat(),
                [header, blocks, empty].concat(),
            ] {
                is_damaged(&cut);
                is_damaged(&[cut, frame()].concat());
            }
        }
    }

    #[test]
    fn a_frame_that_is_cut_off_is_damaged_wherever_that_is() {
        let whole = frame();
        for length in MAGIC.len()..whole.len() {
            is_damaged(&whole[..length]);
            is_damaged(&[&whole[..], &whole[..length]].concat());
        }
    }

    #[test]
    fn what_follows_a_frame_is_one() {
        // The frame of before there was a format: its decoder takes 16 MiB whatever it says.
        let legacy = b"\x02\x21\x4c\x18\0\0\0\0";
        for behind in [
            &legacy[..],
            b"\0",
            b"\0\0\0\0",
            b"\x50\x2a\x4d\x18\0\0\0\0",
            b"{}",
        ] {
            is_damaged(&[&frame()[..], behind].concat());
        }
    }
    #[test]
    fn a_frame_need_not_tell_its_size() {
        for info in [
            FrameInfo::new(),
            FrameInfo::new().block_checksums(true),
            FrameInfo::new().content_checksum(true),
        ] {
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(TEXT).unwrap();
            let whole = encoder.finish().unwrap();
            assert_eq!(content_size(&whole), None);
            assert_eq!(decompress(&whole, 1000).ok().as_deref(), Some(TEXT));
            for length in MAGIC.len()..whole.len() {
                is_damaged(&whole[..length]);
            }
        }
        assert_eq!(content_size(&frame()), Some(TEXT.len() as u64));
    }

    /// LZ4 Frame Format Description, "BD byte": the block's maximum size, of the codes that there are.
    #[test]
    fn a_block_is_as_large_as_its_code_says() {
        for (code, size) in [(4, 64 << 10), (5, 256 << 10), (6, 1 << 20), (7, 4 << 20)] {
            let mut header = frame();
            header[MAGIC.len() + 1] = code << 4;
            assert_eq!(block_size(&header), size);
        }
    }
}
