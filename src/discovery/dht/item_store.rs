//! Stores the items that other nodes put (BEP 44), for two hours and within limits. Pure.
//!
//! As in `store`, whoever has a subnet could fill the store from all its addresses. So when it is full, an item of the subnet with
//! the most bytes makes room.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::{FoundItem, ItemPut, SignedFields};
use crate::discovery::dht::message::{CAS_MISMATCH, INVALID_SIGNATURE, SEQUENCE_NUMBER_TOO_LOW, SERVER_ERROR};
use crate::net::networks::{Network, heaviest_users};

/// The lifetime of an item; its author repeats it every hour.
const EXPIRY: Duration = Duration::from_secs(2 * 60 * 60);
/// The most items.
const MAX_ITEMS: usize = 1000;
/// The most bytes of all items.
const MAX_BYTES: usize = 512 * 1024;
/// The most items from one host (an IPv4 address, or an IPv6 /64), and the most of one subnet (/24, IPv6 /48).
const MAX_PER_HOST: usize = 50;
const MAX_PER_SUBNET: usize = 250;
/// What an item takes beside its value and salt: id, key, signature and the map's own data.
const OVERHEAD: usize = 200;

/// An item, and when and from where it was put last.
#[derive(Debug)]
struct StoredItem {
    value: Vec<u8>,
    signed: Option<SignedFields>,
    from: IpAddr,
    at: Duration,
}

impl StoredItem {
    fn size(&self) -> usize {
        OVERHEAD + self.value.len() + self.signed.as_ref().map_or(0, |signed| signed.salt.len())
    }

    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) < EXPIRY
    }
}

/// The stored items by id.
#[derive(Debug, Default)]
pub struct ItemStore {
    items: BTreeMap<NodeId, StoredItem>,
    bytes: usize,
}

impl ItemStore {
    /// The item with this id, for a querying node that has the sequence number `known`.
    pub fn get(&self, now: Duration, id: NodeId, known: Option<i64>) -> Option<FoundItem> {
        let item = self.items.get(&id).filter(|item| item.is_fresh(now))?;
        Some(match &item.signed {
            None => FoundItem::Immutable(item.value.clone()),
            Some(signed) if known.is_some_and(|known| signed.seq <= known) => FoundItem::NotNewer(signed.seq),
            Some(signed) => {
                let without_salt = SignedFields { salt: Vec::new(), ..signed.clone() };
                FoundItem::Mutable(item.value.clone(), Box::new(without_salt))
            }
        })
    }

    /// Stores an item.
    ///
    /// # Errors
    /// The error code and text to respond with.
    pub fn put(&mut self, now: Duration, from: IpAddr, put: &ItemPut) -> Result<(), (i64, &'static str)> {
        if !put.is_valid() {
            return Err((INVALID_SIGNATURE, "invalid signature"));
        }
        let id = put.id();
        if let Some(item) = self.items.get_mut(&id) {
            let is_same = item.value == put.value;
            if let (Some(new), Some(signed), true) = (&put.signed, &item.signed, item.is_fresh(now)) {
                if put.cas.is_some_and(|cas| cas != signed.seq) {
                    return Err((CAS_MISMATCH, "the stored item has another sequence number"));
                }
                if new.seq < signed.seq || (new.seq == signed.seq && !is_same) {
                    return Err((SEQUENCE_NUMBER_TOO_LOW, "the sequence number is not higher than the stored one"));
                }
            }
            // Whoever repeats an item does not have to have room for it.
            let from = if is_same { item.from } else { from };
            self.bytes -= item.size();
            *item = StoredItem { value: put.value.clone(), signed: put.signed.clone(), from, at: now };
            self.bytes += item.size();
            self.make_room();
            return Ok(());
        }
        if self.has_too_many(from) {
            self.sweep(now);
            if self.has_too_many(from) {
                return Err((SERVER_ERROR, "too many items"));
            }
        }
        let item = StoredItem { value: put.value.clone(), signed: put.signed.clone(), from, at: now };
        self.bytes += item.size();
        self.items.insert(id, item);
        self.make_room();
        Ok(())
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Removes expired items.
    pub fn sweep(&mut self, now: Duration) {
        self.items.retain(|_, item| item.is_fresh(now));
        self.bytes = self.items.values().map(StoredItem::size).sum();
    }

    fn has_too_many(&self, from: IpAddr) -> bool {
        let count = |network: fn(IpAddr) -> Network| {
            self.items.values().filter(|item| network(item.from) == network(from)).count()
        };
        count(Network::host) >= MAX_PER_HOST || count(Network::public_subnet) >= MAX_PER_SUBNET
    }

    /// Evicts the oldest items of the subnet with the most bytes until all limits hold.
    fn make_room(&mut self) {
        while self.items.len() > MAX_ITEMS || self.bytes > MAX_BYTES {
            let heaviest = heaviest_users(&self.items, |(_, item)| Some(item.from), |(_, item)| item.size());
            let Some(id) = heaviest.into_iter().min_by_key(|(_, item)| item.at).map(|(id, _)| *id) else { return };
            if let Some(item) = self.items.remove(&id) {
                self.bytes -= item.size();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::item::{DhtItem, ItemKey, MAX_ITEM_VALUE};

    const NOW: Duration = Duration::ZERO;

    fn host(n: u16) -> IpAddr {
        let [a, b] = n.to_be_bytes();
        IpAddr::from([81, a, b, 1])
    }

    fn value(n: u32, length: usize) -> Vec<u8> {
        let text = format!("{n:0length$}");
        format!("{}:{text}", text.len()).into_bytes()
    }

    fn immutable(n: u32, length: usize) -> ItemPut {
        DhtItem::immutable(value(n, length)).expect("a value").to_put(None)
    }

    fn mutable(n: u32, seq: i64, cas: Option<i64>) -> ItemPut {
        let key = ItemKey::from_seed([7; 32]).expect("a key");
        DhtItem::mutable(value(n, 5), &key, b"salt", seq).expect("an item").to_put(cas)
    }

    fn code(result: Result<(), (i64, &'static str)>) -> i64 {
        result.err().map_or(0, |(code, _)| code)
    }

    #[test]
    fn an_item_is_found_for_two_hours_and_longer_if_it_is_repeated() {
        let mut store = ItemStore::default();
        let item = immutable(1, 9);
        assert_eq!(store.put(NOW, host(1), &item), Ok(()));
        let found = |store: &ItemStore, at| store.get(at, item.id(), None).is_some();
        assert!(found(&store, EXPIRY / 2) && !found(&store, EXPIRY));
        assert_eq!(store.put(EXPIRY / 2, host(2), &item), Ok(()));
        assert!(found(&store, EXPIRY) && store.get(NOW, immutable(2, 9).id(), None).is_none());
        store.sweep(EXPIRY * 2);
        assert_eq!((store.len(), store.bytes), (0, 0));
    }

    #[test]
    fn only_a_newer_value_replaces_one() {
        let mut store = ItemStore::default();
        let id = mutable(1, 1, None).id();
        assert_eq!(code(store.put(NOW, host(1), &mutable(1, 5, Some(4)))), 0, "nothing is stored yet");
        assert_eq!(code(store.put(NOW, host(1), &mutable(2, 4, None))), SEQUENCE_NUMBER_TOO_LOW);
        assert_eq!(code(store.put(NOW, host(1), &mutable(2, 5, None))), SEQUENCE_NUMBER_TOO_LOW);
        assert_eq!(code(store.put(NOW, host(1), &mutable(1, 5, None))), 0, "it is only repeated");
        assert_eq!(code(store.put(NOW, host(1), &mutable(2, 6, Some(4)))), CAS_MISMATCH);
        assert_eq!(code(store.put(NOW, host(2), &mutable(2, 6, Some(5)))), 0);
        assert!(
            matches!(store.get(NOW, id, Some(5)), Some(FoundItem::Mutable(v, s)) if v == value(2, 5) && s.seq == 6)
        );
        assert_eq!(store.get(NOW, id, Some(6)), Some(FoundItem::NotNewer(6)));
        let mut forged = mutable(3, 7, None);
        forged.value = value(4, 5);
        assert_eq!(code(store.put(NOW, host(1), &forged)), INVALID_SIGNATURE);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn items_and_bytes_and_those_of_a_host_are_bounded() {
        let mut store = ItemStore::default();
        let one_host = (0..100).filter(|n| store.put(NOW, host(1), &immutable(*n, 9)).is_ok()).count();
        assert_eq!(one_host, MAX_PER_HOST);
        for n in 0..3000_u16 {
            assert!(store.put(NOW, host(n + 10), &immutable(n.into(), 300)).is_ok());
            assert!(store.len() <= MAX_ITEMS && store.bytes <= MAX_BYTES);
        }
        assert_eq!(store.len(), MAX_ITEMS);
        for n in 0..1000_u16 {
            assert!(store.put(NOW, host(n + 10), &immutable(n.into(), MAX_ITEM_VALUE - 4)).is_ok());
            assert!(store.len() <= MAX_ITEMS && store.bytes <= MAX_BYTES);
        }
        assert_eq!(store.bytes, store.items.values().map(StoredItem::size).sum::<usize>());
    }

    #[test]
    fn one_subnet_displaces_no_item_of_others() {
        let mut store = ItemStore::default();
        for n in 0..100 {
            assert!(store.put(NOW, host(n), &immutable(n.into(), 9)).is_ok());
        }
        for n in 0..5000_u16 {
            let attacker = IpAddr::from([0x2001, 0xdb8, n % 8, n, 0, 0, 0, 1]);
            let _ = store.put(Duration::from_secs(n.into()), attacker, &immutable(n.into(), MAX_ITEM_VALUE - 4));
        }
        assert!((0..100).all(|n| store.get(NOW, immutable(n, 9).id(), None).is_some()));
    }
}
