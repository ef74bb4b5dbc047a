//! A streaming bencode parser: no recursion, no allocation sized by a number in the input, and memory that does not grow with the
//! input. All untrusted bencode passes here first: [`crate::bencode::validate`] checks messages with it, and `metainfo::decode`
//! reads torrent files, where invalid ones must cost nothing.

use std::io::{self, BufRead};

use crate::bencode::seen_keys::SeenKeys;
use crate::bencode::validate::BencodeError;
use crate::util::printable_text::printable;

/// The maximum length of a key in bytes. The longest that btsync uses has 13; a `file tree` (BEP 52) uses file names as keys.
const KEY_MAX: usize = 4096;

/// The longest string length with its colon that the fast path reads, in bytes.
const FAST_PATH_LEN: usize = 9;

/// Why a scan ends early.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// The input is not acceptable bencode.
    Bencode(BencodeError),
    /// The input cannot be read.
    Io(io::Error),
}

impl From<BencodeError> for ScanError {
    fn from(error: BencodeError) -> ScanError {
        ScanError::Bencode(error)
    }
}

type Result<T> = std::result::Result<T, ScanError>;

/// The start of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueStart {
    /// An integer, already read completely.
    Int(i64),
    /// A string of this length: [`Scanner::take`] or [`Scanner::skip`] must follow.
    Bytes(usize),
    /// A list: call [`Scanner::has_next_item`] until it returns `false`, or `skip`.
    List,
    /// A dictionary: call [`Scanner::key`] until it returns `None`, or `skip`.
    Dict,
}

/// An open list or dictionary.
enum Frame {
    List,
    Dict {
        /// The index of its first key in [`SeenKeys::spans`].
        first_key: usize,
        /// Whether its keys were sorted so far, as they should be; then there can be no duplicate.
        is_ascending: bool,
        /// Whether only its latest key is kept.
        has_dropped_keys: bool,
    },
}

/// A scan over bencode. Do not use it after an error.
pub(crate) struct Scanner<R> {
    source: R,
    at: usize,
    depth: usize,
    /// How many more values may begin.
    pub remaining_values: usize,
    frames: Vec<Frame>,
    keys: SeenKeys,
    scratch: Vec<u8>,
}

impl<R: BufRead> Scanner<R> {
    /// A scanner that allows lists and dictionaries nested `depth` deep.
    pub fn new(source: R, depth: usize) -> Scanner<R> {
        let (remaining_values, frames, keys, scratch) = (usize::MAX, Vec::new(), SeenKeys::default(), Vec::new());
        Scanner { source, at: 0, depth, remaining_values, frames, keys, scratch }
    }

    /// The number of bytes consumed.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The buffered bytes; empty at the end of the input.
    #[inline]
    fn fill(&mut self) -> Result<&[u8]> {
        while self.source.fill_buf().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
        // Called again because the borrow checker keeps the first result borrowed; it costs nothing.
        self.source.fill_buf().map_err(ScanError::Io)
    }

    fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.at += count;
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.fill()?.first().copied())
    }

    fn peek_some(&mut self) -> Result<u8> {
        let byte = self.peek()?;
        Ok(byte.ok_or(BencodeError::Truncated(self.at))?)
    }

    /// Begins the value that must start here.
    pub fn value(&mut self) -> Result<ValueStart> {
        self.remaining_values = self.remaining_values.checked_sub(1).ok_or(BencodeError::TooMany(self.at))?;
        match self.peek_some()? {
            b'i' => self.integer().map(ValueStart::Int),
            b'0'..=b'9' => self.length().map(ValueStart::Bytes),
            b'l' => self.open(Frame::List).map(|()| ValueStart::List),
            b'd' => {
                let first_key = self.keys.spans.len();
                self.open(Frame::Dict { first_key, is_ascending: true, has_dropped_keys: false })
                    .map(|()| ValueStart::Dict)
            }
            b'e' if matches!(self.frames.last(), Some(Frame::Dict { .. })) => {
                Err(BencodeError::NoValue(self.at).into())
            }
            _ => Err(BencodeError::Unexpected(self.at).into()),
        }
    }

    /// Within a list: whether another value follows. If not, closes the list.
    pub fn has_next_item(&mut self) -> Result<bool> {
        let end = self.peek_some()? == b'e';
        if end {
            self.close()?;
        }
        Ok(!end)
    }

    /// Within a list: copies the next item to `out` if it is a string of at most `max` bytes that is completely in the buffer,
    /// which is nearly always so; otherwise consumes nothing.
    pub fn try_item(&mut self, max: usize, out: &mut Vec<u8>) -> Result<bool> {
        let bytes = self.fill()?;
        let found = buffered_length(bytes).filter(|(length, _)| *length <= max);
        let item = found.and_then(|(length, start)| Some((bytes.get(start..start + length)?, start + length)));
        let Some((item, end)) = item else { return Ok(false) };
        out.clear();
        out.extend_from_slice(item);
        self.consume(end);
        Ok(true)
    }

    /// Within a dictionary: the next key, or `None` at its end, which closes it.
    pub fn key(&mut self) -> Result<Option<&[u8]>> {
        let start = self.at;
        match self.peek_some()? {
            b'e' => return self.close().map(|()| None),
            b'0'..=b'9' => {}
            _ => return Err(BencodeError::Key(start).into()),
        }
        let length = self.length()?;
        if length > KEY_MAX {
            return Err(BencodeError::KeyTooLong(start).into());
        }
        let mut key = std::mem::take(&mut self.scratch);
        self.take(length, KEY_MAX, &mut key)?;
        self.remember(&key, start)?;
        self.scratch = key;
        Ok(Some(&self.scratch))
    }

    /// Reads the string of `length` bytes that [`Scanner::value`] found, and copies its first `max` bytes to `out`.
    pub fn take(&mut self, length: usize, max: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        self.walk(length, |bytes| {
            let room = max.saturating_sub(out.len());
            out.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        })
    }

    /// Skips the rest of a value that [`Scanner::value`] has begun.
    pub fn skip(&mut self, value: ValueStart) -> Result<()> {
        match value {
            ValueStart::Int(_) => Ok(()),
            ValueStart::Bytes(length) => self.walk(length, |_| ()),
            ValueStart::List | ValueStart::Dict => {
                let floor = self.frames.len().saturating_sub(1);
                while self.frames.len() > floor {
                    let follows = match self.frames.last() {
                        Some(Frame::Dict { .. }) => self.key()?.is_some(),
                        _ => self.has_next_item()?,
                    };
                    if follows && let ValueStart::Bytes(length) = self.value()? {
                        self.walk(length, |_| ())?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads to the end of the input. Only white space may follow: editors and careless scripts leave a line end after the value.
    pub fn end(&mut self) -> Result<()> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Err(BencodeError::Trailing(self.at).into());
            }
            self.consume(1);
        }
        Ok(())
    }

    fn walk(&mut self, length: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
        let start = self.at;
        let mut left = length;
        while left > 0 {
            let bytes = self.fill()?;
            let count = bytes.len().min(left);
            if count == 0 {
                // The string starts at its length digits, before the colon.
                let digits = length.checked_ilog10().unwrap_or_default() as usize + 1;
                return Err(BencodeError::StringOverrun(start.saturating_sub(digits + 1)).into());
            }
            each(bytes.get(..count).unwrap_or_default());
            self.consume(count);
            left -= count;
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> Result<()> {
        if self.frames.len() >= self.depth {
            return Err(BencodeError::TooDeep(self.depth).into());
        }
        self.frames.push(frame);
        self.consume(1);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(Frame::Dict { first_key, is_ascending, .. }) = self.frames.pop() {
            if !is_ascending {
                self.find_duplicate(first_key)?;
            }
            self.keys.truncate(first_key);
        }
        self.consume(1);
        Ok(())
    }

    /// Some torrents have unsorted keys, against the specification; only duplicate keys are dangerous.
    fn find_duplicate(&self, first_key: usize) -> Result<()> {
        let spans = self.keys.spans.get(first_key..).unwrap_or_default();
        let mut keys: Vec<&[u8]> = spans.iter().map(|span| self.keys.get(span)).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
            Some(key) => Err(duplicate(key).into()),
            None => Ok(()),
        }
    }

    /// If too many keys are open, keeps only the latest one of this dictionary, which suffices while it is sorted.
    fn remember(&mut self, key: &[u8], at: usize) -> Result<()> {
        let full = self.keys.is_full();
        if let Some(Frame::Dict { first_key, is_ascending, has_dropped_keys }) = self.frames.last_mut() {
            match self.keys.last(*first_key) {
                Some(last) if last == key => return Err(duplicate(key).into()),
                Some(last) if last > key => *is_ascending = false,
                _ => {}
            }
            if !*is_ascending && (full || *has_dropped_keys) {
                return Err(BencodeError::Unsorted(at).into());
            }
            if full || *has_dropped_keys {
                *has_dropped_keys = true;
                let latest = self.keys.spans.len().saturating_sub(1).max(*first_key);
                self.keys.truncate(latest);
            }
        }
        self.keys.push(key);
        Ok(())
    }

    fn integer(&mut self) -> Result<i64> {
        let start = self.at;
        self.consume(1);
        let negative = self.peek_some()? == b'-';
        if negative {
            self.consume(1);
        }
        let digits = self.digits()?;
        let sound = match digits {
            Digits { count: 1, has_leading_zero: true, .. } => !negative,
            Digits { count, has_leading_zero, .. } => count > 0 && !has_leading_zero,
        };
        let value = digits.value.map(i128::from).map(|value| if negative { -value } else { value });
        match value.and_then(|value| i64::try_from(value).ok()).filter(|_| sound) {
            Some(value) if self.peek_some()? == b'e' => {
                self.consume(1);
                Ok(value)
            }
            _ => Err(BencodeError::Integer(start).into()),
        }
    }

    fn length(&mut self) -> Result<usize> {
        if let Some((length, end)) = buffered_length(self.fill()?) {
            self.consume(end);
            return Ok(length);
        }
        let start = self.at;
        let digits = self.digits()?;
        let Some(length) = digits.value else { return Err(BencodeError::StringOverrun(start).into()) };
        if (digits.has_leading_zero && digits.count > 1) || self.peek_some()? != b':' {
            return Err(BencodeError::StringLength(start).into());
        }
        self.consume(1);
        Ok(usize::try_from(length).map_err(|_| BencodeError::StringOverrun(start))?)
    }

    /// The digits from here on, as far as a 64-bit number can have them.
    fn digits(&mut self) -> Result<Digits> {
        let mut digits = Digits { value: Some(0), count: 0, has_leading_zero: false };
        while let Some(byte @ b'0'..=b'9') = self.peek()? {
            let digit = u64::from(byte - b'0');
            digits.has_leading_zero |= digits.count == 0 && digit == 0;
            digits.count += 1;
            digits.value = digits.value.and_then(|value| value.checked_mul(10)?.checked_add(digit));
            if digits.value.is_none() {
                break;
            }
            self.consume(1);
        }
        if digits.value.is_some() {
            self.peek_some()?;
        }
        Ok(digits)
    }
}

#[derive(Clone, Copy)]
struct Digits {
    /// `None` if it does not fit into 64 bits.
    value: Option<u64>,
    count: u32,
    has_leading_zero: bool,
}

/// A string's length and the offset of its first byte, if the buffer has well-formed digits and the colon.
fn buffered_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().take(FAST_PATH_LEN).enumerate() {
        if *byte == b':' && at > 0 {
            return Some((length, at + 1));
        }
        if !byte.is_ascii_digit() || (at > 0 && length == 0) {
            return None;
        }
        length = length * 10 + usize::from(byte - b'0');
    }
    None
}

fn duplicate(key: &[u8]) -> BencodeError {
    let start = key.get(..key.len().min(160)).unwrap_or_default();
    let text: String = String::from_utf8_lossy(start).chars().take(40).collect();
    BencodeError::DuplicateKey(printable(&text))
}
