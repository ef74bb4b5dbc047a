//! Message stream encryption (MSE/PE), an obfuscation that clients agree on without a BEP: a key exchange without any fixed byte,
//! after which the connection continues in plain text or with RC4 in both directions. It hides the protocol from networks that
//! throttle it. It does not protect against anybody who knows the info-hash or who can modify the traffic.
//!
//! ```text
//! initiator: Ya, PadA
//! responder: Yb, PadB
//! initiator: HASH('req1', S), HASH('req2', SKEY) xor HASH('req3', S),
//!            ENCRYPT(VC, crypto_provide, len(PadC), PadC, len(IA)), ENCRYPT(IA)
//! responder: ENCRYPT(VC, crypto_select, len(PadD), PadD), then the payload
//! ```
//!
//! [`Initiator`] and [`Responder`] are state machines without a socket: the caller feeds them received bytes and sends the bytes
//! that they produce. They consume exactly the handshake. The bytes after it are the payload, which the caller decrypts with
//! [`MseOutcome::ciphers`]. `peer::encryption` connects the state machines to a socket.

mod expected_input;
mod initiator;
mod keys;
mod rc4;
mod responder;
#[cfg(test)]
mod tests;

pub use initiator::Initiator;
pub use keys::{KEY_LENGTH, KeyMaterial, obfuscated_info_hash};
pub use rc4::Rc4;
pub use responder::Responder;

/// The longest padding, in bytes.
pub const MAX_PAD: usize = 512;
/// The longest `IA` that we accept, in bytes: a handshake and the messages that a peer may send directly after it, such as a
/// bitfield.
pub const MAX_INITIAL: usize = 8 * 1024;
/// Bits of `crypto_provide` and `crypto_select`.
const PLAINTEXT: u32 = 1;
const RC4: u32 = 2;
/// The verification constant: eight zeros.
const VC: [u8; 8] = [0; 8];

/// The payload encodings that we accept after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoMethods {
    /// Plain text or RC4. As the responder we select plain text if the initiator provides it: it costs less, and the key exchange
    /// has already hidden the start of the connection.
    PlaintextOrRc4,
    /// RC4 only.
    Rc4Only,
}

impl CryptoMethods {
    /// The value of `crypto_provide`.
    fn bits(self) -> u32 {
        match self {
            CryptoMethods::PlaintextOrRc4 => PLAINTEXT | RC4,
            CryptoMethods::Rc4Only => RC4,
        }
    }

    /// The value of `crypto_select`, given the initiator's `crypto_provide`.
    fn select(self, provided: u32) -> Result<u32, MseError> {
        [PLAINTEXT, RC4].into_iter().find(|bit| provided & self.bits() & bit != 0).ok_or(MseError::NoCommonMethod)
    }
}

/// Why a handshake failed. The state machine that returned the error cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    /// The public key is not a valid one.
    #[error("the public key is invalid")]
    Key,
    /// The synchronization mark did not follow the padding: the other side speaks another protocol, or does not know the torrent.
    #[error("no synchronisation mark within 512 bytes of padding")]
    NotSynchronized,
    /// The initiator asks for a torrent that the responder does not offer.
    #[error("another torrent")]
    AnotherTorrent,
    /// The verification constant is wrong.
    #[error("the encrypted part begins with something other than eight zeros")]
    Verification,
    /// `PadC` or `PadD` is too long.
    #[error("{0} bytes of padding, but at most 512 are allowed")]
    Padding(u16),
    /// `IA` is too long.
    #[error("{0} bytes of initial payload are too many")]
    Initial(u16),
    /// The initiator provides no method that we accept.
    #[error("no common encryption method")]
    NoCommonMethod,
    /// The responder selected a method that we did not provide, or more than one.
    #[error("the peer selected an encryption method that was not offered: {0:#x}")]
    Selected(u32),
}

/// One keystream per direction.
#[derive(Debug)]
pub struct Ciphers {
    /// Encrypts the bytes that we send.
    pub sending: Rc4,
    /// Decrypts the bytes that we receive.
    pub receiving: Rc4,
}

/// The result of a handshake.
#[derive(Debug)]
pub struct MseOutcome {
    /// The ciphers for the payload; `None` if the payload is plain text.
    pub ciphers: Option<Ciphers>,
    /// The first bytes of the initiator's payload, decrypted. Always empty on the initiator's side.
    pub initial: Vec<u8>,
}

impl MseOutcome {
    fn new(selected: u32, ciphers: Ciphers, initial: Vec<u8>) -> MseOutcome {
        MseOutcome { ciphers: (selected == RC4).then_some(ciphers), initial }
    }
}

/// Whether an incoming connection that starts with `bytes` uses the plain handshake of BEP 3; `None` while the bytes decide
/// neither. A random public key starts like a plain handshake once in 2^160.
pub fn detect_plaintext(bytes: &[u8]) -> Option<bool> {
    const PLAIN: &[u8] = b"\x13BitTorrent protocol";
    if bytes.starts_with(PLAIN) {
        Some(true)
    } else if PLAIN.starts_with(bytes) {
        None
    } else {
        Some(false)
    }
}

/// Reads four bytes at `at` as a big-endian number; 0 if `bytes` is too short.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

/// Reads two bytes at `at` as a big-endian number; 0 if `bytes` is too short.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_be_bytes(*two))
}

/// Checks a received padding length against [`MAX_PAD`].
fn pad_length(length: u16) -> Result<usize, MseError> {
    if usize::from(length) > MAX_PAD { Err(MseError::Padding(length)) } else { Ok(usize::from(length)) }
}
