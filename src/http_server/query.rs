//! Query strings. Pure.

use percent_encoding::percent_decode;

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
    fn a_query_keeps_the_order_of_its_values() {
        let query = QueryString::new("a=1&b&a=%32+&=x&c=%zz");
        assert_eq!(query.all("a").collect::<Vec<_>>(), [b"1".as_slice(), b"2+"]);
        assert_eq!((query.first("b"), query.first("c"), query.first("")), (None, Some(&b"%zz"[..]), Some(&b"x"[..])));
    }
}
