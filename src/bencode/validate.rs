//! Checks untrusted bencode in messages and responses before `serde_bencode` reads it, which recurses without a limit and takes
//! the last of two equal keys. `bencode::scan` does the scanning.

use crate::bencode::scan::{ScanError, Scanner};

/// The maximum nesting of lists and dictionaries in a message or a tracker's response.
pub const MESSAGE_DEPTH: usize = 32;

/// The maximum nesting in a torrent file: a `file tree` (BEP 52) takes a level for every part of a path, of which there may be 100.
pub const FILE_DEPTH: usize = 108;

/// Why bytes are not bencode, or not acceptable; positions are in bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BencodeError {
    /// The input ends within a value, or is empty.
    #[error("not bencode: it ends in the middle of a value, at byte {0}")]
    Truncated(usize),
    /// A byte that cannot start a value, where a value must start.
    #[error("not bencode: unexpected byte at {0}")]
    Unexpected(usize),
    /// An integer without digits, with leading zeros, minus zero, or one that does not fit into 64 bits.
    #[error("not bencode: malformed integer at byte {0}")]
    Integer(usize),
    /// A malformed string length.
    #[error("not bencode: malformed string length at byte {0}")]
    StringLength(usize),
    /// A string claims to be longer than the rest of the input.
    #[error("not bencode: the string at byte {0} is longer than the rest of the file")]
    StringOverrun(usize),
    /// A dictionary's key is not a string.
    #[error("not bencode: a dictionary's key at byte {0} is not a string")]
    Key(usize),
    /// A dictionary ends after a key.
    #[error("not bencode: a dictionary's key has no value at byte {0}")]
    NoValue(usize),
    /// A dictionary has a key twice, so that two parsers could read different values.
    #[error("not bencode: the key `{0}` occurs twice in one dictionary")]
    DuplicateKey(String),
    /// A key is longer than any in use.
    #[error("unsupported bencode: the key at byte {0} is too long")]
    KeyTooLong(usize),
    /// A dictionary with very many keys is not sorted as it must be: finding a duplicate key would then take too much memory.
    #[error("unsupported bencode: in a dictionary with very many keys, the key at byte {0} is out of order")]
    Unsorted(usize),
    /// Lists and dictionaries are nested too deeply.
    #[error("unsupported bencode: nested more than {0} deep")]
    TooDeep(usize),
    /// A short message has more values than any client needs.
    #[error("unsupported bencode: too many values, at byte {0}")]
    TooMany(usize),
    /// More bytes follow the value.
    #[error("not bencode: data follows the end, at byte {0}")]
    Trailing(usize),
}

/// Checks that `bytes` are one bencoded value, safe for `serde_bencode`: a tracker's response, an extension message.
///
/// # Errors
/// If it is malformed, nested deeper than [`MESSAGE_DEPTH`], or has a key twice.
pub fn check(bytes: &[u8]) -> Result<(), BencodeError> {
    walk(bytes, true, usize::MAX).map(|_| ())
}

/// Like [`check`] for a peer's message, with at most `max_values` values including those of inner lists and dictionaries. Stops
/// at the first value beyond that, so that a message of many tiny values costs no more than a normal one.
///
/// # Errors
/// Those of [`check`], and [`BencodeError::TooMany`].
pub fn check_limited(bytes: &[u8], max_values: usize) -> Result<(), BencodeError> {
    walk(bytes, true, max_values).map(|_| ())
}

/// The length of the first value in `bytes`, checked like [`check`]; ignores the bytes after it (BEP 9 appends a piece of
/// metadata to a dictionary).
///
/// # Errors
/// Those of [`check`], except [`BencodeError::Trailing`].
pub fn prefix(bytes: &[u8]) -> Result<usize, BencodeError> {
    walk(bytes, false, usize::MAX)
}

fn walk(bytes: &[u8], reads_to_end: bool, max_values: usize) -> Result<usize, BencodeError> {
    let mut scanner = Scanner::new(bytes, MESSAGE_DEPTH);
    scanner.remaining_values = max_values;
    let value = scanner.value().and_then(|value| scanner.skip(value)).map(|()| scanner.position());
    let all = value.and_then(|length| if reads_to_end { scanner.end().map(|()| length) } else { Ok(length) });
    all.map_err(|error| match error {
        ScanError::Bencode(error) => error,
        // Cannot happen: reading from memory does not fail.
        ScanError::Io(_) => BencodeError::Truncated(scanner.position()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_well_formed_bencode() {
        for good in ["i0e", "i-1e", "i9223372036854775807e", "0:", "le", "de", "d1:bi1e1:ai2ee", "li1e1:ad1:x0:ee\r\n"]
        {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn refuses_malformed_bencode() {
        let table: &[(&str, BencodeError)] = &[
            ("", BencodeError::Truncated(0)),
            ("i", BencodeError::Truncated(1)),
            ("i12", BencodeError::Truncated(3)),
            ("l", BencodeError::Truncated(1)),
            ("d1:a", BencodeError::Truncated(4)),
            ("12", BencodeError::Truncated(2)),
            ("x", BencodeError::Unexpected(0)),
            ("e", BencodeError::Unexpected(0)),
            ("ie", BencodeError::Integer(0)),
            ("i-e", BencodeError::Integer(0)),
            ("i-0e", BencodeError::Integer(0)),
            ("i01e", BencodeError::Integer(0)),
            ("i+1e", BencodeError::Integer(0)),
            ("i1.5e", BencodeError::Integer(0)),
            ("i9223372036854775808e", BencodeError::Integer(0)),
            ("01:a", BencodeError::StringLength(0)),
            ("1a", BencodeError::StringLength(0)),
            ("5:abcd", BencodeError::StringOverrun(0)),
            ("99999999999999999999999:a", BencodeError::StringOverrun(0)),
            ("18446744073709551615:a", BencodeError::StringOverrun(0)),
            ("di1e1:ae", BencodeError::Key(1)),
            ("dlei1ee", BencodeError::Key(1)),
            ("d1:ae", BencodeError::NoValue(4)),
            ("d1:ai1e1:ai1ee", BencodeError::DuplicateKey("a".into())),
            ("d1:bi1e1:ai1e1:bi1ee", BencodeError::DuplicateKey("b".into())),
            ("ld1:b0:1:a0:1:b0:ee", BencodeError::DuplicateKey("b".into())),
            ("i1ei2e", BencodeError::Trailing(3)),
            ("de x", BencodeError::Trailing(3)),
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
        assert_eq!(check(nested(MESSAGE_DEPTH + 1).as_bytes()), Err(BencodeError::TooDeep(MESSAGE_DEPTH)));
        for bomb in [vec![b'l'; 1 << 20], b"d1:a".repeat(1 << 18)] {
            assert_eq!(check(&bomb), Err(BencodeError::TooDeep(MESSAGE_DEPTH)));
        }
    }

    #[test]
    fn remembered_keys_are_bounded() {
        let dict = |keys: &mut dyn Iterator<Item = u32>| {
            let body: Vec<String> = keys.map(|key| format!("8:{key:08}0:")).collect();
            format!("d{}e", body.concat())
        };
        let many = 100_000;
        assert_eq!(check(dict(&mut (0..many)).as_bytes()), Ok(()));
        assert_eq!(check(dict(&mut (0..1000).rev()).as_bytes()), Ok(()));
        let late = dict(&mut (0..many).chain([5]));
        assert_eq!(check(late.as_bytes()), Err(BencodeError::Unsorted(1 + 12 * many as usize)));
        assert!(matches!(check(dict(&mut (0..many).rev()).as_bytes()), Err(BencodeError::Unsorted(_))));
        assert_eq!(
            check(dict(&mut (0..many).chain([many - 1])).as_bytes()),
            Err(BencodeError::DuplicateKey("00099999".into()))
        );
        // The keys of the outer dictionary are kept, whether or not the limit is reached.
        let inner = dict(&mut (0..many));
        assert_eq!(check(format!("d1:b{inner}1:a{inner}e").as_bytes()), Ok(()));
        assert_eq!(
            check(format!("d1:b{inner}1:a{inner}1:b0:e").as_bytes()),
            Err(BencodeError::DuplicateKey("b".into()))
        );
        let long = format!("d5000:{}0:e", "x".repeat(5000));
        assert_eq!(check(long.as_bytes()), Err(BencodeError::KeyTooLong(1)));
    }

    #[test]
    fn many_values_are_refused_where_few_are_expected() {
        assert_eq!(check_limited(b"d1:ai1e1:bli1ei2eee", 5), Ok(()));
        assert_eq!(check_limited(b"d1:ai1e1:bli1ei2eee", 4), Err(BencodeError::TooMany(14)));
        assert_eq!(
            check_limited(format!("l{}e", "le".repeat(30_000)).as_bytes(), 256),
            Err(BencodeError::TooMany(511))
        );
    }

    #[test]
    fn prefix_stops_at_the_value() {
        assert_eq!(prefix(b"d8:msg_typei1eeDATA"), Ok(15));
        assert_eq!(prefix(b"5:abcdeDATA"), Ok(7));
        assert_eq!(prefix(b"d8:msg_type"), Err(BencodeError::Truncated(11)));
    }
}
