//! Writes JSON straight into bytes. Responses for a thousand torrents are too large to build as a tree of values first.

use std::path::Path;

use serde::Serialize;

use crate::service::rpc::Dialect;
use crate::service::rpc::memory::{ReservedMemory, ResponseMemory};
use crate::util::base64;

/// Up to here, fractions have a place after the point.
const LARGEST_WHOLE: f64 = (1u64 << 53) as f64;

/// Writes one JSON document.
pub struct JsonWriter {
    out: Vec<u8>,
    dialect: Dialect,
    memory: Option<ReservedMemory>,
    /// What was written before this is kept if there is no memory for more.
    floor: usize,
    is_full: bool,
    /// Whether the memory does not matter for now.
    is_exempt: bool,
}

impl JsonWriter {
    /// A document with the names of a dialect.
    pub fn new(dialect: Dialect) -> JsonWriter {
        JsonWriter { out: Vec::new(), dialect, memory: None, floor: 0, is_full: false, is_exempt: false }
    }

    /// The same within the memory for responses. Without memory for more, it writes nothing further.
    pub fn within(memory: &ResponseMemory) -> JsonWriter {
        JsonWriter { memory: Some(memory.reserve()), ..JsonWriter::new(Dialect::JsonRpc) }
    }

    /// Whether there was no memory for all that was written since the last call of [`JsonWriter::keep`].
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Keeps what was written so far, whatever follows.
    pub fn keep(&mut self) {
        (self.floor, self.is_full) = (self.out.len(), false);
    }

    /// Writes something short even if there is no memory.
    pub fn exempt(&mut self, write: impl FnOnce(&mut JsonWriter)) {
        self.is_full = false;
        let before = std::mem::replace(&mut self.is_exempt, true);
        write(self);
        self.is_exempt = before;
    }

    /// The dialect of names.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Writes the following names in another dialect.
    pub fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// The length so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Removes all that was written after the first `length` bytes, and returns it.
    pub fn take_from(&mut self, length: usize) -> Vec<u8> {
        self.out.split_off(length.min(self.out.len()))
    }

    /// The document.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Begins an object.
    pub fn begin_object(&mut self) {
        self.separate();
        self.out.push(b'{');
    }

    /// Ends an object.
    pub fn end_object(&mut self) {
        self.out.push(b'}');
    }

    /// Begins an array.
    pub fn begin_array(&mut self) {
        self.separate();
        self.out.push(b'[');
    }

    /// Ends an array.
    pub fn end_array(&mut self) {
        self.out.push(b']');
    }

    /// A member's name that both dialects share.
    pub fn name(&mut self, name: &str) {
        self.string(name);
        self.out.push(b':');
    }

    /// A member's name, as each dialect spells it.
    pub fn either_name(&mut self, legacy: &str, json_rpc: &str) {
        self.name(match self.dialect {
            Dialect::Legacy => legacy,
            Dialect::JsonRpc => json_rpc,
        });
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.scalar(text);
    }

    /// A path; what is no Unicode in it is replaced.
    pub fn path(&mut self, path: &Path) {
        self.string(&path.to_string_lossy());
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.separate();
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A whole number. JSON's numbers have no limit, but clients read them as 64 bits with a sign.
    pub fn int(&mut self, value: impl TryInto<i64>) {
        self.scalar(&value.try_into().unwrap_or(i64::MAX));
    }

    /// A number that clients read as a fraction; 0 in place of what JSON cannot express. The legacy dialect writes 1 for 1.0, as
    /// Transmission did before 4.1: whoever reads fractions can read that, and the reverse is not true.
    pub fn float(&mut self, value: f64) {
        match value {
            value if !value.is_finite() => self.float(0.0),
            value if self.dialect == Dialect::Legacy && value.fract() == 0.0 && value.abs() < LARGEST_WHOLE => {
                self.scalar(&(value as i64));
            }
            value => self.scalar(&value),
        }
    }

    /// Bytes as a base64 string.
    pub fn base64(&mut self, bytes: &[u8]) {
        self.separate();
        self.out.push(b'"');
        base64::encode_into(bytes, &mut self.out);
        self.out.push(b'"');
    }

    /// A value of a request, as it came.
    pub fn value(&mut self, value: &serde_json::Value) {
        self.scalar(value);
    }

    /// Members or elements that are JSON already.
    pub fn raw(&mut self, json: &[u8]) {
        if !json.is_empty() {
            self.separate();
            self.out.extend_from_slice(json);
        }
    }

    /// An array, with one call of `write` for each item.
    pub fn array<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut JsonWriter, T)) {
        self.begin_array();
        for item in items {
            write(self, item);
        }
        self.end_array();
    }

    /// An object, whose members `write` adds.
    pub fn object(&mut self, write: impl FnOnce(&mut JsonWriter)) {
        self.begin_object();
        write(self);
        self.end_object();
    }

    fn scalar(&mut self, value: &(impl Serialize + ?Sized)) {
        self.separate();
        // Writing to a vector does not fail, and strings, numbers and values of requests have no keys that are not strings.
        let written = serde_json::to_writer(&mut self.out, value);
        debug_assert!(written.is_ok());
    }

    /// Writes a comma unless the last byte opens something. A string ends with its quote, so that no text is mistaken for a bracket.
    fn separate(&mut self) {
        let is_limited = !self.is_exempt;
        self.is_full |= is_limited && self.memory.as_mut().is_some_and(|memory| !memory.grow_to(self.out.len()));
        if self.is_full {
            self.out.truncate(self.floor);
        }
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':' | b',')) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut JsonWriter)) -> String {
        let mut to = JsonWriter::new(Dialect::Legacy);
        write(&mut to);
        String::from_utf8(to.into_bytes()).unwrap()
    }

    #[test]
    fn members_and_elements_are_separated() {
        let json = written(|to| {
            to.object(|to| {
                to.name("a");
                to.array([1, 2, 3], JsonWriter::int);
                to.either_name("camelCase", "snake_case");
                to.string("ends with [{:,");
                to.name("empty");
                to.object(|_| {});
                to.raw(b"\"raw\":null");
                to.raw(b"");
                to.name("b");
                to.bool(false);
            });
        });
        assert_eq!(json, r#"{"a":[1,2,3],"camelCase":"ends with [{:,","empty":{},"raw":null,"b":false}"#);
    }

    #[test]
    fn the_legacy_dialect_writes_whole_numbers_without_a_point() {
        let json = written(|to| to.array([1.0, -2.0, 0.0, 0.5, f64::NAN, 1e300], JsonWriter::float));
        assert_eq!(json, "[1,-2,0,0.5,0,1e+300]");
    }

    #[test]
    fn numbers_and_strings_are_json() {
        let json = written(|to| {
            to.set_dialect(Dialect::JsonRpc);
            to.begin_array();
            to.int(u64::MAX);
            to.int(-1);
            to.float(0.25);
            to.float(1.0);
            to.float(f64::NAN);
            to.float(f64::INFINITY);
            to.string("\"\n\u{1}\u{2028}\\");
            to.base64(b"f");
            to.end_array();
        });
        assert_eq!(json, "[9223372036854775807,-1,0.25,1.0,0.0,0.0,\"\\\"\\n\\u0001\u{2028}\\\\\",\"Zg==\"]");
    }
}
