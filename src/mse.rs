//! Message stream encryption (MSE/PE), the obfuscation that clients agree on without a BEP: a key exchange without any fixed
//! byte, after which the connection is plain again or RC4 in both directions. It hides the protocol from whoever throttles it;
//! it is no protection against anybody who knows the torrent or sits in the middle.
//!
//! ```text
//! initiator: Ya, PadA
//! responder: Yb, PadB
//! initiator: HASH('req1', S), HASH('req2', SKEY) xor HASH('req3', S),
//!            ENCRYPT(VC, crypto_provide, len(PadC), PadC, len(IA)), ENCRYPT(IA)
//! responder: ENCRYPT(VC, crypto_select, len(PadD), PadD), then the payload
//! ```
//!
//! [`Initiator`] and [`Responder`] are fed with bytes and give bytes to send. They take exactly the bytes of the handshake: what
//! follows is the payload, for [`MseOutcome::ciphers`] to decrypt. `peer::encryption` lends them a socket.

mod expected_input;
mod initiator;
mod keys;
mod rc4;
mod responder;
#[cfg(test)]
mod tests;

pub use initiator::Initiator;
pub use keys::{KEY_LENGTH, RandomSource};
pub use rc4::Rc4;
pub use responder::Responder;

/// The longest padding, in bytes.
pub const MAX_PAD: usize = 512;
/// The longest `IA` we take: a handshake and whatever a peer sends right behind it, such as a bitfield. In bytes.
pub const MAX_INITIAL: usize = 8 * 1024;
/// Bits of `crypto_provide` and `crypto_select`.
const PLAINTEXT: u32 = 1;
const RC4: u32 = 2;
/// The verification constant: eight zeros.
const VC: [u8; 8] = [0; 8];

/// What kind of payload we would have after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptoMethods {
    /// Plain or RC4. As the responder we choose plain where it is offered: it is cheaper, and the disguise has been seen.
    Either,
    /// Nothing but RC4.
    Rc4Only,
}

impl CryptoMethods {
    /// `crypto_provide`.
    fn bits(self) -> u32 {
        match self {
            CryptoMethods::Either => PLAINTEXT | RC4,
            CryptoMethods::Rc4Only => RC4,
        }
    }

    /// `crypto_select` for what the other side provides.
    fn select(self, provided: u32) -> Result<u32, MseError> {
        [PLAINTEXT, RC4].into_iter().find(|bit| provided & self.bits() & bit != 0).ok_or(MseError::NoCommonMethod)
    }
}

/// Why a handshake cannot go on. The state machine that said so is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    /// The public key is none.
    #[error("the public key is not one")]
    Key,
    /// The mark after the padding did not come: the other side speaks something else, or does not know the torrent.
    #[error("no mark within 512 bytes of padding")]
    NotSynchronized,
    /// The initiator means another torrent, or one that it is not to be had for.
    #[error("another torrent")]
    AnotherTorrent,
    /// The verification constant is wrong.
    #[error("the encrypted part begins with something other than eight zeros")]
    Verification,
    /// `PadC` or `PadD` is too long.
    #[error("{0} bytes of padding, where 512 are allowed")]
    Padding(u16),
    /// `IA` is too long.
    #[error("{0} bytes of initial payload")]
    Initial(u16),
    /// They provide nothing that we accept.
    #[error("no common kind of payload")]
    NoCommonMethod,
    /// They selected what we had not provided, or more than one thing.
    #[error("the peer selected a kind of payload that it was not offered: {0:#x}")]
    Selected(u32),
}

/// One keystream for each direction.
#[derive(Debug)]
pub struct Ciphers {
    /// For what we send.
    pub sending: Rc4,
    /// For what we receive.
    pub receiving: Rc4,
}

/// What a handshake led to.
#[derive(Debug)]
pub struct MseOutcome {
    /// For the payload that follows; `None` where that is plain.
    pub ciphers: Option<Ciphers>,
    /// The first bytes of the initiator's payload, decrypted; empty for the initiator itself.
    pub initial: Vec<u8>,
}

impl MseOutcome {
    fn new(selected: u32, ciphers: Ciphers, initial: Vec<u8>) -> MseOutcome {
        MseOutcome { ciphers: (selected == RC4).then_some(ciphers), initial }
    }
}

/// Whether an incoming connection that begins with `bytes` is plain (BEP 3) as far as one can see; `None` while that is open.
/// A public key begins like a plain handshake once in 2^160.
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

/// The big-endian number of four bytes at `at`; 0 where there are none.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

/// The big-endian number of two bytes at `at`; 0 where there are none.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_be_bytes(*two))
}

/// A length as it stands in a padded part, where it is allowed.
fn pad_length(length: u16) -> Result<usize, MseError> {
    if usize::from(length) > MAX_PAD { Err(MseError::Padding(length)) } else { Ok(usize::from(length)) }
}
