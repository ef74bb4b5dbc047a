//! The memory for responses of a remote control: all that are being written share it.

use std::sync::Arc;

use crate::util::atomics::Amount;

/// The most bytes of all responses that are being written, and so of one.
pub const MAX_RESPONSES: usize = 64 << 20;
/// A response takes so many bytes at a time; the first are free, so that small ones never fail.
const STEP: usize = 1 << 20;

/// The memory that responses of one face share.
#[derive(Clone, Default)]
pub struct ResponseMemory(Arc<Amount>);

/// What one response has taken, until it is dropped.
pub struct ReservedMemory {
    all: Arc<Amount>,
    own: usize,
}

impl ResponseMemory {
    /// For a response that is empty so far.
    pub fn reserve(&self) -> ReservedMemory {
        ReservedMemory { all: self.0.clone(), own: 0 }
    }
}

impl ReservedMemory {
    /// Whether the response may have this many bytes.
    pub fn grow_to(&mut self, length: usize) -> bool {
        while length >= self.own + STEP {
            if self.all.add(STEP) + STEP > MAX_RESPONSES {
                self.all.sub(STEP);
                return false;
            }
            self.own += STEP;
        }
        true
    }
}

impl Drop for ReservedMemory {
    fn drop(&mut self) {
        self.all.sub(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_responses_share_the_memory_and_small_ones_need_none() {
        let memory = ResponseMemory::default();
        let (mut one, mut two, mut small) = (memory.reserve(), memory.reserve(), memory.reserve());
        assert!(one.grow_to(MAX_RESPONSES / 2) && two.grow_to(MAX_RESPONSES / 2));
        assert!(!one.grow_to(MAX_RESPONSES) && small.grow_to(STEP - 1) && !small.grow_to(STEP));
        drop(two);
        assert!(one.grow_to(MAX_RESPONSES) && !one.grow_to(MAX_RESPONSES + STEP));
        drop(one);
        assert_eq!(memory.0.get(), 0);
    }
}
