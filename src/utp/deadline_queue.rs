//! The deadlines of many connections.
//!
//! The timers are lazy: most deadlines move into the future again and again, as each acknowledgement moves a timeout. An entry whose
//! deadline has moved stays in the heap until it is due, and is then rescheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::utp::UtpTime;

/// The heap is cleaned when it has this many times more entries than there are connections.
const MAX_STALE: usize = 4;

/// The entries of a heap, each with the slot that it is for.
#[derive(Debug, Default)]
pub struct DeadlineQueue {
    heap: BinaryHeap<Reverse<(UtpTime, u32)>>,
    /// The earliest entry of each slot that counts.
    scheduled: Vec<Option<UtpTime>>,
}

impl DeadlineQueue {
    /// Ensures that [`DeadlineQueue::peek`] returns the slot at `at` or earlier.
    pub fn schedule(&mut self, slot: u32, at: UtpTime) {
        let index = slot as usize;
        if self.scheduled.len() <= index {
            self.scheduled.resize(index + 1, None);
        }
        if self.scheduled[index].is_none_or(|earlier| at < earlier) {
            self.scheduled[index] = Some(at);
            self.heap.push(Reverse((at, slot)));
            self.clean();
        }
    }

    /// The slot's deadlines do not matter any more.
    pub fn forget(&mut self, slot: u32) {
        if let Some(scheduled) = self.scheduled.get_mut(slot as usize) {
            *scheduled = None;
        }
    }

    /// The earliest entry, which may be too early for its slot.
    pub fn peek(&mut self) -> Option<(UtpTime, u32)> {
        while let Some(Reverse((at, slot))) = self.heap.peek().copied() {
            if self.scheduled[slot as usize] == Some(at) {
                return Some((at, slot));
            }
            self.heap.pop();
        }
        None
    }

    /// Removes the earliest entry.
    pub fn pop(&mut self) {
        if let Some((_, slot)) = self.peek() {
            self.heap.pop();
            self.forget(slot);
        }
    }

    /// Removes entries that an earlier one for the same slot has replaced, once they are many.
    fn clean(&mut self) {
        if self.heap.len() > 64 + self.scheduled.len() * MAX_STALE {
            let scheduled = &self.scheduled;
            self.heap.retain(|Reverse((at, slot))| scheduled[*slot as usize] == Some(*at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_entry_of_each_slot_counts_and_the_heap_stays_small() {
        let mut queue = DeadlineQueue::default();
        assert_eq!(queue.peek(), None);
        queue.schedule(1, UtpTime(50));
        queue.schedule(0, UtpTime(70));
        queue.schedule(1, UtpTime(60));
        assert_eq!(queue.peek(), Some((UtpTime(50), 1)), "later ones change nothing");
        queue.schedule(1, UtpTime(40));
        queue.pop();
        assert_eq!(queue.peek(), Some((UtpTime(70), 0)), "50 was replaced by 40");
        queue.forget(0);
        assert_eq!(queue.peek(), None);
        queue.pop();
        for round in (1..10_000).rev() {
            queue.schedule(2, UtpTime(round));
        }
        assert!(queue.heap.len() < 100, "{}", queue.heap.len());
        assert_eq!(queue.peek(), Some((UtpTime(1), 2)));
    }
}
