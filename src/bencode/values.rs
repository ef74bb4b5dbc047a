//! Small bencoded dictionaries from untrusted sources, such as messages and trackers' responses: `validate` checks them,
//! `serde_bencode` reads them, and callers look up keys. An invalid value only affects its own key. Torrent files are too large
//! for this: `metainfo::decode` reads them.

use std::collections::HashMap;

use serde_bencode::value::Value;

use crate::bencode::validate;
use crate::bencode::validate::BencodeError;

/// A dictionary as `serde_bencode` reads it.
pub type Dict = HashMap<Vec<u8>, Value>;

/// Reads a dictionary; `None` if the value is not one.
///
/// # Errors
/// Those of [`validate::check`].
pub fn dictionary(bytes: &[u8]) -> Result<Option<Dict>, BencodeError> {
    // serde_bencode recurses, so check the depth first.
    validate::check(bytes)?;
    Ok(read(bytes))
}

/// Reads a dictionary of at most `max_values` values, including those of inner lists and dictionaries; `None` if the value is not
/// a dictionary.
///
/// # Errors
/// Those of [`validate::check_limited`].
pub fn small_dictionary(bytes: &[u8], max_values: usize) -> Result<Option<Dict>, BencodeError> {
    validate::check_limited(bytes, max_values)?;
    Ok(read(bytes))
}

fn read(bytes: &[u8]) -> Option<Dict> {
    match serde_bencode::from_bytes(bytes) {
        Ok(Value::Dict(dict)) => Some(dict),
        _ => None,
    }
}

/// The string at a key, if there is one.
pub fn bytes<'a>(dict: &'a Dict, key: &str) -> Option<&'a [u8]> {
    match dict.get(key.as_bytes()) {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}

/// The integer at a key, if there is one.
pub fn int(dict: &Dict, key: &str) -> Option<i64> {
    match dict.get(key.as_bytes()) {
        Some(Value::Int(int)) => Some(*int),
        _ => None,
    }
}

/// The dictionary at a key, if there is one.
pub fn nested<'a>(dict: &'a Dict, key: &str) -> Option<&'a Dict> {
    match dict.get(key.as_bytes()) {
        Some(Value::Dict(dict)) => Some(dict),
        _ => None,
    }
}

/// The items of the list at a key; empty if there is no list.
pub fn list<'a>(dict: &'a Dict, key: &str) -> &'a [Value] {
    match dict.get(key.as_bytes()) {
        Some(Value::List(list)) => list,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_type_counts_as_missing() {
        let dict = dictionary(b"d1:bi7e1:l2:xye").unwrap().unwrap();
        assert_eq!((bytes(&dict, "l"), bytes(&dict, "b"), bytes(&dict, "x")), (Some(&b"xy"[..]), None, None));
        assert_eq!((int(&dict, "b"), int(&dict, "l"), int(&dict, "x")), (Some(7), None, None));
        let dict = dictionary(b"d1:lli1ei2eee").unwrap().unwrap();
        assert_eq!((list(&dict, "l").len(), list(&dict, "x").len()), (2, 0));
        let dict = dictionary(b"d1:dd1:ai1ee1:li2ee").unwrap().unwrap();
        assert_eq!((nested(&dict, "d").and_then(|d| int(d, "a")), nested(&dict, "l")), (Some(1), None));
    }

    #[test]
    fn only_a_sound_dictionary_is_one() {
        assert_eq!(dictionary(b"i1e"), Ok(None));
        assert_eq!(dictionary(b"d1:ai1e1:ai1ee"), Err(BencodeError::DuplicateKey("a".into())));
        assert_eq!(dictionary(&b"l".repeat(1 << 20)), Err(BencodeError::TooDeep(validate::MESSAGE_DEPTH)));
    }
}
