//! Base64 (RFC 4648): credentials in HTTP headers, torrent files and piece states in JSON.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of a digit that is none.
const NO_DIGIT: u8 = 0xff;

/// The value of each byte as a digit. `-` and `_` of the URL-safe alphabet count too.
const VALUES: [u8; 256] = values();

/// The digits of `bytes`, padded with `=`.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    encode_into(bytes, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Appends the digits of `bytes` to `out`.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    for three in bytes.chunks(3) {
        let padded = three.iter().chain(&[0, 0]).take(3).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        for at in 0..4 {
            let digit = DIGITS[(padded >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= three.len() { digit } else { b'=' });
        }
    }
}

/// The bytes that `text` encodes, or `None` if it is not base64. Ignores white space, and does not insist on padding: programs
/// that break lines or leave the padding out are common.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut number, mut digits) = (0u32, 0);
    let mut rest = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for byte in rest.by_ref() {
        let value = VALUES[usize::from(byte)];
        if value == NO_DIGIT {
            if byte != b'=' {
                return None;
            }
            break;
        }
        number = number << 6 | u32::from(value);
        digits += 1;
        if digits == 4 {
            bytes.extend_from_slice(&number.to_be_bytes()[1..]);
            (number, digits) = (0, 0);
        }
    }
    if digits == 1 || rest.any(|byte| byte != b'=') {
        return None;
    }
    let last = (number << (6 * (4 - digits))).to_be_bytes();
    bytes.extend_from_slice(last.get(1..digits.max(1)).unwrap_or_default());
    Some(bytes)
}

const fn values() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut at = 0;
    while at < DIGITS.len() {
        values[DIGITS[at] as usize] = at as u8;
        at += 1;
    }
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("foobar", "Zm9vYmFy"),
        ("me:p\u{fc}", "bWU6cMO8"),
    ];

    #[test]
    fn bytes_become_digits_and_bytes_again() {
        for (text, encoded) in PAIRS {
            assert_eq!(encode(text.as_bytes()), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(text.as_bytes()));
            assert_eq!(decode(encoded.trim_end_matches('=')).as_deref(), Some(text.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).as_deref(), Some(&all[..]));
    }

    #[test]
    fn lines_may_be_broken() {
        assert_eq!(decode("Zm9v\r\nYm\nFy\n").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(decode(" Zg = =\n").as_deref(), Some(&b"f"[..]));
    }

    #[test]
    fn the_url_safe_alphabet_is_read_too() {
        assert_eq!(decode("-_8").as_deref(), Some(&[0xfb, 0xff][..]));
        assert_eq!(decode("+/8=").as_deref(), Some(&[0xfb, 0xff][..]));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["Z", "Zm9vY", "Zm9v!", "Zg==Zg==", "\u{fc}", "Zg==x"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
