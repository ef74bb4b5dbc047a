//! Packets of uTP, and how an endpoint handles them.

use std::net::SocketAddr;

use btsync::util::random::Random;
use btsync::utp::packet::{parse, write_with_sack};
use btsync::utp::{UtpConfig, UtpEndpoint, UtpEvent, UtpKey, UtpTime};

/// The most bytes that an endpoint may hold for a connection, and the most datagrams that it may send for one input.
const MAX_MEMORY: usize = 5 << 20;
const MAX_SENT: usize = 100_000;

/// Parses a packet. What was parsed fits into the datagram, and is the same when it is written and parsed again.
pub fn utp_packet(bytes: &[u8]) -> bool {
    let Some(packet) = parse(bytes) else { return false };
    assert!(20 + packet.sack.len() + packet.payload.len() <= bytes.len());
    let mut again = Vec::new();
    write_with_sack(&mut again, &packet.header, packet.sack);
    again.extend_from_slice(packet.payload);
    assert_eq!(parse(&again), Some(packet), "we read what we write");
    true
}

/// Lets an endpoint with an open connection handle a series of steps. Each begins with a byte that says what happens and one that
/// says how much. A packet's numbers count from those that the connection expects.
pub fn utp_endpoint(bytes: &[u8]) -> bool {
    let mut world = FuzzedEndpoint::new();
    let mut rest = bytes;
    let mut is_alive = false;
    while let Some(([what, much], after)) = rest.split_first_chunk() {
        rest = after;
        let much = usize::from(*much);
        match what % 8 {
            0 => world.time(much as u64 * 10_000),
            1 => world.write(much * 40),
            2 => world.read(much * 40),
            3 => world.finish(much),
            4 => {
                let (datagram, after) = rest.split_at(much.min(rest.len()));
                rest = after;
                world.endpoint.receive(world.now, world.peer, None, datagram);
            }
            _ => {
                let (head, after) = rest.split_at(rest.len().min(13));
                rest = after;
                world.packet(head, much);
            }
        }
        world.settle();
        is_alive |= world.endpoint.addr(world.key).is_some();
    }
    is_alive
}

struct FuzzedEndpoint {
    endpoint: UtpEndpoint,
    now: UtpTime,
    peer: SocketAddr,
    key: UtpKey,
    id: u16,
    /// The number of our last packet, and of its last one.
    seq: u16,
    last: u16,
    sent: usize,
}

impl FuzzedEndpoint {
    fn new() -> FuzzedEndpoint {
        let mut endpoint = UtpEndpoint::new(UtpConfig::new(false), Random::seeded(1));
        let (now, peer) = (UtpTime(1_000_000), SocketAddr::from(([10, 0, 0, 9], 6881)));
        let key = endpoint.connect(now, peer).expect("room for one");
        let mut out = Vec::new();
        endpoint.transmit(now, &mut out).expect("a SYN");
        let syn = parse(&out).expect("a packet").header;
        let mut world = FuzzedEndpoint { endpoint, now, peer, key, id: syn.id, seq: 0xfff0, last: syn.seq.0, sent: 0 };
        world.packet(&[2, 0, 0, 0, 1, 0, 0, 0, 10, 0, 16, 0, 0], 0);
        assert_eq!(world.endpoint.next_event(), Some(UtpEvent::Connected(key)));
        world
    }

    /// A packet: its type, distances of its numbers, window, delay, timestamp, length and selective acknowledgement.
    fn packet(&mut self, head: &[u8], much: usize) {
        let byte = |at: usize| head.get(at).copied().unwrap_or_default();
        let near = |from: u16, by: u8| from.wrapping_add_signed(i16::from(by.cast_signed()));
        let mut datagram = vec![(byte(0) % 5) << 4 | 1, u8::from(much % 3 == 2)];
        datagram.extend(near(self.id, byte(1) % 3).to_be_bytes());
        datagram.extend([byte(2), byte(3), 0, byte(4)]);
        datagram.extend([byte(5), byte(6), byte(7), byte(8)]);
        datagram.extend([0, byte(10), byte(9), 0]);
        datagram.extend(near(self.seq, byte(11)).to_be_bytes());
        datagram.extend(near(self.last, byte(12)).to_be_bytes());
        if much % 3 == 2 {
            datagram.extend([0, 4, byte(9), byte(8), byte(7), byte(6)]);
        }
        datagram.resize(datagram.len() + much * 4, byte(3));
        self.endpoint.receive(self.now, self.peer, None, &datagram);
        if byte(11) == 1 {
            self.seq = self.seq.wrapping_add(1);
        }
    }

    fn time(&mut self, microseconds: u64) {
        self.now = self.now.after(microseconds);
        self.endpoint.handle_deadlines(self.now);
        assert!(self.endpoint.next_deadline().is_none_or(|at| at > self.now));
    }

    fn write(&mut self, count: usize) {
        let space = self.endpoint.await_space(self.key);
        assert_eq!(self.endpoint.write(self.key, &vec![7; count]), count.min(space));
    }

    fn read(&mut self, count: usize) {
        let readable = self.endpoint.readable(self.key).len();
        assert!(readable <= MAX_MEMORY);
        self.endpoint.consume(self.key, count.min(readable));
    }

    fn finish(&mut self, how: usize) {
        match how {
            0 => self.endpoint.reset(self.key),
            1 => self.endpoint.release(self.now, self.key),
            _ => self.endpoint.finish(self.key),
        }
    }

    /// Takes events and datagrams.
    fn settle(&mut self) {
        while self.endpoint.next_event().is_some() {}
        let mut out = Vec::new();
        while let Some(transmit) = self.endpoint.transmit(self.now, &mut out) {
            assert_eq!(out.len().div_ceil(transmit.segment), transmit.count);
            for packet in out.chunks(transmit.segment).map(|datagram| parse(datagram).expect("a valid packet")) {
                self.last = packet.header.seq.0;
                self.sent += 1;
            }
            assert!(self.sent < MAX_SENT);
            out.clear();
        }
        assert!(self.endpoint.connection(self.key).is_none_or(|connection| connection.allocated() < MAX_MEMORY));
    }
}
