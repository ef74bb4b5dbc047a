//! Bytes as hexadecimal digits.

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// The bytes of exactly `2 * N` hexadecimal digits, in lower or upper case.
pub fn from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_two_digits_each() {
        assert_eq!(hex(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(hex(&[]), "");
        assert_eq!(from_hex("000fA5ff"), Some([0, 0x0f, 0xa5, 0xff]));
        assert_eq!(from_hex(""), Some([]));
    }

    #[test]
    fn other_text_is_no_bytes() {
        for text in ["", "ff", "fff", "fffff", "ffffff", "+fff", "0x0f", " fff", "g0ff", "éé", "fféé"] {
            assert_eq!(from_hex::<2>(text), None, "{text}");
        }
    }
}
