//! The session id that protects the remote control from requests which a website makes in the user's browser: it cannot read our
//! answers, and so does not know the id that each request must repeat in a header.

use crate::util::random;
use crate::util::secrets::is_equal;

/// The header with the id.
pub const HEADER: &str = "X-Transmission-Session-Id";
/// The header with the version of the protocol, in responses with status 409.
pub const VERSION_HEADER: &str = "X-Transmission-Rpc-Version";

/// The length of an id, as Transmission's.
const LENGTH: usize = 48;
/// 64 characters, so that each byte's lowest six bits choose one without preference.
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The session id of one run of the service.
pub struct SessionId(String);

impl SessionId {
    /// A new one.
    pub fn generate() -> SessionId {
        let bytes: [u8; LENGTH] = random::bytes();
        SessionId(bytes.iter().map(|byte| char::from(CHARACTERS[usize::from(byte & 63)])).collect())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request has it. Takes the same time whatever a header of the right length says.
    pub fn is(&self, header: Option<&[u8]>) -> bool {
        header.is_some_and(|header| is_equal(header, self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_own() {
        let (one, other) = (SessionId::generate(), SessionId::generate());
        assert_ne!(one.as_str(), other.as_str());
        assert_eq!(one.as_str().len(), LENGTH);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    }

    #[test]
    fn only_the_whole_id_is_accepted() {
        let id = SessionId::generate();
        assert!(id.is(Some(id.as_str().as_bytes())));
        assert!(!id.is(None));
        assert!(!id.is(Some(b"")));
        assert!(!id.is(Some(&id.as_str().as_bytes()[1..])));
        let mut wrong = id.as_str().as_bytes().to_vec();
        wrong[LENGTH - 1] ^= 1;
        assert!(!id.is(Some(&wrong)));
    }
}
