//! How connections open and end.

use std::net::{IpAddr, SocketAddr};

use super::world::World;
use crate::util::random::Random;
use crate::utp::packet::{PacketKind, UtpHeader, parse, write_header};
use crate::utp::seq_nr::SeqNr;
use crate::utp::{UtpCloseReason, UtpConfig, UtpDial, UtpEndpoint, UtpEvent, UtpKey, UtpTime};

const SECOND: u64 = 1_000_000;

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 5000))
}

/// An endpoint, which a test talks to in packets.
pub(super) struct Probe {
    pub(super) endpoint: UtpEndpoint,
    pub(super) now: UtpTime,
    /// The address of ours that packets are sent to.
    pub(super) local_ip: Option<IpAddr>,
}

impl Probe {
    pub(super) fn new(config: UtpConfig) -> Probe {
        Probe { endpoint: UtpEndpoint::new(config, Random::seeded(5)), now: UtpTime(SECOND), local_ip: None }
    }

    pub(super) fn give(&mut self, from: SocketAddr, header: UtpHeader, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_header(&mut bytes, &header);
        bytes.extend(payload);
        self.endpoint.receive(self.now, from, self.local_ip, &bytes);
    }

    /// Everything that is sent now.
    pub(super) fn sent(&mut self) -> Vec<(SocketAddr, UtpHeader, Vec<u8>)> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.endpoint.transmit(self.now, &mut out) {
            for datagram in out.chunks(transmit.segment) {
                let packet = parse(datagram).expect("a packet");
                all.push((transmit.to, packet.header, packet.payload.to_vec()));
            }
            out.clear();
        }
        all
    }

    /// The only packet that is sent now.
    pub(super) fn sent_one(&mut self) -> (SocketAddr, UtpHeader, Vec<u8>) {
        let mut all = self.sent();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub(super) fn pass(&mut self, microseconds: u64) {
        self.now = self.now.after(microseconds);
        self.endpoint.handle_deadlines(self.now);
    }

    pub(super) fn events(&mut self) -> Vec<UtpEvent> {
        std::iter::from_fn(|| self.endpoint.next_event()).collect()
    }

    /// Opens a connection to the endpoint. Returns its key and the header of our next packet.
    pub(super) fn open(&mut self, from: SocketAddr) -> (UtpKey, UtpHeader) {
        self.give(from, header(PacketKind::Syn, 100, 1, 0), &[]);
        let (_, answer, _) = self.sent_one();
        let next = header(PacketKind::Data, 101, 2, answer.seq.previous().0);
        self.give(from, next, b"hello");
        let events = self.events();
        let Some(UtpEvent::Incoming { key, .. }) = events.first() else { panic!("{events:?}") };
        self.sent();
        (*key, UtpHeader { seq: SeqNr(3), ..next })
    }
}

pub(super) fn header(kind: PacketKind, id: u16, seq: u16, ack: u16) -> UtpHeader {
    UtpHeader { kind, id, timestamp: 77, delay: 0, window: 1 << 20, seq: SeqNr(seq), ack: SeqNr(ack) }
}

#[test]
fn numbers_follow_the_specification() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let key = probe.endpoint.connect(probe.now, addr(1)).expect("a connection");
    assert_eq!(probe.endpoint.write(key, b"early"), 5);
    let (to, syn, payload) = probe.sent_one();
    assert_eq!((to, syn.kind, payload.len()), (addr(1), PacketKind::Syn, 0));
    let state = header(PacketKind::State, syn.id, 900, syn.seq.0);
    probe.give(addr(1), header(PacketKind::State, syn.id, 900, syn.seq.0.wrapping_sub(1)), &[]);
    probe.give(addr(1), header(PacketKind::Data, syn.id, 900, syn.seq.0), b"data before the answer");
    assert_eq!(probe.events(), []);
    probe.give(addr(1), state, &[]);
    assert_eq!(probe.events(), [UtpEvent::Connected(key)]);
    let (_, data, payload) = probe.sent_one();
    assert_eq!((data.kind, data.id, data.seq), (PacketKind::Data, syn.id.wrapping_add(1), syn.seq.next()));
    assert_eq!((data.ack, &payload[..]), (SeqNr(899), &b"early"[..]));
    // The first data has the number of the State.
    probe.give(addr(1), header(PacketKind::Data, syn.id, 900, data.seq.0), b"answer");
    assert_eq!(probe.events(), [UtpEvent::Readable(key)]);
    assert_eq!(probe.endpoint.readable(key), b"answer");
}

#[test]
fn a_syn_is_answered_by_one_small_packet_until_its_sender_has_shown_that_it_got_it() {
    let mut probe = Probe::new(UtpConfig::new(false));
    for _ in 0..3 {
        probe.give(addr(1), header(PacketKind::Syn, 100, 1, 0), &[]);
        let sent = probe.sent();
        let [(to, answer, payload)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((*to, answer.kind, answer.id, answer.ack), (addr(1), PacketKind::State, 100, SeqNr(1)));
        assert!(payload.is_empty());
    }
    // A forger does not know the number in the answer.
    for guess in 0..100 {
        probe.give(addr(1), header(PacketKind::Data, 101, 2, guess), b"forged");
    }
    assert_eq!((probe.events(), probe.sent()), (vec![], vec![]));
    probe.pass(5 * SECOND);
    assert_eq!(probe.sent(), []);
    assert_eq!(probe.endpoint.len(), 1);
    probe.pass(6 * SECOND);
    assert!(probe.endpoint.is_empty());
}

#[test]
fn a_connection_answers_from_the_address_at_which_it_began() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let [asked, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|ip| Some(IpAddr::from(ip)));
    let from = |probe: &mut Probe| {
        let mut senders = Vec::new();
        while let Some(transmit) = probe.endpoint.transmit(probe.now, &mut Vec::new()) {
            senders.push(transmit.from);
        }
        senders
    };
    probe.local_ip = asked;
    probe.give(addr(2), header(PacketKind::Syn, 200, 1, 0), &[]);
    assert_eq!(from(&mut probe), [asked], "the answer to a SYN");
    let (key, next) = probe.open(addr(1));
    probe.local_ip = other;
    probe.give(addr(1), next, b"data");
    probe.endpoint.write(key, &[7; 5_000]);
    let senders = from(&mut probe);
    assert!(!senders.is_empty() && senders.iter().all(|sender| *sender == asked), "{senders:?}");
    probe.endpoint.reset(key);
    assert_eq!(from(&mut probe), [asked], "its RESET");
    probe.give(addr(1), next, b"data");
    assert_eq!(from(&mut probe), [other], "the RESET of an unknown connection");
    probe.local_ip = None;
    let key = probe.endpoint.connect(probe.now, addr(3)).expect("a connection");
    assert_eq!(from(&mut probe), [None], "the system chooses for outgoing connections");
    assert!(probe.endpoint.connection(key).is_some());
}

#[test]
fn a_syn_is_repeated_and_then_given_up() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let key = probe.endpoint.connect(probe.now, addr(1)).expect("a connection");
    let mut sent = 0;
    while probe.events().is_empty() {
        sent += probe.sent().len();
        let next = probe.endpoint.next_deadline().expect("a deadline");
        probe.pass(next.since(probe.now));
        assert!(sent < 10);
    }
    assert_eq!((sent, probe.now), (4, UtpTime(16 * SECOND)));
    assert_eq!(probe.endpoint.len(), 1, "until it is released");
    probe.endpoint.release(probe.now, key);
    assert!(probe.endpoint.is_empty());
    assert_eq!(probe.sent(), []);
}

#[test]
fn refused_and_reset_connections_are_closed() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let key = probe.endpoint.connect(probe.now, addr(1)).expect("a connection");
    probe.endpoint.refuse(addr(2));
    assert_eq!(probe.events(), []);
    probe.endpoint.refuse(addr(1));
    assert_eq!(probe.events(), [UtpEvent::Closed(key, UtpCloseReason::Refused)]);
    let key = probe.endpoint.connect(probe.now, addr(1)).expect("a connection");
    let syn = probe.sent()[0].1;
    probe.give(addr(1), header(PacketKind::Reset, syn.id, 0, syn.seq.0), &[]);
    assert_eq!(probe.events(), [UtpEvent::Closed(key, UtpCloseReason::Reset)]);
    let (key, next) = probe.open(addr(3));
    probe.endpoint.refuse(addr(3));
    // libutp names the packet that it answers by the number that we gave it.
    probe.give(addr(3), header(PacketKind::Reset, next.id.wrapping_sub(1), 0, next.ack.0), &[]);
    let events = probe.events();
    assert_eq!(events, [UtpEvent::Closed(key, UtpCloseReason::Reset)]);
}

#[test]
fn a_reset_tells_the_peer_and_frees_the_key() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    probe.endpoint.reset(key);
    let (to, reset, payload) = probe.sent_one();
    assert_eq!((to, reset.kind, reset.id, payload.len()), (addr(1), PacketKind::Reset, 100, 0));
    assert!(probe.endpoint.is_empty());
    assert_eq!((probe.endpoint.write(key, b"x"), probe.endpoint.readable(key)), (0, &[][..]));
    probe.give(addr(1), next, b"late");
    let (_, answer, _) = probe.sent_one();
    assert_eq!((answer.kind, answer.id, answer.ack), (PacketKind::Reset, next.id, next.seq));
}

#[test]
fn the_last_acknowledgement_is_repeated() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    probe.endpoint.finish(key);
    let (_, fin, _) = probe.sent_one();
    assert_eq!(fin.kind, PacketKind::Fin);
    let last = UtpHeader { kind: PacketKind::Fin, ack: fin.seq, ..next };
    probe.give(addr(1), last, &[]);
    assert!(probe.events().contains(&UtpEvent::Closed(key, UtpCloseReason::Finished)));
    assert_eq!(probe.endpoint.readable(key), b"hello", "still there");
    probe.endpoint.release(probe.now, key);
    for _ in 0..2 {
        let answers = probe.sent();
        assert_eq!(answers.iter().map(|(_, answer, _)| answer.ack).collect::<Vec<_>>(), [last.seq]);
        probe.give(addr(1), last, &[]);
    }
    probe.sent();
    probe.pass(4 * SECOND);
    assert!(probe.endpoint.is_empty());
}

#[test]
fn a_released_connection_whose_peer_never_ends_is_reset() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, mut next) = probe.open(addr(1));
    probe.endpoint.release(probe.now, key);
    let fin = probe.sent().into_iter().find(|(_, sent, _)| sent.kind == PacketKind::Fin).expect("a FIN").1;
    let mut last = None;
    for _ in 0..70 {
        next = UtpHeader { seq: next.seq.next(), ack: fin.seq, ..next };
        probe.give(addr(1), next, &[1; 1000]);
        last = probe.sent().pop().or(last);
        probe.pass(SECOND);
        last = probe.sent().pop().or(last);
    }
    assert_eq!(last.expect("a packet").1.kind, PacketKind::Reset);
    assert!(probe.endpoint.is_empty());
}

#[test]
fn both_sides_may_connect_to_each_other_at_once() {
    let mut world = World::new(20_000, &UtpConfig::new(false));
    world.connect(10_000);
    let (now, to) = (world.sides[1].time(0), world.sides[0].addr);
    let key = world.sides[1].endpoint.connect(now, to).expect("a connection");
    world.sides[1].user(key).to_write = 5_000;
    world.run_while(|world| world.read(0) < 5_000 || world.read(1) < 10_000);
    assert_eq!((world.sides[0].incoming, world.sides[1].incoming), (1, 1));
}

/// Each side is behind a router that lets in only what answers its own side. The first SYN comes too early.
#[test]
fn two_sides_behind_routers_connect_at_once_when_both_dial() {
    let mut world = World::new(20_000, &UtpConfig::new(false));
    let dial = |world: &mut World, side: usize| {
        let (now, to) = (world.sides[side].time(world.now), world.sides[1 - side].addr);
        let key = world.sides[side].endpoint.dial(now, to, UtpDial::HolePunch).expect("a connection");
        world.sides[side].user(key).to_write = 5_000;
    };
    world.links[0].loss = 1000;
    dial(&mut world, 0);
    world.run_until(10_000);
    let (refused, refusing) = (world.sides[1].addr, world.sides[0].addr);
    world.sides[0].endpoint.refuse(refused);
    assert_eq!(world.links[0].dropped, 1, "the other router has dropped the SYN, and says so");
    world.links[0].loss = 0;
    dial(&mut world, 1);
    world.run_until(900_000);
    assert!(world.read(0) == 5_000 && world.sides[0].incoming == 1, "one SYN is enough, before any is repeated");
    world.sides[1].endpoint.refuse(refusing);
    world.run_while(|world| world.read(1) < 5_000);
    assert_eq!(
        (world.sides[0].incoming, world.sides[1].incoming),
        (1, 1),
        "the other connection is the users' to close"
    );
}

#[test]
fn only_a_connection_that_is_no_hole_punch_believes_a_refusal() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let punch = probe.endpoint.dial(probe.now, addr(1), UtpDial::HolePunch).expect("a connection");
    let direct = probe.endpoint.connect(probe.now, addr(1)).expect("a connection");
    probe.endpoint.refuse(addr(1));
    assert_eq!(probe.events(), [UtpEvent::Closed(direct, UtpCloseReason::Refused)]);
    for pause in [1, 2, 4, 8] {
        assert_eq!(probe.sent().len(), 1, "a SYN");
        probe.pass(pause * SECOND);
    }
    assert_eq!(probe.events(), [UtpEvent::Closed(punch, UtpCloseReason::ConnectTimedOut)]);
}
