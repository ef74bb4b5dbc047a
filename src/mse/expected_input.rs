//! The part of a handshake that we expect next: a fixed number of bytes, or padding up to a synchronization mark.

use crate::mse::{MAX_PAD, MseError};

/// A part that is being received. It never wants a byte that might belong to the payload after the handshake.
pub struct ExpectedInput {
    bytes: Vec<u8>,
    kind: InputKind,
}

enum InputKind {
    /// This many bytes.
    Exactly(usize),
    /// At most 512 bytes of padding, which are dropped, then this mark. `taken` counts the bytes received so far.
    Through { sync_mark: Vec<u8>, taken: usize },
}

impl ExpectedInput {
    /// Expects `length` bytes.
    pub fn exactly(length: usize) -> ExpectedInput {
        ExpectedInput { bytes: Vec::new(), kind: InputKind::Exactly(length) }
    }

    /// Expects padding, then `sync_mark`.
    pub fn padding_then(sync_mark: &[u8]) -> ExpectedInput {
        ExpectedInput { bytes: Vec::new(), kind: InputKind::Through { sync_mark: sync_mark.to_vec(), taken: 0 } }
    }

    /// How many bytes are missing at least; 0 when the part is complete.
    pub fn wanted(&self) -> usize {
        match &self.kind {
            InputKind::Exactly(length) => length.saturating_sub(self.bytes.len()),
            InputKind::Through { sync_mark, .. } => {
                // The longest prefix of the mark that the received bytes end with: the mark may have started there.
                let begun =
                    (0..=sync_mark.len()).rev().find(|&n| sync_mark.get(..n).is_some_and(|m| self.bytes.ends_with(m)));
                sync_mark.len() - begun.unwrap_or_default()
            }
        }
    }

    /// Takes the wanted bytes from the front of `input`. Returns true when the part is complete.
    ///
    /// # Errors
    /// [`MseError::NotSynchronized`] if the mark did not follow the longest allowed padding.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<bool, MseError> {
        loop {
            let wanted = self.wanted();
            if wanted == 0 {
                return Ok(true);
            }
            if let InputKind::Through { sync_mark, taken } = &self.kind
                && taken + wanted > MAX_PAD + sync_mark.len()
            {
                return Err(MseError::NotSynchronized);
            }
            let Some((now, rest)) = input.split_at_checked(wanted.min(input.len())) else { return Ok(false) };
            if now.is_empty() {
                return Ok(false);
            }
            *input = rest;
            self.bytes.extend_from_slice(now);
            if let InputKind::Through { sync_mark, taken } = &mut self.kind {
                *taken += now.len();
                let spent = self.bytes.len().saturating_sub(sync_mark.len());
                self.bytes.drain(..spent);
            }
        }
    }

    /// The received bytes; for a part with padding, the mark.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
