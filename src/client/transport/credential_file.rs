//! The files of passwords, certificates and keys, which are read anew for each login.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of such a file at most. A bundle of every public authority takes less than one MiB.
const LARGEST: u64 = 16 << 20;

/// The whole file. One without an end, as `/dev/zero`, is refused.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_unless_that_is_too_far() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, whole) in [(0, true), (LARGEST, true), (LARGEST + 1, false)] {
            file.as_file().set_len(bytes).unwrap();
            let length = read(file.path()).map(|read| read.len() as u64).ok();
            assert_eq!(length, whole.then_some(bytes));
        }
    }
}
