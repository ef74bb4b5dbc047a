//! Percent-encoding in paths and queries. Pure.

use percent_encoding::percent_decode;

/// Decodes a path or a segment. `None` if an escape is invalid, or the result has a NUL or is no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_escape = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !(0..bytes.len()).filter(|&at| bytes[at] == b'%').all(is_escape) {
        return None;
    }
    let decoded = percent_decode(bytes).decode_utf8().ok()?;
    (!decoded.contains('\0')).then(|| decoded.into_owned())
}

/// The decoded segments of a path that begins with a slash; `None` if no file can have that path.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    let valid = |segment: &String| !matches!(segment.as_str(), "." | "..") && !segment.contains('/');
    path.strip_prefix('/')?.split('/').map(|segment| decode(segment).filter(valid)).collect()
}

/// The parameters of a query string, in order: keys as sent, values decoded to bytes.
#[derive(Debug)]
pub struct QueryString<'a>(Vec<(&'a str, Vec<u8>)>);

impl<'a> QueryString<'a> {
    /// Parses what follows the question mark. Leaves out what has no `=`; invalid escapes stand for themselves.
    pub fn new(query: &'a str) -> QueryString<'a> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        QueryString(pairs.map(|(key, value)| (key, percent_decode(value.as_bytes()).collect())).collect())
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(k, _)| *k == key).map(|(_, value)| value.as_slice())
    }

    /// The first value of a parameter.
    pub fn first(&self, key: &str) -> Option<&[u8]> {
        self.all(key).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_no_file_can_have_are_refused() {
        let of = |path: &str| segments(path).map(|segments| segments.join("|"));
        assert_eq!(of("/"), Some(String::new()));
        assert_eq!(of("/a/b%20c/%C3%A4").as_deref(), Some("a|b c|ä"));
        assert_eq!(of("/a//b/").as_deref(), Some("a||b|"));
        for bad in
            ["", "*", "a", "/..", "/a/../b", "/%2e%2E/x", "/.", "/a%2fb", "/a%00", "/%", "/%4", "/%zz", "/%+4", "/%ff"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_keeps_the_order_of_its_values() {
        let query = QueryString::new("a=1&b&a=%32+&=x&c=%zz");
        assert_eq!(query.all("a").collect::<Vec<_>>(), [b"1".as_slice(), b"2+"]);
        assert_eq!((query.first("b"), query.first("c"), query.first("")), (None, Some(&b"%zz"[..]), Some(&b"x"[..])));
    }
}
