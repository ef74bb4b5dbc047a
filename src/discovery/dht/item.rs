//! Items of the DHT (BEP 44): a value of at most 1,000 bytes. An *immutable* item is found by the hash of its value. A *mutable* item
//! is found by the public key of its author and a salt; its sequence number tells newer values from older ones.

use std::fmt;

use sha1::{Digest, Sha1};

use crate::bencode::encode;
use crate::bencode::validate;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::signature;
pub use crate::discovery::dht::signature::ItemKey;
use crate::util::hex::hex;

/// The longest value, in bytes of bencode.
pub const MAX_ITEM_VALUE: usize = 1000;
/// The longest salt, in bytes.
pub const MAX_SALT: usize = 64;

/// What the DHT finds an item by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemTarget {
    /// An immutable item: the SHA-1 of its value.
    Immutable([u8; 20]),
    /// A mutable item.
    Mutable {
        /// The author's public key (Ed25519).
        key: [u8; 32],
        /// Tells the items of an author from each other; at most 64 bytes.
        salt: Vec<u8>,
    },
}

/// Why an item is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The value has more than 1,000 bytes.
    #[error("the value has {0} bytes of bencode, more than 1,000")]
    ValueTooLong(usize),
    /// The value is not bencode.
    #[error("the value is not bencode: {0}")]
    NotBencode(String),
    /// The salt has more than 64 bytes.
    #[error("the salt has {0} bytes, more than 64")]
    SaltTooLong(usize),
    /// The sequence number is negative.
    #[error("the sequence number is negative")]
    NegativeSequenceNumber,
    /// This program was built without the feature `tls`, whose library makes the signatures.
    #[error("this program was built without signatures (feature `tls`)")]
    NoSignatures,
}

/// The signature of a mutable item, and what it covers beside the value.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedFields {
    /// The author's public key.
    pub key: [u8; 32],
    /// See [`ItemTarget::Mutable`].
    pub salt: Vec<u8>,
    /// The sequence number; not negative.
    pub seq: i64,
    /// The author's signature.
    pub signature: [u8; 64],
}

/// An item whose hash or signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtItem {
    value: Vec<u8>,
    signed: Option<SignedFields>,
}

/// An item as a node receives it; nothing of it has been checked but its lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPut {
    /// The value's bencode.
    pub value: Vec<u8>,
    /// The signature of a mutable item.
    pub signed: Option<SignedFields>,
    /// The item is stored only if the stored one has this sequence number.
    pub cas: Option<i64>,
}

/// An item of a response. Its signature has not been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundItem {
    /// The value of an immutable item.
    Immutable(Vec<u8>),
    /// The value and the signature of a mutable item. The salt is empty: responses do not contain it.
    Mutable(Vec<u8>, Box<SignedFields>),
    /// The node has a mutable item with this sequence number, which is not higher than the querying node has it.
    NotNewer(i64),
}

impl ItemTarget {
    /// The mutable item that this author makes with this salt.
    ///
    /// # Errors
    /// If the salt is too long.
    pub fn mutable(key: &ItemKey, salt: &[u8]) -> Result<ItemTarget, ItemError> {
        check_salt(salt)?;
        Ok(ItemTarget::Mutable { key: key.public(), salt: salt.to_vec() })
    }

    /// The id that the item is stored at.
    pub(crate) fn id(&self) -> NodeId {
        match self {
            ItemTarget::Immutable(hash) => NodeId(*hash),
            ItemTarget::Mutable { key, salt } => mutable_id(key, salt),
        }
    }

    /// The item of a response, if it is an item of this target and its signature is right.
    pub(crate) fn check(&self, found: FoundItem) -> Option<DhtItem> {
        match (self, found) {
            (ItemTarget::Immutable(hash), FoundItem::Immutable(value)) => {
                (sha1(&value) == *hash).then_some(DhtItem { value, signed: None })
            }
            (ItemTarget::Mutable { key, salt }, FoundItem::Mutable(value, signed)) if signed.key == *key => {
                let signed = SignedFields { salt: salt.clone(), ..*signed };
                signed.is_valid(&value).then_some(DhtItem { value, signed: Some(signed) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for ItemTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemTarget::Immutable(hash) => f.write_str(&hex(hash)),
            ItemTarget::Mutable { key, .. } => f.write_str(&hex(key)),
        }
    }
}

impl DhtItem {
    /// An immutable item with this value, which must be bencode.
    ///
    /// # Errors
    /// If the value is too long or not bencode.
    pub fn immutable(value: Vec<u8>) -> Result<DhtItem, ItemError> {
        check_value(&value)?;
        Ok(DhtItem { value, signed: None })
    }

    /// A mutable item with this value, which must be bencode, signed with the author's key. Nodes that have the item accept it only if
    /// `seq` is higher than theirs.
    ///
    /// # Errors
    /// If the value or the salt is too long, the value is not bencode, or `seq` is negative.
    pub fn mutable(value: Vec<u8>, key: &ItemKey, salt: &[u8], seq: i64) -> Result<DhtItem, ItemError> {
        check_value(&value)?;
        check_salt(salt)?;
        if seq < 0 {
            return Err(ItemError::NegativeSequenceNumber);
        }
        let signature = key.sign(&signed_bytes(salt, seq, &value)).ok_or(ItemError::NoSignatures)?;
        let signed = SignedFields { key: key.public(), salt: salt.to_vec(), seq, signature };
        Ok(DhtItem { value, signed: Some(signed) })
    }

    /// The value's bencode.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// What the DHT finds the item by.
    pub fn target(&self) -> ItemTarget {
        match &self.signed {
            None => ItemTarget::Immutable(sha1(&self.value)),
            Some(signed) => ItemTarget::Mutable { key: signed.key, salt: signed.salt.clone() },
        }
    }

    /// The sequence number of a mutable item.
    pub fn sequence_number(&self) -> Option<i64> {
        self.signed.as_ref().map(|signed| signed.seq)
    }

    /// The item as a `put` query sends it.
    pub(crate) fn to_put(&self, cas: Option<i64>) -> ItemPut {
        ItemPut { value: self.value.clone(), signed: self.signed.clone(), cas: cas.filter(|_| self.signed.is_some()) }
    }
}

impl ItemPut {
    /// The id that the item is stored at.
    pub fn id(&self) -> NodeId {
        match &self.signed {
            None => NodeId(sha1(&self.value)),
            Some(signed) => mutable_id(&signed.key, &signed.salt),
        }
    }

    /// Whether the signature is right; an immutable item needs none.
    pub fn is_valid(&self) -> bool {
        self.signed.as_ref().is_none_or(|signed| signed.is_valid(&self.value))
    }
}

impl SignedFields {
    fn is_valid(&self, value: &[u8]) -> bool {
        signature::is_valid(&self.key, &signed_bytes(&self.salt, self.seq, value), &self.signature)
    }
}

impl fmt::Debug for SignedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedFields").field("key", &hex(&self.key)).field("seq", &self.seq).finish_non_exhaustive()
    }
}

fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > MAX_ITEM_VALUE {
        return Err(ItemError::ValueTooLong(value.len()));
    }
    validate::check(value).map_err(|error| ItemError::NotBencode(error.to_string()))
}

fn check_salt(salt: &[u8]) -> Result<(), ItemError> {
    if salt.len() > MAX_SALT { Err(ItemError::SaltTooLong(salt.len())) } else { Ok(()) }
}

/// The bytes that the author of a mutable item signs.
fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(salt.len() + value.len() + 40);
    if !salt.is_empty() {
        encode::bytes(&mut out, b"salt");
        encode::bytes(&mut out, salt);
    }
    encode::bytes(&mut out, b"seq");
    encode::int(&mut out, seq);
    encode::bytes(&mut out, b"v");
    out.extend_from_slice(value);
    out
}

fn mutable_id(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::hex::from_hex;

    const HELLO: &[u8] = b"12:Hello World!";

    type Spoil = fn(&mut ItemPut, &mut SignedFields);

    fn bytes<const N: usize>(digits: &str) -> [u8; N] {
        from_hex(digits).expect("hexadecimal digits")
    }

    /// The item of BEP 44's examples with this salt and signature.
    fn example(salt: &[u8], signature: &str) -> ItemPut {
        let key = bytes("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548");
        let signed = SignedFields { key, salt: salt.to_vec(), seq: 1, signature: bytes(signature) };
        ItemPut { value: HELLO.to_vec(), signed: Some(signed), cas: None }
    }

    #[test]
    fn the_examples_of_bep_44() {
        let plain = example(
            b"",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
        );
        let salted = example(
            b"foobar",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
        );
        assert_eq!(hex(&plain.id().0), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
        assert_eq!(hex(&salted.id().0), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
        assert!(plain.is_valid() && salted.is_valid());
        let immutable = DhtItem::immutable(HELLO.to_vec()).expect("a value").target();
        assert_eq!(immutable.to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
        let spoilt: [Spoil; 5] = [
            |item, _| item.value[4] ^= 1,
            |_, signed| signed.seq = 2,
            |_, signed| signed.salt = b"foobaz".to_vec(),
            |_, signed| signed.signature[0] ^= 1,
            |_, signed| signed.key[0] ^= 1,
        ];
        for spoil in spoilt {
            let mut item = salted.clone();
            let mut signed = item.signed.clone().expect("it is signed");
            spoil(&mut item, &mut signed);
            assert!(!ItemPut { signed: Some(signed), ..item }.is_valid());
        }
    }

    #[test]
    fn an_item_of_ours_is_found_and_another_is_not() {
        let key = ItemKey::from_seed([7; 32]).expect("a key");
        let item = DhtItem::mutable(HELLO.to_vec(), &key, b"salt", 5).expect("an item");
        let target = item.target();
        assert_eq!(ItemTarget::mutable(&key, b"salt"), Ok(target.clone()));
        let signed = |item: &DhtItem| {
            let without_salt = SignedFields { salt: Vec::new(), ..item.signed.clone().expect("it is signed") };
            FoundItem::Mutable(item.value.clone(), Box::new(without_salt))
        };
        assert_eq!(target.check(signed(&item)), Some(item.clone()));
        let other = ItemTarget::Mutable { key: key.public(), salt: b"other".to_vec() };
        assert_eq!(other.check(signed(&item)), None);
        let other = ItemTarget::Mutable { key: [1; 32], salt: b"salt".to_vec() };
        assert_eq!(other.check(signed(&item)), None);
        let hello = DhtItem::immutable(HELLO.to_vec()).expect("a value");
        assert_eq!(hello.target().check(FoundItem::Immutable(HELLO.to_vec())), Some(hello.clone()));
        for found in [FoundItem::Immutable(b"3:bye".to_vec()), signed(&item), FoundItem::NotNewer(1)] {
            assert_eq!(hello.target().check(found), None);
        }
    }

    #[test]
    fn what_nodes_would_refuse_is_not_made() {
        let key = ItemKey::from_seed([7; 32]).expect("a key");
        let long = [b"997:".as_slice(), &[b'x'; 997]].concat();
        assert_eq!(DhtItem::immutable(long), Err(ItemError::ValueTooLong(1001)));
        assert!(DhtItem::immutable([b"996:".as_slice(), &[b'x'; 996]].concat()).is_ok());
        assert!(matches!(DhtItem::immutable(b"hello".to_vec()), Err(ItemError::NotBencode(_))));
        assert_eq!(DhtItem::mutable(HELLO.to_vec(), &key, &[0; 65], 1), Err(ItemError::SaltTooLong(65)));
        assert_eq!(ItemTarget::mutable(&key, &[0; 65]), Err(ItemError::SaltTooLong(65)));
        assert_eq!(DhtItem::mutable(HELLO.to_vec(), &key, b"", -1), Err(ItemError::NegativeSequenceNumber));
    }
}
