//! Limits how much metadata a peer may request from us.

use crate::wire::metadata::{MAX_SIZE, MetadataMessage, PIECE, pieces};

/// How many metadata pieces one peer was sent: a few copies at most, as BEP 9 allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataQuota(u32);

/// How often one peer may download the whole metadata.
const MAX_COPIES: u32 = 3;
/// How often all peers of one host may; see [`HostQuota`](crate::strategy::HostQuota).
const MAX_COPIES_OF_HOST: u32 = 32;

impl MetadataQuota {
    /// The answer to a peer's request. `info` is the whole info dictionary, or `None` while it is unknown. `may_host` says whether
    /// the peer's host may have another piece if it may have this many.
    pub fn answer<'a>(
        &mut self,
        info: Option<&'a [u8]>,
        piece: u32,
        may_host: impl FnOnce(u32) -> bool,
    ) -> MetadataMessage<'a> {
        let data = info.and_then(|info| {
            let total_size = u32::try_from(info.len()).ok().filter(|&size| size <= MAX_SIZE)?;
            let bytes = info.chunks(PIECE as usize).nth(piece as usize)?;
            let is_left = self.0 < MAX_COPIES * pieces(total_size);
            (is_left && may_host(MAX_COPIES_OF_HOST * pieces(total_size))).then_some((total_size, bytes))
        });
        let Some((total_size, bytes)) = data else { return MetadataMessage::Reject { piece } };
        self.0 += 1;
        MetadataMessage::Data { piece, total_size, bytes }
    }
}
