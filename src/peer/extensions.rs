//! The sending side of two extensions: rejects (BEP 6), our extension handshake and `upload_only` (BEP 10, BEP 21).

use crate::peer::TorrentContext;
use crate::peer::outbox::WriterCommand;
use crate::peer::state::Peer;
use crate::types::BlockInfo;
use crate::wire::extension::{HANDSHAKE_ID, OUR_REQUEST_QUEUE, OurExtensionHandshake};

/// Rejects that may wait for a peer that does not read them.
const MAX_PENDING_REJECTS: u32 = 2 * OUR_REQUEST_QUEUE;

impl Peer {
    /// Tells a fast peer that these requests will not be answered. BEP 3 has no message for that, so other peers are told
    /// nothing. Returns false if far too many rejects wait.
    pub fn send_rejects(&self, blocks: Vec<BlockInfo>) -> bool {
        if !self.extensions.supports_fast || blocks.is_empty() {
            return true;
        }
        let count = blocks.len() as u32;
        let waiting = self.serving.pending_rejects.add(count).saturating_add(count);
        self.send(WriterCommand::Reject(blocks));
        waiting <= MAX_PENDING_REJECTS
    }

    /// The payload of our extension handshake for this peer (BEP 10).
    pub fn extension_handshake(&self, context: &TorrentContext) -> Vec<u8> {
        let is_upload_only = is_upload_only(context);
        let is_anonymous = context.settings.route.is_anonymous();
        let port = if is_anonymous { 0 } else { context.ports.tcp_for(self.addr.ip()) };
        let metadata_size = context.info.get().and_then(|info| u32::try_from(info.len()).ok()).unwrap_or_default();
        OurExtensionHandshake {
            port,
            your_ip: (!is_anonymous).then_some(self.addr.ip()),
            is_upload_only,
            metadata_size,
            supports_pex: context.settings.uses_pex,
            supports_hole_punch: context.offers_hole_punch.is_set(),
            client: (!is_anonymous).then_some(&context.settings.client_name),
        }
        .encode()
    }

    /// Tells the peer whether we are upload-only: by the `upload_only` message if the peer supports it, else by another
    /// extension handshake if the peer supports those.
    pub fn send_upload_only(&self, context: &TorrentContext) {
        match self.extensions.upload_only_id.get() {
            0 if self.extensions.supports_extensions => {
                self.send(WriterCommand::Extended(HANDSHAKE_ID, self.extension_handshake(context)));
            }
            0 => {}
            id => self.send(WriterCommand::Extended(id, vec![u8::from(is_upload_only(context))])),
        }
    }
}

/// Whether we announce that we download nothing more (BEP 21): once every wanted piece is verified, and never before the
/// metadata is known. A super-seed does not announce it while it pretends to have nothing: libtorrent disconnects a peer that
/// neither has nor wants anything.
fn is_upload_only(context: &TorrentContext) -> bool {
    !context.settings.is_fetching_metadata && context.pieces.is_complete() && context.active_super_seed().is_none()
}
