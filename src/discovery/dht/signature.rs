//! The signatures of the DHT's mutable items (BEP 44): Ed25519, by the library that also makes TLS connections. Without the feature
//! `tls`, no item can be signed, and no signature counts as valid.

use std::fmt;

#[cfg(feature = "tls")]
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// The private key of an author of mutable items.
pub struct ItemKey {
    #[cfg(feature = "tls")]
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl ItemKey {
    /// The key that belongs to a secret of 32 random bytes; `None` without the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn from_seed(seed: [u8; 32]) -> Option<ItemKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(ItemKey { pair, public })
    }

    /// The key that belongs to a secret of 32 random bytes; `None` without the feature `tls`.
    #[cfg(not(feature = "tls"))]
    pub fn from_seed(_: [u8; 32]) -> Option<ItemKey> {
        None
    }

    /// The public key, by which others find the author's items.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    #[cfg(feature = "tls")]
    pub(super) fn sign(&self, bytes: &[u8]) -> Option<[u8; 64]> {
        self.pair.sign(bytes).as_ref().try_into().ok()
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with TLS, it signs")]
    pub(super) fn sign(&self, _: &[u8]) -> Option<[u8; 64]> {
        None
    }
}

impl fmt::Debug for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemKey").finish_non_exhaustive() // no secrets in logs
    }
}

/// Whether `signature` is that of the key's owner for these bytes.
#[cfg(feature = "tls")]
pub(super) fn is_valid(key: &[u8; 32], bytes: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(bytes, signature).is_ok()
}

/// Whether `signature` is that of the key's owner for these bytes.
#[cfg(not(feature = "tls"))]
pub(super) fn is_valid(_: &[u8; 32], _: &[u8], _: &[u8; 64]) -> bool {
    false
}
