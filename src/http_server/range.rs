//! Range requests with one range (RFC 9110, section 14), and validators of a representation (section 13). Pure.

use std::ops::Range;

use crate::http_server::request::RequestHead;

/// What a request wants of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedRange {
    /// All of it: there is no range, or none that this server understands.
    Whole,
    /// These bytes; never empty.
    Part(Range<u64>),
    /// Bytes beyond its end.
    Unsatisfiable,
}

/// What a request wants of a representation of this length. Ignores several ranges, which the standard allows, and every range
/// with `If-Range`, because this server cannot tell whether the client's part is still current.
pub fn requested_range(head: &RequestHead, length: u64) -> RequestedRange {
    if head.method() != "GET" || head.header_values("If-Range").next().is_some() {
        return RequestedRange::Whole;
    }
    head.header("Range").map_or(RequestedRange::Whole, |value| parse_range(value, length))
}

fn parse_range(value: &str, length: u64) -> RequestedRange {
    let Some((unit, set)) = value.split_once('=') else { return RequestedRange::Whole };
    let Some((first, last)) = set.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes")) else {
        return RequestedRange::Whole;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return RequestedRange::Whole,
    };
    if range.start < range.end { RequestedRange::Part(range) } else { RequestedRange::Unsatisfiable }
}

/// A number of digits only; one that is too large counts as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether the client already has the representation with this entity tag (`If-None-Match`). The tag includes its quotes, as in
/// the header `ETag`; the comparison is weak.
pub fn has_current(head: &RequestHead, etag: &str) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let own = strong(etag);
    head.is_get_or_head()
        && head.header_values("If-None-Match").any(|value| {
            let value = String::from_utf8_lossy(value);
            value.trim() == "*" || value.split(',').any(|tag| strong(tag) == own)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server::head;
    use crate::http_server::request::ClientAddress;

    fn request(lines: &str) -> RequestHead {
        head::parse(format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n").into_bytes(), ClientAddress::Unix).unwrap().head
    }

    #[test]
    fn one_range_is_understood() {
        use RequestedRange::{Part, Unsatisfiable, Whole};
        let of = |value: &str| requested_range(&request(&format!("Range: {value}")), 100);
        assert_eq!(of("bytes=0-9"), Part(0..10));
        assert_eq!(of("bytes=90-"), Part(90..100));
        assert_eq!(of("Bytes= 99-1000"), Part(99..100));
        assert_eq!(of("bytes=-1"), Part(99..100));
        assert_eq!(of("bytes=-1000"), Part(0..100));
        assert_eq!(of("bytes=0-99999999999999999999999"), Part(0..100));
        assert_eq!(of("bytes=0-18446744073709551615"), Part(0..100));
        for beyond in ["bytes=100-", "bytes=-0", "bytes=100-200", "bytes=99999999999999999999-"] {
            assert_eq!(of(beyond), Unsatisfiable, "{beyond}");
        }
        for odd in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=", "5-6", "bytes=+1-2", "bytes=1--2"] {
            assert_eq!(of(odd), Whole, "{odd}");
        }
        assert_eq!(requested_range(&request("Range: bytes=0-"), 0), Unsatisfiable);
        assert_eq!(requested_range(&request("Range: bytes=0-1\r\nIf-Range: \"x\""), 100), Whole);
    }

    #[test]
    fn entity_tags_are_compared_weakly() {
        let has = |line: &str| has_current(&request(line), "\"v1\"");
        assert!(has("If-None-Match: \"v1\""));
        assert!(has("If-None-Match: \"v0\", W/\"v1\""));
        assert!(has("If-None-Match: *"));
        assert!(!has("If-None-Match: \"v2\"") && !has("If-None-Match: v1") && !has("If-Match: \"v1\""));
    }
}
