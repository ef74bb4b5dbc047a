//! A set of pieces, one bit for each.

use crate::types::PieceIndex;

/// One bit per piece, the first piece in the highest bit of the first byte, as in the message `bitfield` (BEP 3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

impl Bitfield {
    /// All bits clear, for `len` pieces.
    pub fn new(len: u32) -> Bitfield {
        Bitfield { bytes: vec![0; len.div_ceil(8) as usize], len, ones: 0 }
    }

    /// All bits set, for `len` pieces.
    pub fn full(len: u32) -> Bitfield {
        let mut bytes = vec![0xff; len.div_ceil(8) as usize];
        if let (Some(last), spare @ 1..) = (bytes.last_mut(), spare_bits(len)) {
            *last = 0xff << spare;
        }
        Bitfield { bytes, len, ones: len }
    }

    /// Parses a received bitfield of a torrent with `len` pieces; `None` if its size is wrong or a spare bit is set.
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Bitfield> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        if let (Some(last), spare @ 1..) = (bytes.last(), spare_bits(len))
            && last & ((1u8 << spare) - 1) != 0
        {
            return None;
        }
        let ones = bytes.iter().map(|b| b.count_ones()).sum();
        Some(Bitfield { bytes: bytes.to_vec(), len, ones })
    }

    /// The bytes as sent to peers.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of pieces.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The number of set bits.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every bit is set.
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Whether the piece's bit is set; `false` if there is no such piece.
    pub fn has(&self, piece: PieceIndex) -> bool {
        piece.0 < self.len && self.bytes[piece.as_usize() / 8] & (0x80 >> (piece.0 % 8)) != 0
    }

    /// Sets the piece's bit. Returns whether it was clear before. A piece out of range changes nothing.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.has(piece) {
            return false;
        }
        self.bytes[piece.as_usize() / 8] |= 0x80 >> (piece.0 % 8);
        self.ones += 1;
        true
    }

    /// Clears the piece's bit. Returns whether it was set before.
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.bytes[piece.as_usize() / 8] &= !(0x80 >> (piece.0 % 8));
        self.ones -= 1;
        true
    }

    /// Whether every piece that is set here is set in `other`.
    pub fn is_within(&self, other: &Bitfield) -> bool {
        self.len == other.len && self.bytes.iter().zip(&other.bytes).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// The pieces that are set in both.
    #[must_use]
    pub fn intersection(&self, other: &Bitfield) -> Bitfield {
        self.combined(other, |mine, theirs| mine & theirs)
    }

    /// The pieces that are set here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Bitfield) -> Bitfield {
        self.combined(other, |mine, theirs| mine & !theirs)
    }

    /// `with` of the bytes of both; `other` has the same length.
    fn combined(&self, other: &Bitfield, with: impl Fn(u8, u8) -> u8) -> Bitfield {
        let mut bytes: Vec<u8> =
            self.bytes.iter().zip(&other.bytes).map(|(&mine, &theirs)| with(mine, theirs)).collect();
        bytes.resize(self.bytes.len(), 0);
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Bitfield { bytes, len: self.len, ones }
    }

    /// The set pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        let of = |(at, &byte): (usize, &u8)| {
            let set = (0..8).filter(move |bit| byte & (0x80 >> bit) != 0);
            set.map(move |bit| PieceIndex(at as u32 * 8 + bit))
        };
        // Skips empty bytes, as many are; spare bits are never set.
        self.bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).flat_map(of)
    }
}

/// The number of bits in the last byte that belong to no piece.
fn spare_bits(len: u32) -> u32 {
    (8 - len % 8) % 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitfield_from_wire_refuses_wrong_size_and_spare_bits() {
        assert!(Bitfield::from_wire(&[0xff, 0xc0], 10).is_some_and(|b| b.is_full()));
        assert!(Bitfield::from_wire(&[0xff, 0xe0], 10).is_none());
        assert!(Bitfield::from_wire(&[0xff], 10).is_none());
        assert!(Bitfield::from_wire(&[0xff, 0xc0, 0], 10).is_none());
    }

    #[test]
    fn full_equals_every_bit_set() {
        for len in 1..40 {
            let mut set = Bitfield::new(len);
            for p in 0..len {
                assert!(set.set(PieceIndex(p)));
            }
            assert_eq!(set, Bitfield::full(len));
            assert!(!set.has(PieceIndex(len)) && !set.set(PieceIndex(len)));
        }
    }
}
