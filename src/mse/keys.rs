//! The key exchange of message stream encryption: Diffie-Hellman over a fixed 768-bit prime, and the hashes derived from the
//! shared secret.

use num_bigint::BigUint;
use sha1::{Digest, Sha1};

use crate::mse::rc4::Rc4;
use crate::mse::{MAX_PAD, MseError};
use crate::types::InfoHash;
use crate::util::random::Random;

/// The length of a public key and of the shared secret, in bytes.
pub const KEY_LENGTH: usize = 96;
/// The length of a private key, in bytes.
const PRIVATE_KEY_LENGTH: usize = 20;
/// The prime, most significant word first.
const PRIME: [u32; KEY_LENGTH / 4] = [
    0xffff_ffff,
    0xffff_ffff,
    0xc90f_daa2,
    0x2168_c234,
    0xc4c6_628b,
    0x80dc_1cd1,
    0x2902_4e08,
    0x8a67_cc74,
    0x020b_bea6,
    0x3b13_9b22,
    0x514a_0879,
    0x8e34_04dd,
    0xef95_19b3,
    0xcd3a_431b,
    0x302b_0a6d,
    0xf25f_1437,
    0x4fe1_356d,
    0x6d51_c245,
    0xe485_b576,
    0x625e_7ec6,
    0xf44c_42e9,
    0xa63a_3621,
    0x0000_0000,
    0x0009_0563,
];

fn prime() -> BigUint {
    BigUint::new(PRIME.iter().rev().copied().collect())
}

/// The random values of one side for one handshake.
#[derive(Clone)]
pub struct KeyMaterial {
    /// The private key.
    pub private: [u8; PRIVATE_KEY_LENGTH],
    /// `PadA` or `PadB`, the padding after the public key: at most 512 bytes.
    pub pad: Vec<u8>,
    /// The length of `PadC` or `PadD`, the zeros that pad the encrypted part: at most 512.
    pub zeros: u16,
}

impl KeyMaterial {
    /// Draws the values. The private key must be unpredictable: anyone who knows it can decrypt the connection.
    pub fn new(random: &mut Random) -> KeyMaterial {
        let mut private = [0; PRIVATE_KEY_LENGTH];
        random.fill(&mut private);
        let mut pad = vec![0; random.up_to(MAX_PAD as u32) as usize];
        random.fill(&mut pad);
        KeyMaterial { private, pad, zeros: random.up_to(MAX_PAD as u32) as u16 }
    }

    /// The public key of the private key.
    pub fn public(&self) -> [u8; KEY_LENGTH] {
        padded(&BigUint::from(2u8).modpow(&BigUint::from_bytes_be(&self.private), &prime()))
    }

    /// Derives the shared secret.
    ///
    /// # Errors
    /// [`MseError::Key`] if `theirs` is 0, 1, the prime less one, or larger.
    pub fn secret(&self, theirs: &[u8]) -> Result<Secret, MseError> {
        let (theirs, prime) = (BigUint::from_bytes_be(theirs), prime());
        let one = BigUint::from(1u8);
        if theirs <= one || theirs >= &prime - one {
            return Err(MseError::Key);
        }
        Ok(Secret(padded(&theirs.modpow(&BigUint::from_bytes_be(&self.private), &prime))))
    }
}

/// A number below the prime as big-endian bytes, padded to full length.
fn padded(number: &BigUint) -> [u8; KEY_LENGTH] {
    let mut bytes = [0; KEY_LENGTH];
    for (to, from) in bytes.iter_mut().rev().zip(number.to_bytes_le()) {
        *to = from;
    }
    bytes
}

/// `HASH('req2', SKEY)`: does not depend on the connection, so that a torrent can be looked up by it.
pub fn obfuscated_info_hash(skey: InfoHash) -> [u8; 20] {
    hash(&[b"req2", &skey.0])
}

/// The shared secret of the key exchange.
pub struct Secret(pub(crate) [u8; KEY_LENGTH]);

impl Secret {
    /// `HASH('req1', S)`, which marks the end of the initiator's padding.
    pub fn sync_mark(&self) -> [u8; 20] {
        hash(&[b"req1", &self.0])
    }

    /// `HASH('req2', SKEY) xor HASH('req3', S)`, which identifies the torrent to those who know its info-hash.
    pub fn torrent(&self, skey: InfoHash) -> [u8; 20] {
        self.masked(obfuscated_info_hash(skey))
    }

    /// The [`obfuscated_info_hash`] that the initiator has sent, if `sent` is what [`Secret::torrent`] returns on its side.
    pub fn obfuscated_info_hash(&self, sent: &[u8]) -> [u8; 20] {
        let mut received = [0; 20];
        received.iter_mut().zip(sent).for_each(|(to, from)| *to = *from);
        self.masked(received)
    }

    fn masked(&self, mut bytes: [u8; 20]) -> [u8; 20] {
        for (byte, mask) in bytes.iter_mut().zip(hash(&[b"req3", &self.0])) {
            *byte ^= mask;
        }
        bytes
    }

    /// The keystream of the initiator's data.
    pub fn initiator_stream(&self, skey: InfoHash) -> Rc4 {
        Rc4::discarding(&hash(&[b"keyA", &self.0, &skey.0]))
    }

    /// The keystream of the responder's data.
    pub fn responder_stream(&self, skey: InfoHash) -> Rc4 {
        Rc4::discarding(&hash(&[b"keyB", &self.0, &skey.0]))
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 20] {
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(part);
    }
    sha1.finalize().into()
}
