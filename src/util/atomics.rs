//! Atomics with a fixed memory ordering, so that no use has to choose one.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A boolean that threads share. A thread that sees a value also sees everything written before it was set.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// A flag with this value.
    pub const fn new(value: bool) -> Flag {
        Flag(AtomicBool::new(value))
    }

    /// The value.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value.
    pub fn set(&self, value: bool) {
        self.0.store(value, Ordering::Release);
    }

    /// Sets the value and returns the one before.
    pub fn swap(&self, value: bool) -> bool {
        self.0.swap(value, Ordering::AcqRel)
    }
}

/// A number that threads share: bytes, a rate, a time, an id. No other memory depends on it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts `n`.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Adds one and returns the value before.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Sets the value to 0 and returns the one before.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    /// Sets the value to `new` if it is `old`. Returns whether it was.
    pub fn replace(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sets the value to `value` unless the current value is greater.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A time in nanoseconds since 1970, as file systems use it. No other memory depends on it.
#[derive(Debug, Default)]
pub struct Time(AtomicI64);

impl Time {
    /// A shared time with this value.
    pub const fn new(value: i64) -> Time {
        Time(AtomicI64::new(value))
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets the value to `new` if it is `old`. Returns whether it was.
    pub fn replace(&self, old: i64, new: i64) -> bool {
        self.0.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sets the value to `value` unless the current value is later.
    pub fn raise(&self, value: i64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A number of outstanding items. A thread that sees a value also sees everything written before it was set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// The value.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value.
    pub fn set(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }

    /// Adds `n` and returns the value before.
    pub fn add(&self, n: u32) -> u32 {
        self.0.fetch_add(n, Ordering::AcqRel)
    }

    /// Subtracts `n`.
    pub fn sub(&self, n: u32) {
        self.0.fetch_sub(n, Ordering::AcqRel);
    }

    /// Subtracts one unless the value is 0. Returns whether it did.
    pub fn take_one(&self) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| value.checked_sub(1)).is_ok()
    }

    /// Sets the value to 0 and returns the one before.
    pub fn take(&self) -> u32 {
        self.0.swap(0, Ordering::AcqRel)
    }
}

/// A number of bytes or items in use. A thread that sees a value also sees everything written before it was set.
#[derive(Debug, Default)]
pub struct Amount(AtomicUsize);

impl Amount {
    /// An amount with this value.
    pub const fn new(value: usize) -> Amount {
        Amount(AtomicUsize::new(value))
    }

    /// The value.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value.
    pub fn set(&self, value: usize) {
        self.0.store(value, Ordering::Release);
    }

    /// Adds `n` and returns the value before.
    pub fn add(&self, n: usize) -> usize {
        self.0.fetch_add(n, Ordering::AcqRel)
    }

    /// Subtracts `n` and returns the value before.
    pub fn sub(&self, n: usize) -> usize {
        self.0.fetch_sub(n, Ordering::AcqRel)
    }

    /// Adds one unless the value is `limit` or more. Returns whether it did.
    pub fn add_one_below(&self, limit: usize) -> bool {
        let more = |value| (value < limit).then_some(value + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

/// A port, 0 for none. A thread that sees a value also sees everything written before it was set.
#[derive(Debug, Default)]
pub struct Port(AtomicU16);

impl Port {
    /// The value.
    pub fn get(&self) -> u16 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value.
    pub fn set(&self, value: u16) {
        self.0.store(value, Ordering::Release);
    }
}

/// A code or an id of one byte. A thread that sees a value also sees everything written before it was set.
#[derive(Debug, Default)]
pub struct SharedByte(AtomicU8);

impl SharedByte {
    /// The value.
    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value.
    pub fn set(&self, value: u8) {
        self.0.store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_return_the_value_before() {
        let flag = Flag::default();
        assert!(!flag.swap(true) && flag.swap(true) && flag.is_set());
        let counter = Counter::default();
        counter.add(7);
        counter.sub(2);
        assert!(counter.replace(5, 9) && !counter.replace(5, 1));
        assert_eq!((counter.next(), counter.take(), counter.get()), (9, 10, 0));
        let amount = Amount::new(4);
        assert_eq!((amount.add(3), amount.sub(5), amount.get()), (4, 7, 2));
        assert!(amount.add_one_below(3) && !amount.add_one_below(3));
        let time = Time::new(-4);
        assert!(time.replace(-4, 7) && !time.replace(-4, 9));
        for (raised, value) in [(3, 7), (8, 8)] {
            time.raise(raised);
            assert_eq!(time.get(), value);
        }
        let gauge = Gauge::default();
        assert_eq!((gauge.add(2), gauge.add(1), gauge.take(), gauge.get()), (0, 2, 3, 0));
        gauge.set(1);
        assert!(gauge.take_one() && !gauge.take_one());
    }
}
