//! A whole block list: plain, or packed with gzip or zip. It is read line by line, so that only its ranges are in memory.

use std::io::{self, BufRead, BufReader, Read};

use crate::net::block_list::line::{self, BlockListLine};
use crate::net::block_list::{RangeSet, RangeSetBuilder};
use crate::util::{gzip, zip};

/// The longest line, in bytes; a longer one is invalid.
const MAX_LINE: usize = 4096;
/// The most ranges of a list, which need 128 MiB at most.
const MAX_RANGES: usize = 4_000_000;
/// The most bytes of a list, unpacked.
const MAX_SIZE: u64 = 1 << 30;
/// The size of the read buffer, in bytes.
const BUFFER: usize = 64 * 1024;

/// The content of a block list.
#[derive(Debug, PartialEq, Eq)]
pub struct BlockList {
    /// The blocked addresses.
    pub ranges: RangeSet,
    /// The number of lines of no known form.
    pub invalid: usize,
    /// The first of them, counted from 1; 0 if there is none.
    pub first_invalid: usize,
}

/// Why a block list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlockListError {
    /// It cannot be read or unpacked.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It has lines, and most of them are of no known form.
    #[error("line {line} and others are not in P2P, DAT or CIDR form")]
    UnknownForm {
        /// The first such line.
        line: usize,
    },
    /// It has too many ranges or bytes.
    #[error("the list is too large")]
    TooLarge,
}

/// Reads a list. Single invalid lines are skipped; if more than half of all lines that say anything are invalid, the file is no
/// block list, and using it would protect from nothing.
///
/// # Errors
/// See [`BlockListError`].
pub fn read(list: impl Read) -> Result<BlockList, BlockListError> {
    let mut list = BufReader::with_capacity(BUFFER, list);
    let start = list.fill_buf()?;
    if start.starts_with(&gzip::GZIP) {
        read_text(BufReader::with_capacity(BUFFER, gzip::decoder(list)))
    } else if start.starts_with(&zip::ZIP) {
        read_text(BufReader::with_capacity(BUFFER, zip::first_file(list)?))
    } else {
        read_text(list)
    }
}

fn read_text(list: impl BufRead) -> Result<BlockList, BlockListError> {
    // One more, to tell a list of this size from a longer one.
    let mut list = list.take(MAX_SIZE + 1);
    let mut ranges = RangeSetBuilder::default();
    let (mut number, mut invalid, mut first_invalid) = (0, 0, 0);
    let mut text = Vec::new();
    while read_line(&mut list, &mut text)? {
        number += 1;
        let line: &[u8] = if number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text) } else { &text };
        let parsed = if text.len() > MAX_LINE { BlockListLine::Invalid } else { line::parse(line) };
        match parsed {
            BlockListLine::Nothing => {}
            BlockListLine::Range(range) => ranges.add(range),
            BlockListLine::Invalid => {
                invalid += 1;
                first_invalid = if first_invalid == 0 { number } else { first_invalid };
            }
        }
        if ranges.count() > MAX_RANGES {
            return Err(BlockListError::TooLarge);
        }
    }
    if list.limit() == 0 {
        return Err(BlockListError::TooLarge);
    }
    if invalid > ranges.count() {
        return Err(BlockListError::UnknownForm { line: first_invalid });
    }
    Ok(BlockList { ranges: ranges.build(), invalid, first_invalid })
}

/// Reads the next line, of which at most [`MAX_LINE`] bytes and one more are kept. Returns false at the end.
fn read_line(list: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    let mut has_read = false;
    loop {
        let buffer = match list.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(has_read);
        }
        has_read = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let room = (MAX_LINE + 1).saturating_sub(text.len());
        text.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = end.map_or(buffer.len(), |end| end + 1);
        list.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;
