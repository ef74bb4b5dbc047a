//! A minimal bencoder (BEP 3) for the torrents and tracker answers of the tests. Callers must pass keys in sorted order.

/// Encodes a byte string.
pub fn bytes(value: &[u8]) -> Vec<u8> {
    let mut out = format!("{}:", value.len()).into_bytes();
    out.extend_from_slice(value);
    out
}

/// Encodes an integer.
pub fn int(value: u64) -> Vec<u8> {
    format!("i{value}e").into_bytes()
}

/// Encodes a list of values that are already bencoded.
pub fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = vec![b'l'];
    items.into_iter().for_each(|item| out.extend(item));
    out.push(b'e');
    out
}

/// Encodes a dictionary of values that are already bencoded.
pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Vec<u8>)>) -> Vec<u8> {
    let mut out = vec![b'd'];
    for (key, value) in entries {
        out.extend(bytes(key.as_ref()));
        out.extend(value);
    }
    out.push(b'e');
    out
}
