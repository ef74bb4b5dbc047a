//! Hole punching (BEP 55) on main: asks relays, is a relay, and dials the peers that relays name. `strategy::hole_punch` decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::outbox::WriterCommand;
use crate::peer::{Connection, DialPlan, DialTransports, DisconnectReason, Peer, TorrentContext};
use crate::strategy::hole_punch::{FIRST_PUNCHED_PORT, IntroduciblePeer, IntroductionVerdict, PunchRequest};
use crate::torrent::peer_manager::PeerManager;
use crate::types::{PeerKey, Transport};
use crate::utp::UtpDial;
use crate::wire::holepunch::HolePunchMessage;

/// How long both sides try. uTP sends three SYNs in this time.
const PUNCH_TIMEOUT: Duration = Duration::from_secs(6);

impl PeerManager<'_> {
    /// Whether we offer hole punching: over uTP only, not behind a proxy, not anonymously, since relays would name us to others,
    /// and not where peers must not name peers.
    pub(crate) fn can_punch_holes(&self, context: &TorrentContext) -> bool {
        let settings = &context.settings;
        let is_direct = settings.route.proxy().is_none() && !settings.route.is_anonymous();
        settings.uses_pex && is_direct && self.registration.dial_transports().utp.is_some()
    }

    /// Asks relays to introduce us to peers that we cannot reach.
    pub(super) fn send_rendezvous(&mut self, context: &TorrentContext, now: Duration) {
        while self.can_dial()
            && let Some((relay, addr)) = self
                .hole_punch
                .requests
                .next_request(now, |key| context.roster.get(key).is_some_and(|peer| supports_hole_punch(&peer)))
        {
            if let Some(relay) = context.roster.get(relay) {
                log::debug!("{addr}: asking {} to introduce us", relay.addr);
                send(&relay, HolePunchMessage::Rendezvous(addr));
            }
        }
    }

    /// Records a dial that led to no connection. A relay may help.
    pub(super) fn note_failed_dial(
        &mut self,
        context: &TorrentContext,
        addr: SocketAddr,
        was_punch: bool,
        why: &DisconnectReason,
    ) {
        self.inner.peers.search.lock().note_failed_dial(why);
        let is_unreachable = matches!(why, DisconnectReason::Unreachable(_));
        if is_unreachable && !was_punch && context.offers_hole_punch.is_set() {
            self.hole_punch.requests.dial_failed(context.now(), addr);
        }
    }

    /// A peer has sent a message. Those of peers that do not accept such messages are ignored.
    pub(super) fn handle_hole_punch(&mut self, context: &Arc<TorrentContext>, key: PeerKey, message: HolePunchMessage) {
        let Some(peer) = context.roster.get(key).filter(|peer| supports_hole_punch(peer)) else { return };
        match message {
            HolePunchMessage::Rendezvous(wanted) => self.introduce(context, &peer, wanted),
            HolePunchMessage::Connect(addr) => self.punch(context, &peer, addr),
            HolePunchMessage::Failed(addr, error) => {
                log::debug!("{addr}: {} does not introduce us: {error:?}", peer.addr);
                self.hole_punch.requests.refused(context.now(), key, addr, error);
            }
        }
    }

    /// Introduces `from` to the peer at `wanted`, if that is a peer of ours.
    fn introduce(&mut self, context: &TorrentContext, from: &Peer, wanted: SocketAddr) {
        let peers = context.roster.all();
        let is_at = |peer: &&Arc<Peer>| peer.listen_addr() == Some(wanted);
        let exact = peers.iter().find(|peer| introducible(peer).addr == Some(wanted));
        let target = exact.or_else(|| peers.iter().find(is_at));
        let is_ours = self.is_our_address(context, wanted);
        let verdict = self.hole_punch.introductions.decide(
            context.now(),
            &introducible(from),
            wanted,
            is_ours,
            target.map(|peer| introducible(peer)).as_ref(),
        );
        match verdict {
            IntroductionVerdict::Ignore => {}
            IntroductionVerdict::Refuse(error) => send(from, HolePunchMessage::Failed(wanted, error)),
            IntroductionVerdict::Introduce { initiator, target: addr } => {
                log::debug!("introducing {initiator} and {addr} to each other");
                send(from, HolePunchMessage::Connect(addr));
                if let Some(target) = target {
                    send(target, HolePunchMessage::Connect(initiator));
                }
            }
        }
    }

    /// Dials the peer at `addr`, because the relay says that it dials us too.
    fn punch(&mut self, context: &Arc<TorrentContext>, relay: &Peer, addr: SocketAddr) {
        let now = context.now();
        let is_answer = self.hole_punch.requests.answered(relay.key, addr.ip());
        let is_connected = |peer: Arc<Peer>| peer.addr == addr || peer.listen_addr() == Some(addr);
        let may_dial = self.can_dial()
            && !context.are_connections_ending()
            && now >= self.next.descriptors_short_until
            && self.registration.dials_allowed() > 0
            && !context.roster.all().into_iter().any(is_connected)
            && !self.is_our_address(context, addr)
            && !self.forget_if_blocked(addr);
        let Some(utp) = self.registration.dial_transports().utp.filter(|_| may_dial) else { return };
        let request = PunchRequest { relay: relay.key, relay_ip: relay.addr.ip(), addr, is_answer };
        // First, so that addresses that are not dialled anyway do not use up what is allowed.
        let Some(punched) = self.peer_list.admit_punched(addr, now) else { return };
        let key = context.new_key();
        if !self.hole_punch.dials.admit(now, &request) {
            return self.peer_list.withdraw_punched(addr, punched);
        }
        self.peer_list.note_dialed(addr, key);
        self.registration.note_dial();
        let plan = DialPlan {
            mode: self.peer_list.dial_mode(&addr),
            timeout: PUNCH_TIMEOUT,
            transports: DialTransports { uses_tcp: false, utp: Some(utp) },
            first: Transport::Utp,
            utp_dial: UtpDial::HolePunch,
        };
        match Connection::dial(context, key, addr, plan) {
            Ok(connection) => {
                log::debug!("{addr}: punching a hole, which {} asks for", relay.addr);
                self.inner.peers.sources.lock().insert(key, self.peer_list.source(&addr));
                self.add_connection(context, key, connection, false);
                if let Some(entry) = self.connections.get_mut(&key) {
                    entry.punch = Some(punched);
                }
            }
            Err(error) => {
                log::debug!("cannot connect to {addr}: {error}");
                self.peer_list.punch_failed(addr, key, punched);
            }
        }
    }

    /// Whether the address is our own, as far as we know.
    fn is_our_address(&self, context: &TorrentContext, addr: SocketAddr) -> bool {
        let is_own_port = addr.port() == self.port() || addr.port() == context.ports.announced();
        is_own_port && (self.peer_list.is_ours(addr) || context.settings.route.own_addresses().contains(&addr.ip()))
    }
}

/// Whether the peer can introduce us to others.
pub(super) fn can_relay(context: &TorrentContext, key: PeerKey) -> bool {
    context.offers_hole_punch.is_set() && context.roster.get(key).is_some_and(|peer| supports_hole_punch(&peer))
}

fn supports_hole_punch(peer: &Peer) -> bool {
    peer.extensions.holepunch_id.get() != 0
}

/// The peer, as a relay sees it. A port that the peer only claims is named only if no well-known service has it.
fn introducible(peer: &Peer) -> IntroduciblePeer {
    let is_seen = peer.transport == Transport::Utp || !peer.is_incoming;
    let claimed = || peer.listen_addr().filter(|addr| addr.port() >= FIRST_PUNCHED_PORT);
    let addr = if is_seen { Some(peer.addr) } else { claimed() };
    IntroduciblePeer { key: peer.key, addr, supports_hole_punch: supports_hole_punch(peer) }
}

fn send(peer: &Peer, message: HolePunchMessage) {
    peer.send(WriterCommand::Extended(peer.extensions.holepunch_id.get(), message.encode()));
}
