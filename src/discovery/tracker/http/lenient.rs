//! A lenient bencode parser for tracker responses. Many trackers send slightly malformed bencode: an integer out of range, a
//! repeated key or trailing bytes must not invalidate the rest. It copies nothing and does not recurse. The strict parsers are in
//! [`crate::bencode`].

/// The deepest nesting of lists and dictionaries.
const MAX_DEPTH: usize = 32;
/// The most digits in a string's length.
const MAX_LENGTH_DIGITS: usize = 10;
/// The most characters in an integer.
const MAX_INTEGER: usize = 64;

/// A bencoded value; the contents of lists and dictionaries are parsed on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LenientValue<'a> {
    /// An integer; `None` if it is malformed or exceeds 64 bits.
    Int(Option<i64>),
    /// A string.
    Bytes(&'a [u8]),
    /// The bytes between a list's `l` and `e`.
    List(&'a [u8]),
    /// The bytes between a dictionary's `d` and `e`.
    Dict(&'a [u8]),
}

/// Parses the value at the start of `bytes`; returns it and the remaining bytes. `None` if it is malformed or incomplete.
pub(crate) fn value(bytes: &[u8]) -> Option<(LenientValue<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    match kind {
        b'i' => {
            let end = rest.iter().take(MAX_INTEGER).position(|&byte| byte == b'e')?;
            let text = std::str::from_utf8(rest.get(..end)?).unwrap_or_default();
            Some((LenientValue::Int(text.trim().parse().ok()), rest.get(end + 1..)?))
        }
        b'l' | b'd' => {
            let (inside, after) = enclosed(rest)?;
            Some((if kind == b'l' { LenientValue::List(inside) } else { LenientValue::Dict(inside) }, after))
        }
        _ => string(bytes).map(|(text, after)| (LenientValue::Bytes(text), after)),
    }
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().take(MAX_LENGTH_DIGITS + 1).position(|&byte| byte == b':')?;
    let digits = bytes.get(..colon).filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    bytes.get(colon + 1..)?.split_at_checked(length)
}

/// Splits the bytes after an opening `l` or `d` at the matching `e`.
fn enclosed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut rest, mut depth) = (bytes, 1);
    while depth > 0 {
        match rest.first()? {
            b'l' | b'd' => {
                depth += 1;
                rest = rest.get(1..)?;
            }
            b'e' => {
                depth -= 1;
                rest = rest.get(1..)?;
            }
            b'i' => rest = value(rest)?.1,
            _ => rest = string(rest)?.1,
        }
        if depth > MAX_DEPTH {
            return None;
        }
    }
    bytes
        .split_at_checked(bytes.len() - rest.len())
        .map(|(inside, after)| (inside.get(..inside.len() - 1).unwrap_or_default(), after))
}

/// The items of a list, up to the first malformed one.
pub(crate) fn items(list: &[u8]) -> impl Iterator<Item = LenientValue<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (item, after) = value(rest)?;
        rest = after;
        Some(item)
    })
}

/// The entries of a dictionary in their order, up to the first malformed one.
fn entries(dict: &[u8]) -> impl Iterator<Item = (&[u8], LenientValue<'_>)> {
    let mut rest = dict;
    std::iter::from_fn(move || {
        let (key, after) = string(rest)?;
        let (entry, after) = value(after)?;
        rest = after;
        Some((key, entry))
    })
}

/// The result of `read` for the first value with this key for which it is `Some`.
fn find<'a, T>(dict: &'a [u8], key: &[u8], read: impl Fn(LenientValue<'a>) -> Option<T>) -> Option<T> {
    entries(dict).filter(|(name, _)| *name == key).find_map(|(_, value)| read(value))
}

/// Whether the dictionary has this key, with any value.
pub(crate) fn has(dict: &[u8], key: &str) -> bool {
    find(dict, key.as_bytes(), |_| Some(())).is_some()
}

/// The integer with this key.
pub(crate) fn int(dict: &[u8], key: &str) -> Option<i64> {
    find(dict, key.as_bytes(), |value| if let LenientValue::Int(number) = value { number } else { None })
}

/// The string with this key.
pub(crate) fn bytes<'a>(dict: &'a [u8], key: &str) -> Option<&'a [u8]> {
    find(dict, key.as_bytes(), |value| if let LenientValue::Bytes(text) = value { Some(text) } else { None })
}

/// The list with this key.
pub(crate) fn list<'a>(dict: &'a [u8], key: &str) -> Option<&'a [u8]> {
    find(dict, key.as_bytes(), |value| if let LenientValue::List(list) = value { Some(list) } else { None })
}

/// The dictionary with this key, which may be any bytes.
pub(crate) fn dict<'a>(dict: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    find(dict, key, |value| if let LenientValue::Dict(inner) = value { Some(inner) } else { None })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(bytes: &[u8]) -> &[u8] {
        match value(bytes) {
            Some((LenientValue::Dict(inside), _)) => inside,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_are_found_and_mistakes_cost_themselves() {
        let dict_ = content(
            b"d1:ai5e1:bi99999999999999999999e1:bi7e1:ci-0e1:c1:x1:d2:xy1:dli1ei2ee1:ed1:fi-3ee1:gi 8 e1:hi1.5e1:h0:1:zlee<html>",
        );
        assert_eq!(int(dict_, "a"), Some(5));
        assert_eq!(int(dict_, "b"), Some(7), "the one that fits");
        assert_eq!((int(dict_, "c"), bytes(dict_, "c")), (Some(0), Some(&b"x"[..])));
        assert_eq!(bytes(dict_, "d"), Some(&b"xy"[..]));
        let numbers: Vec<_> = items(list(dict_, "d").unwrap()).collect();
        assert_eq!(numbers, [LenientValue::Int(Some(1)), LenientValue::Int(Some(2))]);
        assert_eq!(int(dict(dict_, b"e").unwrap(), "f"), Some(-3));
        assert_eq!((int(dict_, "g"), int(dict_, "h"), int(dict_, "missing")), (Some(8), None, None));
        assert!(has(dict_, "h") && !has(dict_, "f"));
        assert_eq!(list(dict_, "z"), Some(&b""[..]));
    }

    #[test]
    fn truncated_values_are_refused() {
        for bad in ["", "d", "d1:a", "d1:ai5e", "5:abc", "i5", "x", "li5", "99999999999:x", "-1:x", ":", "e"] {
            assert_eq!(value(bad.as_bytes()), None, "{bad}");
        }
        let deep = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        assert!(value(&deep(MAX_DEPTH)).is_some() && value(&deep(MAX_DEPTH + 1)).is_none());
        assert!(value(&deep(500_000)).is_none());
        assert_eq!(value(&[&b"i"[..], &[b'1'; 1000], b"e"].concat()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes_ in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text: Vec<u8> = bytes_.iter().map(|b| b"dlei0123456789:abc"[usize::from(*b) % 18]).collect();
            for input in [&bytes_, &text] {
                if let Some((LenientValue::Dict(inside) | LenientValue::List(inside), rest)) = value(input) {
                    prop_assert!(inside.len() + rest.len() < input.len());
                    items(inside).for_each(drop);
                    entries(inside).for_each(drop);
                }
            }
        }
    }
}
