//! Comparing secrets, and digests that only the holder of a key can make. Pure.

use sha1::{Digest as _, Sha1};

/// Compares in a time that does not depend on where the difference is.
pub fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

/// A digest of a message that nobody can make without the key. As in HMAC, the outer hash keeps others from extending messages.
pub fn keyed_digest(key: &[u8; 32], message: &[u8]) -> [u8; 20] {
    let inner = Sha1::new().chain_update(key).chain_update(message).finalize();
    Sha1::new().chain_update(key).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_bytes_are_equal() {
        assert!(is_equal(b"", b"") && is_equal(b"abc", b"abc"));
        assert!(!is_equal(b"abc", b"abd") && !is_equal(b"abc", b"ab") && !is_equal(b"", b"a"));
    }

    #[test]
    fn a_digest_depends_on_the_key_and_the_message() {
        let digest = keyed_digest(&[1; 32], b"message");
        assert_eq!(digest, keyed_digest(&[1; 32], b"message"));
        assert_ne!(digest, keyed_digest(&[2; 32], b"message"));
        assert_ne!(digest, keyed_digest(&[1; 32], b"messagf"));
    }
}
