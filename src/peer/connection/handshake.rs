//! The handshake of a connection that is open, by TCP or uTP.

use std::time::{Duration, Instant};

use crate::net::bind;
use crate::peer::disconnect_reason::DisconnectReason;
use crate::peer::encryption::{HandshakeStream, StreamState};
use crate::peer::socket_write::WRITE_BLOCKED_AFTER;
use crate::peer::{IncomingHandshake, SILENCE_TIMEOUT, TorrentContext};
use crate::types::{DialMode, Transport};
use crate::udp::PeerStream;
use crate::util::atomics::Flag;
use crate::wire::handshake::Handshake;

/// The time limit for the whole handshake, however slowly its bytes arrive.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which side begins the handshake.
pub(super) enum HandshakeStart {
    Outgoing(DialMode),
    Incoming(Option<Box<IncomingHandshake>>),
}

/// Exchanges handshakes.
pub(super) fn shake_hands(
    context: &TorrentContext,
    stream: &PeerStream,
    has_received: &Flag,
    start: HandshakeStart,
) -> Result<(Handshake, StreamState), DisconnectReason> {
    let incoming = matches!(start, HandshakeStart::Incoming(_));
    // uTP has neither of the two settings.
    if stream.transport() == Transport::Tcp {
        bind::set_dscp(stream, context.settings.dscp);
        stream.set_nodelay(true).map_err(|e| DisconnectReason::io(&e))?;
    }
    let dht = context.ports.dht.get() != 0;
    let ours = Handshake::ours(context.settings.info_hash, context.settings.peer_id, dht);
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let mut peer_stream = HandshakeStream::new(stream, deadline, has_received);
    match start {
        HandshakeStart::Outgoing(dial_mode) => {
            peer_stream.initiate(dial_mode, context.settings.encryption, &ours).map_err(unanswered)?;
        }
        HandshakeStart::Incoming(None) => {
            peer_stream.respond(context.settings.encryption, context.settings.info_hash)?;
        }
        HandshakeStart::Incoming(Some(handshake)) => {
            peer_stream = HandshakeStream::resume(stream, deadline, has_received, handshake.stream_state);
        }
    }
    let swarm = if incoming { peer_stream.read_info_hash() } else { peer_stream.read_info_hash().map_err(unanswered) }?;
    if swarm != context.settings.info_hash {
        return Err(DisconnectReason::Handshake("another torrent"));
    }
    if incoming {
        peer_stream.send(&ours.encode())?; // even to ourselves: the dialling side must learn whom it reached
    }
    let peer_handshake =
        if incoming { peer_stream.read_handshake() } else { peer_stream.read_handshake().map_err(unanswered) }?;
    if peer_handshake.peer_id == context.settings.peer_id {
        return Err(DisconnectReason::Ourselves);
    }
    let stream_state = peer_stream.finish();
    let prepared = stream
        .set_read_timeout(Some(SILENCE_TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(WRITE_BLOCKED_AFTER)));
    prepared.map_err(|e| DisconnectReason::io(&e))?;
    Ok((peer_handshake, stream_state))
}

/// A peer that closes or stays silent while we wait for its handshake may accept another kind of handshake.
fn unanswered(reason: DisconnectReason) -> DisconnectReason {
    if matches!(reason, DisconnectReason::Closed | DisconnectReason::Silent | DisconnectReason::Lost(_)) {
        DisconnectReason::Unanswered
    } else {
        reason
    }
}
