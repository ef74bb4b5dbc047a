//! Writes bencode: the few forms that torrent files, messages and the DHT need. The caller must write a dictionary's keys in order.

/// Appends a byte string.
pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
}

/// Appends an integer of any type.
pub(crate) fn int(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    out.extend_from_slice(format!("i{value}e").as_bytes());
}

/// Appends a list whose items `entry` appends.
pub(crate) fn list<T>(out: &mut Vec<u8>, items: &[T], entry: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'l');
    for item in items {
        entry(out, item);
    }
    out.push(b'e');
}

/// Appends a list of strings.
pub(crate) fn strings(out: &mut Vec<u8>, items: &[String]) {
    list(out, items, |out, item| bytes(out, item.as_bytes()));
}
