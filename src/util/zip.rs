//! The first file of a zip archive, read from start to end without its directory; in a build with the feature `gzip`.

use std::io::{self, BufRead, Read};

/// The magic number of a zip archive that is not empty.
pub const ZIP: [u8; 4] = *b"PK\x03\x04";

/// The size of a file's header after the magic number.
const HEADER: usize = 26;
/// Sizes and checksum follow the data.
const HAS_DESCRIPTOR: u16 = 1 << 3;
const IS_ENCRYPTED: u16 = 1;
/// Folders and other empty entries before the first file, at most.
const MAX_EMPTY: usize = 100;

/// How a file is packed.
#[derive(Debug, PartialEq, Eq)]
enum Packing {
    /// Not at all; it has this many bytes.
    Stored(u32),
    Deflate,
}

/// Unpacks the first file that is not empty. The size of what it holds is for the caller to limit.
///
/// # Errors
/// If the archive is malformed, encrypted, packed in another way than by *deflate*, or has no such file. Reading fails with
/// [`io::ErrorKind::Unsupported`] in a build without the feature `gzip`.
pub fn first_file<'a>(mut archive: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    for _ in 0..=MAX_EMPTY {
        match next_file(&mut archive)? {
            Packing::Stored(0) => {}
            Packing::Stored(size) => return Ok(Box::new(archive.take(size.into()))),
            Packing::Deflate => return Ok(Box::new(inflated(archive))),
        }
    }
    Err(malformed("the zip archive has no file at its start"))
}

/// Reads the header of the next file, up to its data.
fn next_file(archive: &mut impl Read) -> io::Result<Packing> {
    let mut magic = [0; 4];
    archive.read_exact(&mut magic)?;
    if magic != ZIP {
        return Err(malformed("the zip archive has no file"));
    }
    let mut header = [0; HEADER];
    archive.read_exact(&mut header)?;
    let two = |at: usize| header.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_le_bytes);
    let four = |at: usize| header.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (flags, method, packed_size) = (two(2), two(4), four(14));
    let name_and_extra = u64::from(two(22)) + u64::from(two(24));
    if io::copy(&mut archive.take(name_and_extra), &mut io::sink())? < name_and_extra {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match method {
        _ if flags & IS_ENCRYPTED != 0 => Err(malformed("the zip archive is encrypted")),
        0 if flags & HAS_DESCRIPTOR != 0 => Err(malformed("the zip archive does not say how large its file is")),
        0 => Ok(Packing::Stored(packed_size)),
        8 => Ok(Packing::Deflate),
        _ => Err(malformed("the zip archive is not packed with deflate")),
    }
}

#[cfg(feature = "gzip")]
fn inflated(packed: impl BufRead) -> impl Read {
    Inflater { packed, state: flate2::Decompress::new(false), has_ended: false }
}

/// Every read fails.
#[cfg(not(feature = "gzip"))]
fn inflated(packed: impl BufRead) -> impl Read {
    crate::util::gzip::decoder(packed)
}

/// Unpacks a stream of *deflate*. Unlike `flate2`'s reader, it reports a stream that breaks off.
#[cfg(feature = "gzip")]
struct Inflater<R> {
    packed: R,
    state: flate2::Decompress,
    has_ended: bool,
}

#[cfg(feature = "gzip")]
impl<R: BufRead> Read for Inflater<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.has_ended && !out.is_empty() {
            let input = self.packed.fill_buf()?;
            let is_over = input.is_empty();
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(input, out, flate2::FlushDecompress::None);
            self.packed.consume((self.state.total_in() - read) as usize);
            self.has_ended = status.map_err(io::Error::from)? == flate2::Status::StreamEnd;
            let written = (self.state.total_out() - written) as usize;
            if written > 0 {
                return Ok(written);
            }
            if is_over && !self.has_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a file, as `zip` writes it.
    fn header(flags: u16, method: u16, size: u32, name: &str) -> Vec<u8> {
        let mut header = ZIP.to_vec();
        for number in [20, flags, method, 0, 0, 0, 0] {
            header.extend(number.to_le_bytes());
        }
        header.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend(4_u16.to_le_bytes());
        [header, name.as_bytes().to_vec(), b"more".to_vec()].concat()
    }

    fn read(archive: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        first_file(archive)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn stored_files_are_read_to_their_end() {
        let folder = header(0, 0, 0, "lists/");
        let file = header(0, 0, 4, "lists/a.p2p");
        assert_eq!(read(&[&folder[..], &file, b"text", b"PK\x01\x02"].concat()).expect("a file"), "text");
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn packed_files_are_unpacked_even_if_their_size_is_not_known_yet() {
        let mut encoder = flate2::read::DeflateEncoder::new(&b"1.2.3.4"[..], flate2::Compression::best());
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).expect("memory");
        let archive = [&header(HAS_DESCRIPTOR, 8, 0, "a")[..], &packed, b"PK\x07\x08 and more"].concat();
        assert_eq!(read(&archive).expect("a file"), "1.2.3.4");
        let broken_off = [&header(HAS_DESCRIPTOR, 8, 0, "a")[..], &packed[..packed.len() - 2]].concat();
        assert_eq!(read(&broken_off).expect_err("half a file").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn other_archives_are_refused() {
        assert!(read(b"PK\x05\x06").is_err(), "an empty one");
        assert!(read(b"").is_err() && read(&header(0, 0, 4, "a")[..20]).is_err());
        assert!(read(&header(IS_ENCRYPTED, 8, 4, "a")).is_err() && read(&header(0, 12, 4, "a")).is_err());
        assert!(read(&header(HAS_DESCRIPTOR, 0, 0, "a")).is_err());
        assert!(read(&header(0, 0, 0, "a/").repeat(MAX_EMPTY + 2)).is_err(), "folders without end");
    }
}
