//! A walk over bencoded bytes as they stand: no recursion, no copy, nothing allocated by a number that they claim.
//! It comes before every other use of strangers' bencode, because `serde_bencode` recurses as deep as it is told to and
//! takes the last of two equal keys. It also finds the exact bytes of a torrent's `info`, which name the swarm.

use std::ops::Range;

use crate::metainfo::paths::printable;

/// How deep lists and dictionaries may be nested in a message or a tracker's answer.
pub const MESSAGE_DEPTH: usize = 32;

/// How deep they may be nested in a torrent file: a hybrid's `file tree` (BEP 52) takes a level for every folder.
pub const FILE_DEPTH: usize = 64;

/// Why bytes are not bencode, or not bencode that we accept; positions are counted in bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// The bytes end within a value, or there are none.
    #[error("not bencode: it ends in the middle of a value, at byte {0}")]
    Truncated(usize),
    /// A byte that cannot start a value stands where a value must start.
    #[error("not bencode: unexpected byte at {0}")]
    Unexpected(usize),
    /// An integer without digits, with leading zeros, a minus zero, or one that 64 bits do not hold.
    #[error("not bencode: malformed integer at byte {0}")]
    Integer(usize),
    /// The length of a string is malformed.
    #[error("not bencode: malformed string length at byte {0}")]
    StringLength(usize),
    /// A string claims more bytes than there are.
    #[error("not bencode: the string at byte {0} is longer than what follows")]
    StringOverrun(usize),
    /// A key of a dictionary is not a string.
    #[error("not bencode: a dictionary's key at byte {0} is not a string")]
    Key(usize),
    /// A dictionary ends after a key.
    #[error("not bencode: a dictionary's key has no value at byte {0}")]
    NoValue(usize),
    /// A dictionary has a key twice, so that two readers may see two different things.
    #[error("not bencode: the key `{0}` stands twice in one dictionary")]
    DuplicateKey(String),
    /// Lists and dictionaries are nested too deeply.
    #[error("not bencode that is accepted: nested more than {0} deep")]
    TooDeep(usize),
    /// Something follows the value.
    #[error("not bencode: something follows the end, at byte {0}")]
    Trailing(usize),
}

/// What a walk over a whole torrent file finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Whether the outermost value is a dictionary.
    pub is_dict: bool,
    /// Where the outermost dictionary's value of `info` lies.
    pub info: Option<Range<usize>>,
}

/// Checks that `bytes` are one bencoded value, fit for `serde_bencode`: a tracker's answer, an extension message.
///
/// # Errors
/// Says where it is malformed, nested deeper than [`MESSAGE_DEPTH`], or has a key twice.
pub fn check(bytes: &[u8]) -> Result<(), RawError> {
    let scan = Scanner::new(bytes, MESSAGE_DEPTH).run()?;
    nothing_but_space(bytes, scan.at)
}

/// How many bytes the first value of `bytes` takes, checked like [`check`]; what follows is not looked at (BEP 9 puts a
/// piece of metadata behind a dictionary).
///
/// # Errors
/// Those of [`check`], but for [`RawError::Trailing`].
pub fn prefix(bytes: &[u8]) -> Result<usize, RawError> {
    Ok(Scanner::new(bytes, MESSAGE_DEPTH).run()?.at)
}

/// Checks a whole torrent file and finds its `info`.
///
/// # Errors
/// Those of [`check`], with [`FILE_DEPTH`] as the limit.
pub fn outline(bytes: &[u8]) -> Result<Outline, RawError> {
    let scan = Scanner::new(bytes, FILE_DEPTH).run()?;
    nothing_but_space(bytes, scan.at)?;
    Ok(Outline { is_dict: bytes.first() == Some(&b'd'), info: scan.info })
}

/// Editors and careless scripts leave a line end behind the value; anything else behind it is refused.
fn nothing_but_space(bytes: &[u8], end: usize) -> Result<(), RawError> {
    let rest = bytes.get(end..).unwrap_or_default();
    match rest.iter().position(|b| !b.is_ascii_whitespace()) {
        Some(at) => Err(RawError::Trailing(end + at)),
        None => Ok(()),
    }
}

/// A list or dictionary that is open.
enum Frame {
    List,
    Dict {
        /// Where its keys start in [`Scanner::keys`].
        first_key: usize,
        /// Whether a key, or the end, comes next.
        wants_key: bool,
        /// Whether its keys came in order so far, as they should; then none can stand twice.
        ascending: bool,
    },
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    frames: Vec<Frame>,
    /// The keys of all open dictionaries.
    keys: Vec<&'a [u8]>,
    info_start: Option<usize>,
    info: Option<Range<usize>>,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], depth: usize) -> Scanner<'a> {
        Scanner { bytes, at: 0, depth, frames: Vec::new(), keys: Vec::new(), info_start: None, info: None }
    }

    /// Walks over one value.
    fn run(mut self) -> Result<Scanner<'a>, RawError> {
        loop {
            if self.step()? {
                self.value_ended();
                if self.frames.is_empty() {
                    return Ok(self);
                }
            }
        }
    }

    /// Takes one token; true where a value ended with it.
    fn step(&mut self) -> Result<bool, RawError> {
        let byte = *self.bytes.get(self.at).ok_or(RawError::Truncated(self.at))?;
        match (byte, self.frames.last()) {
            (b'e', Some(_)) => self.close().map(|()| true),
            (_, Some(Frame::Dict { wants_key: true, .. })) => self.key().map(|()| false),
            (b'i', _) => self.integer().map(|()| true),
            (b'0'..=b'9', _) => self.string().map(|_| true),
            (b'l', _) => self.open(Frame::List).map(|()| false),
            (b'd', _) => {
                let first_key = self.keys.len();
                self.open(Frame::Dict { first_key, wants_key: true, ascending: true }).map(|()| false)
            }
            _ => Err(RawError::Unexpected(self.at)),
        }
    }

    fn open(&mut self, frame: Frame) -> Result<(), RawError> {
        if self.frames.len() >= self.depth {
            return Err(RawError::TooDeep(self.depth));
        }
        self.frames.push(frame);
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RawError> {
        if let Some(Frame::Dict { first_key, wants_key, ascending }) = self.frames.pop() {
            if !wants_key {
                return Err(RawError::NoValue(self.at));
            }
            if !ascending {
                self.find_duplicate(first_key)?;
            }
            self.keys.truncate(first_key);
        }
        self.at += 1;
        Ok(())
    }

    /// Unsorted keys break the rules but are out there; only a key that stands twice is dangerous.
    fn find_duplicate(&mut self, first_key: usize) -> Result<(), RawError> {
        let keys = self.keys.get_mut(first_key..).unwrap_or_default();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(duplicate(pair.first().copied().unwrap_or_default())),
            None => Ok(()),
        }
    }

    fn key(&mut self) -> Result<(), RawError> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(RawError::Key(self.at));
        }
        let key = self.string()?;
        let outermost = self.frames.len() == 1;
        if let Some(Frame::Dict { first_key, wants_key, ascending }) = self.frames.last_mut() {
            *wants_key = false;
            if let Some(last) = self.keys.get(*first_key..).and_then(<[_]>::last) {
                *ascending &= *last < key;
            }
        }
        self.keys.push(key);
        if outermost && key == b"info" {
            self.info_start = Some(self.at);
        }
        Ok(())
    }

    fn value_ended(&mut self) {
        if let Some(Frame::Dict { wants_key, .. }) = self.frames.last_mut() {
            *wants_key = true;
        }
        if self.frames.len() == 1
            && let Some(start) = self.info_start.take()
        {
            self.info = Some(start..self.at);
        }
    }

    /// The digits from here on, and the byte after them.
    fn digits(&mut self) -> Result<(&'a [u8], u8), RawError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, after) = rest.split_at(count);
        self.at += count;
        after.first().map(|&byte| (digits, byte)).ok_or(RawError::Truncated(self.at))
    }

    fn integer(&mut self) -> Result<(), RawError> {
        let start = self.at;
        self.at += 1;
        let negative = self.bytes.get(self.at) == Some(&b'-');
        self.at += usize::from(negative);
        let (digits, end) = self.digits()?;
        let canonical = match digits {
            [b'0'] => !negative,
            [b'1'..=b'9', ..] => true,
            _ => false,
        };
        let text = self.bytes.get(start + 1..self.at).and_then(|b| std::str::from_utf8(b).ok());
        if !canonical || end != b'e' || text.is_none_or(|t| t.parse::<i64>().is_err()) {
            return Err(RawError::Integer(start));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<&'a [u8], RawError> {
        let start = self.at;
        let (digits, colon) = self.digits()?;
        if colon != b':' || matches!(digits, [b'0', _, ..]) {
            return Err(RawError::StringLength(start));
        }
        let length = std::str::from_utf8(digits).ok().and_then(|t| t.parse::<usize>().ok());
        let begin = self.at + 1;
        let end = length.and_then(|l| begin.checked_add(l)).ok_or(RawError::StringOverrun(start))?;
        let string = self.bytes.get(begin..end).ok_or(RawError::StringOverrun(start))?;
        self.at = end;
        Ok(string)
    }
}

fn duplicate(key: &[u8]) -> RawError {
    let text: String = String::from_utf8_lossy(key).chars().take(40).collect();
    RawError::DuplicateKey(printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_is_well_formed() {
        for good in ["i0e", "i-1e", "i9223372036854775807e", "0:", "le", "de", "d1:bi1e1:ai2ee", "li1e1:ad1:x0:ee\r\n"]
        {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn refuses_what_is_not() {
        let table: &[(&str, RawError)] = &[
            ("", RawError::Truncated(0)),
            ("i", RawError::Truncated(1)),
            ("i12", RawError::Truncated(3)),
            ("l", RawError::Truncated(1)),
            ("d1:a", RawError::Truncated(4)),
            ("12", RawError::Truncated(2)),
            ("x", RawError::Unexpected(0)),
            ("e", RawError::Unexpected(0)),
            ("ie", RawError::Integer(0)),
            ("i-e", RawError::Integer(0)),
            ("i-0e", RawError::Integer(0)),
            ("i01e", RawError::Integer(0)),
            ("i+1e", RawError::Integer(0)),
            ("i1.5e", RawError::Integer(0)),
            ("i9223372036854775808e", RawError::Integer(0)),
            ("01:a", RawError::StringLength(0)),
            ("1a", RawError::StringLength(0)),
            ("5:abcd", RawError::StringOverrun(0)),
            ("99999999999999999999999:a", RawError::StringOverrun(0)),
            ("18446744073709551615:a", RawError::StringOverrun(0)),
            ("di1e1:ae", RawError::Key(1)),
            ("dlei1ee", RawError::Key(1)),
            ("d1:ae", RawError::NoValue(4)),
            ("d1:ai1e1:ai1ee", RawError::DuplicateKey("a".into())),
            ("d1:bi1e1:ai1e1:bi1ee", RawError::DuplicateKey("b".into())),
            ("ld1:b0:1:a0:1:b0:ee", RawError::DuplicateKey("b".into())),
            ("i1ei2e", RawError::Trailing(3)),
            ("de x", RawError::Trailing(3)),
        ];
        for (bad, error) in table {
            assert_eq!(check(bad.as_bytes()).as_ref(), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_key_may_return_in_another_dictionary() {
        assert_eq!(check(b"ld1:ad1:ai1eeed1:ai1eee"), Ok(()));
    }

    #[test]
    fn depth_is_bounded_and_the_bound_itself_is_fine() {
        let nested = |depth: usize| ["l".repeat(depth), "e".repeat(depth)].concat();
        assert_eq!(check(nested(MESSAGE_DEPTH).as_bytes()), Ok(()));
        assert_eq!(check(nested(MESSAGE_DEPTH + 1).as_bytes()), Err(RawError::TooDeep(MESSAGE_DEPTH)));
        assert!(outline(nested(FILE_DEPTH).as_bytes()).is_ok());
        for bomb in [vec![b'l'; 1 << 20], b"d1:a".repeat(1 << 18)] {
            assert_eq!(outline(&bomb), Err(RawError::TooDeep(FILE_DEPTH)));
        }
    }

    #[test]
    fn finds_the_outermost_info_only() {
        let bytes = b"d1:ad4:infoi1ee4:infod1:xi7ee1:zi2ee\n";
        let found = outline(bytes).unwrap();
        assert_eq!(bytes.get(found.info.unwrap()), Some(&b"d1:xi7ee"[..]));
        assert_eq!(outline(b"ld4:infodeee").unwrap(), Outline { is_dict: false, info: None });
        assert_eq!(outline(b"d1:a4:infoe").unwrap(), Outline { is_dict: true, info: None });
    }

    #[test]
    fn prefix_stops_at_the_value() {
        assert_eq!(prefix(b"d8:msg_typei1eeDATA"), Ok(15));
        assert_eq!(prefix(b"d8:msg_type"), Err(RawError::Truncated(11)));
    }
}
