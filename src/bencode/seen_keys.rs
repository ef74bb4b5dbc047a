//! The keys of open dictionaries, remembered to find duplicates.

use std::ops::Range;

/// How many keys of the open dictionaries to remember, and how many bytes of them, to find duplicates among unsorted keys.
const KEYS_MAX: usize = 1 << 16;
const KEY_BYTES_MAX: usize = 1 << 20;

/// The keys of all open dictionaries, one after the other.
#[derive(Default)]
pub(super) struct SeenKeys {
    bytes: Vec<u8>,
    /// The range of each key in `bytes`.
    pub spans: Vec<Range<u32>>,
}

impl SeenKeys {
    pub fn get(&self, span: &Range<u32>) -> &[u8] {
        self.bytes.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The latest key of the dictionary whose keys start at `first`.
    pub fn last(&self, first: usize) -> Option<&[u8]> {
        self.spans.get(first..)?.last().map(|span| self.get(span))
    }

    pub fn is_full(&self) -> bool {
        self.spans.len() >= KEYS_MAX || self.bytes.len() >= KEY_BYTES_MAX
    }

    pub fn push(&mut self, key: &[u8]) {
        // `is_full` and `KEY_MAX` keep it far below what 32 bits can hold.
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        self.spans.push(start..self.bytes.len() as u32);
    }

    pub fn truncate(&mut self, count: usize) {
        if let Some(first) = self.spans.get(count) {
            self.bytes.truncate(first.start as usize);
            self.spans.truncate(count);
        }
    }
}
