//! The part of a handshake that is being received: so many bytes, or padding up to a mark.

use crate::mse::{MAX_PAD, MseError};

/// Bytes under way. It never asks for more than certainly belongs to it, so that nothing of what follows the handshake is taken.
pub struct ExpectedInput {
    bytes: Vec<u8>,
    kind: InputKind,
}

enum InputKind {
    /// So many bytes.
    Exactly(usize),
    /// At most 512 bytes of padding, which are dropped, and this after them; and how many bytes have come.
    Through { sync_mark: Vec<u8>, taken: usize },
}

impl ExpectedInput {
    /// A part of `length` bytes.
    pub fn exactly(length: usize) -> ExpectedInput {
        ExpectedInput { bytes: Vec::new(), kind: InputKind::Exactly(length) }
    }

    /// Padding, and `sync_mark` behind it.
    pub fn through(sync_mark: &[u8]) -> ExpectedInput {
        ExpectedInput { bytes: Vec::new(), kind: InputKind::Through { sync_mark: sync_mark.to_vec(), taken: 0 } }
    }

    /// How many bytes are certainly still missing; 0 when the part is whole.
    pub fn wanted(&self) -> usize {
        match &self.kind {
            InputKind::Exactly(length) => length.saturating_sub(self.bytes.len()),
            InputKind::Through { sync_mark, .. } => {
                // The longest beginning of the mark with which the bytes end may turn out to be the mark.
                let begun =
                    (0..=sync_mark.len()).rev().find(|&n| sync_mark.get(..n).is_some_and(|m| self.bytes.ends_with(m)));
                sync_mark.len() - begun.unwrap_or_default()
            }
        }
    }

    /// Takes what it wants from the front of `input`; true when the part is whole.
    ///
    /// # Errors
    /// [`MseError::NotSynchronized`] where the padding is over and the mark has not come.
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

    /// The bytes of the part: of one with a mark, the mark.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
