//! One announce to one tracker.

use std::sync::Arc;
use std::time::Duration;

use crate::discovery::tracker::announce::{Announce, AnnounceResponse, AnnouncedPayload, announced_port};
use crate::discovery::tracker::client::TrackerClient;
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::tiers::AnnounceJob;
use crate::peer::{TorrentContext, TrackerEvent};

/// Peers to ask for in an announce: while downloading, and once everything wanted is complete. A seed is mostly found by
/// others.
const NUMWANT: u32 = 200;
const NUMWANT_SEED: u32 = 30;

/// How a torrent identifies itself in announces.
#[derive(Clone, Copy)]
pub struct AnnounceParameters {
    /// The key by which trackers recognise us.
    pub key: u32,
    /// Whether the torrent is private.
    pub is_private: bool,
    /// Payload under the same identity before this run.
    pub before: AnnouncedPayload,
}

/// Announces to one tracker and waits for the answer. A later answer over the tracker's second address family is sent as an
/// event.
pub fn send(
    context: &Arc<TorrentContext>,
    client: &TrackerClient,
    identity: AnnounceParameters,
    job: &AnnounceJob,
    deadline: Duration,
) -> Result<AnnounceResponse, TrackerError> {
    let totals = context.payload.run_totals();
    let announce = Announce {
        info_hash: context.settings.info_hash,
        peer_id: context.settings.peer_id,
        port: announced_port(context.ports.announced()),
        uploaded: identity.before.uploaded.saturating_add(totals.uploaded),
        downloaded: identity.before.downloaded.saturating_add(totals.downloaded),
        left: context.bytes_left(),
        key: identity.key,
        numwant: if context.settings.is_fetching_metadata || !context.pieces.is_complete() {
            NUMWANT
        } else {
            NUMWANT_SEED
        },
        event: context.announce_event(job.event),
        tracker_id: job.tracker_id.as_deref(),
    };
    let ours = context.clone();
    let more =
        move |answer: AnnounceResponse| ours.send_to_main(TrackerEvent::SecondFamilyPeers { peers: answer.peers });
    client.announce(&job.url, &announce, identity.is_private, deadline, more)
}
