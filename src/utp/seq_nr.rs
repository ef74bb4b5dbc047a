//! Sequence numbers, which wrap around.

/// The number of a packet. Numbers wrap around, so two of them can be compared only if they are less than 32,768 apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqNr(pub u16);

impl SeqNr {
    /// The number so many packets later.
    #[must_use]
    pub fn plus(self, count: u16) -> SeqNr {
        SeqNr(self.0.wrapping_add(count))
    }

    /// The next number.
    #[must_use]
    pub fn next(self) -> SeqNr {
        self.plus(1)
    }

    /// The number before.
    #[must_use]
    pub fn previous(self) -> SeqNr {
        SeqNr(self.0.wrapping_sub(1))
    }

    /// How many packets after `other` this one is: negative if it is before.
    pub fn distance(self, other: SeqNr) -> i32 {
        i32::from(self.0.wrapping_sub(other.0).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = SeqNr(u16::MAX);
        assert_eq!(last.next(), SeqNr(0));
        assert_eq!(SeqNr(0).previous(), last);
        assert_eq!(SeqNr(3).distance(last), 4);
        assert_eq!(last.distance(SeqNr(3)), -4);
        assert_eq!(last.plus(5), SeqNr(4));
        assert_eq!(SeqNr(0).distance(SeqNr(0x8000)), -32_768, "as far as can be; either answer would do");
    }
}
