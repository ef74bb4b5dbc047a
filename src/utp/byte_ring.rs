//! A queue of bytes in a ring that grows on demand.

/// The size of the first allocation.
const FIRST: usize = 4 << 10;

/// A queue of bytes. The memory is a power of two, grows when needed, and is kept until [`ByteRing::free`].
#[derive(Debug, Default)]
pub struct ByteRing {
    memory: Vec<u8>,
    head: usize,
    len: usize,
}

impl ByteRing {
    /// How many bytes are queued.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are queued.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How much memory the ring has.
    pub fn allocated(&self) -> usize {
        self.memory.len()
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.grow(self.len + bytes.len());
        if bytes.is_empty() {
            return;
        }
        let tail = self.at(self.len);
        let first = bytes.len().min(self.memory.len() - tail);
        self.memory[tail..tail + first].copy_from_slice(&bytes[..first]);
        self.memory[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.len += bytes.len();
    }

    /// The first contiguous part of the bytes.
    pub fn front(&self) -> &[u8] {
        let end = (self.head + self.len).min(self.memory.len());
        &self.memory[self.head..end]
    }

    /// Removes the first bytes: `count`, or all if there are fewer.
    pub fn pop(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        // Restart at 0 when empty, so that the front is contiguous.
        self.head = if self.len == 0 { 0 } else { self.at(count) };
    }

    /// Appends a copy of the bytes from `from` on to `out`. Panics in debug builds if they are not queued.
    pub fn copy(&self, from: usize, count: usize, out: &mut Vec<u8>) {
        debug_assert!(from + count <= self.len, "only queued bytes");
        if count == 0 {
            return;
        }
        let start = self.at(from);
        let first = count.min(self.memory.len() - start);
        out.extend_from_slice(&self.memory[start..start + first]);
        out.extend_from_slice(&self.memory[..count - first]);
    }

    /// Frees the memory if the ring is empty.
    pub fn free(&mut self) {
        if self.is_empty() {
            *self = ByteRing::default();
        }
    }

    /// Where the byte `from` is in memory, which must not be empty.
    fn at(&self, from: usize) -> usize {
        (self.head + from) & (self.memory.len() - 1)
    }

    fn grow(&mut self, needed: usize) {
        if needed <= self.memory.len() {
            return;
        }
        let mut memory = vec![0; needed.next_power_of_two().max(FIRST)];
        let front = self.front().len();
        memory[..front].copy_from_slice(self.front());
        memory[front..self.len].copy_from_slice(&self.memory[..self.len - front]);
        (self.memory, self.head) = (memory, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::util::random::Random;

    #[test]
    fn it_does_what_a_queue_does() {
        let (mut random, mut ring, mut model) = (Random::seeded(3), ByteRing::default(), VecDeque::new());
        for round in 0..3000 {
            let bytes =
                vec![0; random.up_to(3000) as usize].iter().map(|_: &u8| random.u32() as u8).collect::<Vec<_>>();
            if model.len() < 40_000 {
                ring.push(&bytes);
                model.extend(bytes);
            }
            let front = ring.front();
            assert!(model.iter().take(front.len()).eq(front), "round {round}");
            assert!(!front.is_empty() || model.is_empty());
            let from = random.up_to(model.len() as u32) as usize;
            let mut copied = Vec::new();
            ring.copy(from, model.len() - from, &mut copied);
            assert!(model.iter().skip(from).eq(&copied), "round {round}");
            let count = random.up_to(4000) as usize;
            ring.pop(count);
            model.drain(..count.min(model.len()));
            assert_eq!(ring.len(), model.len());
        }
        assert!(ring.allocated() <= 65_536);
        ring.free();
        assert!(ring.allocated() > 0 || ring.is_empty());
        ring.pop(usize::MAX);
        ring.free();
        assert_eq!((ring.allocated(), ring.front()), (0, &[][..]));
        ring.copy(0, 0, &mut Vec::new());
        ring.push(&[]);
    }
}
