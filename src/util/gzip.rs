//! Decompression of gzip, in a build with the feature `gzip`.

use std::io::{self, Read};

/// The magic number of gzip.
pub const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Decompresses what `packed` holds.
#[cfg(feature = "gzip")]
pub fn decoder(packed: impl Read) -> impl Read {
    flate2::read::MultiGzDecoder::new(packed)
}

/// Every read fails.
#[cfg(not(feature = "gzip"))]
pub fn decoder(_: impl Read) -> impl Read {
    struct Unsupported;
    impl Read for Unsupported {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::Unsupported, "this program was built without support for gzip"))
        }
    }
    Unsupported
}

/// Decompresses at most `max` bytes, and appends them to `out`.
///
/// # Errors
/// If `packed` is malformed; what precedes the error is in `out`.
pub fn gunzip(packed: &[u8], max: u64, out: &mut Vec<u8>) -> io::Result<()> {
    decoder(packed).take(max).read_to_end(out).map(drop)
}
