//! Two endpoints, the network between them, and users that write and check streams.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;

use super::competitor::Competitor;
use super::network::Link;
use crate::util::random::Random;
use crate::utp::{UtpCloseReason, UtpConfig, UtpEndpoint, UtpEvent, UtpKey, UtpTime};

/// The length of the pattern that streams repeat.
const PATTERN: usize = 65_521;

/// What is on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parcel {
    Datagram(Vec<u8>),
    /// Of the competing TCP connection.
    Tcp(u64),
}

/// One connection as its user sees it.
#[derive(Debug, Default)]
pub(super) struct User {
    /// How many bytes to write, and how many are written.
    pub(super) to_write: u64,
    pub(super) written: u64,
    pub(super) read: u64,
    pub(super) is_finishing: bool,
    pub(super) is_finished: bool,
    pub(super) closed: Option<UtpCloseReason>,
    /// Does not read.
    pub(super) is_asleep: bool,
}

/// One endpoint.
pub(super) struct Side {
    pub(super) addr: SocketAddr,
    pub(super) endpoint: UtpEndpoint,
    pub(super) users: BTreeMap<(u32, u32), User>,
    /// What new incoming connections write.
    pub(super) answer: u64,
    /// The clock shows this at the start, and gains so many microseconds a second.
    pub(super) clock: u64,
    pub(super) drift: i64,
    pub(super) sent_bytes: u64,
    pub(super) sent_packets: u64,
    pub(super) incoming: usize,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) sides: [Side; 2],
    pub(super) links: [Link; 2],
    pub(super) random: Random,
    pub(super) competitor: Option<Competitor>,
    on_the_way: BinaryHeap<Reverse<(u64, u64, usize, Parcel)>>,
    count: u64,
    pattern: Vec<u8>,
    pub(super) wake_ups: u64,
}

fn side(number: u8, config: UtpConfig) -> Side {
    Side {
        addr: SocketAddr::from(([10, 0, 0, number], 6881)),
        endpoint: UtpEndpoint::new(config, Random::seeded(u64::from(number))),
        users: BTreeMap::new(),
        answer: 0,
        clock: 0,
        drift: 0,
        sent_bytes: 0,
        sent_packets: 0,
        incoming: 0,
    }
}

impl Side {
    pub(super) fn time(&self, now: u64) -> UtpTime {
        let now_signed = now.cast_signed();
        let drifted = now_signed / 1_000_000 * self.drift + now_signed % 1_000_000 * self.drift / 1_000_000;
        UtpTime(self.clock.wrapping_add(now).wrapping_add_signed(drifted))
    }

    /// The earliest time of the world at which the clock shows `at`.
    fn world_time(&self, now: u64, at: UtpTime) -> u64 {
        let mut guess = now + at.since(self.time(now));
        while self.time(guess) < at {
            guess += 1 + at.since(self.time(guess));
        }
        guess
    }

    pub(super) fn user(&mut self, key: UtpKey) -> &mut User {
        self.users.entry((key.slot, key.generation)).or_default()
    }
}

impl World {
    pub(super) fn new(delay: u64, config: &UtpConfig) -> World {
        World {
            now: 0,
            sides: [side(1, config.clone()), side(2, config.clone())],
            links: [Link::new(delay), Link::new(delay)],
            random: Random::seeded(42),
            competitor: None,
            on_the_way: BinaryHeap::new(),
            count: 0,
            pattern: (0..PATTERN * 2).map(|n| (n % PATTERN * 7 % 251) as u8).collect(),
            wake_ups: 0,
        }
    }

    /// Connects the first side to the second, to write so many bytes and end the stream.
    pub(super) fn connect(&mut self, to_write: u64) -> UtpKey {
        let (time, to) = (self.sides[0].time(self.now), self.sides[1].addr);
        let key = self.sides[0].endpoint.connect(time, to).expect("a connection");
        let user = self.sides[0].user(key);
        (user.to_write, user.is_finishing) = (to_write, true);
        key
    }

    /// Lets the world go on until the time, or until nothing will ever happen. Returns whether something will.
    pub(super) fn run_until(&mut self, end: u64) -> bool {
        self.pump();
        loop {
            let Some(next) = self.next_time() else { return false };
            if next > end {
                self.now = end;
                return true;
            }
            self.step(next);
        }
    }

    /// Lets the world go on until the condition holds. Returns the time it took.
    pub(super) fn run_while(&mut self, mut goes_on: impl FnMut(&mut World) -> bool) -> u64 {
        let began = self.now;
        self.pump();
        while goes_on(self) {
            let next = self.next_time().expect("the world has come to an end");
            assert!(next - began < 4_000_000_000, "it takes too long");
            self.step(next);
        }
        self.now - began
    }

    fn next_time(&mut self) -> Option<u64> {
        let mut times: Vec<u64> = self.on_the_way.peek().map(|Reverse((at, ..))| *at).into_iter().collect();
        for side in &mut self.sides {
            if let Some(at) = side.endpoint.next_deadline() {
                times.push(side.world_time(self.now, at));
            }
        }
        times.extend(self.competitor.as_ref().map(Competitor::next_deadline));
        times.into_iter().min().map(|at| at.max(self.now))
    }

    fn step(&mut self, next: u64) {
        self.now = next;
        while self.on_the_way.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, parcel))) = self.on_the_way.pop() else { break };
            self.deliver(to, parcel);
        }
        for side in &mut self.sides {
            let now = side.time(self.now);
            if side.endpoint.next_deadline().is_some_and(|at| at <= now) {
                self.wake_ups += 1;
                side.endpoint.handle_deadlines(now);
                assert!(side.endpoint.next_deadline().is_none_or(|at| at > now), "it has handled everything");
            }
        }
        self.pump();
    }

    fn deliver(&mut self, to: usize, parcel: Parcel) {
        match parcel {
            Parcel::Datagram(bytes) => {
                let (now, from) = (self.sides[to].time(self.now), self.sides[1 - to].addr);
                self.sides[to].endpoint.receive(now, from, None, &bytes);
            }
            Parcel::Tcp(number) if to == 1 => self.send(1, 40, &Parcel::Tcp(number)),
            Parcel::Tcp(number) => {
                if let Some(competitor) = &mut self.competitor {
                    competitor.acknowledged(self.now, number);
                }
            }
        }
    }

    /// Puts something on the way from a side to the other.
    pub(super) fn send(&mut self, from: usize, len: usize, parcel: &Parcel) {
        for at in self.links[from].carry(self.now, len, &mut self.random) {
            self.count += 1;
            self.on_the_way.push(Reverse((at, self.count, 1 - from, parcel.clone())));
        }
    }

    /// Lets users and endpoints do what they can.
    pub(super) fn pump(&mut self) {
        for from in 0..2 {
            self.serve(from);
            self.flush(from);
        }
        if let Some(mut competitor) = self.competitor.take() {
            for number in competitor.due(self.now) {
                self.send(0, 1472, &Parcel::Tcp(number));
            }
            self.competitor = Some(competitor);
        }
    }

    fn flush(&mut self, from: usize) {
        let (mut out, now) = (Vec::new(), self.sides[from].time(self.now));
        while let Some(transmit) = self.sides[from].endpoint.transmit(now, &mut out) {
            assert_eq!(out.len().div_ceil(transmit.segment), transmit.count, "{transmit:?}");
            assert!(out.len() <= 65_507 && transmit.count <= 64);
            self.sides[from].sent_bytes += out.len() as u64;
            self.sides[from].sent_packets += transmit.count as u64;
            if transmit.to == self.sides[1 - from].addr {
                for datagram in out.chunks(transmit.segment) {
                    self.send(from, datagram.len(), &Parcel::Datagram(datagram.to_vec()));
                }
            }
            out.clear();
        }
    }

    fn serve(&mut self, number: usize) {
        let side = &mut self.sides[number];
        while let Some(event) = side.endpoint.next_event() {
            match event {
                UtpEvent::Incoming { key, .. } => {
                    let answer = side.answer;
                    let user = side.user(key);
                    user.to_write = answer;
                    side.incoming += 1;
                }
                UtpEvent::Finished(key) => {
                    let user = side.user(key);
                    (user.is_finished, user.is_finishing) = (true, true);
                }
                UtpEvent::Closed(key, reason) => side.user(key).closed = Some(reason),
                UtpEvent::Connected(_) | UtpEvent::Readable(_) | UtpEvent::Writable(_) => {}
            }
        }
        for ((slot, generation), user) in &mut side.users {
            let key = UtpKey { slot: *slot, generation: *generation };
            while user.written < user.to_write {
                let at = (user.written % PATTERN as u64) as usize;
                let len = ((user.to_write - user.written) as usize).min(PATTERN);
                let count = side.endpoint.write(key, &self.pattern[at..at + len]);
                user.written += count as u64;
                if count < len {
                    break;
                }
            }
            if user.is_finishing && user.written == user.to_write {
                side.endpoint.finish(key);
            }
            while !user.is_asleep && !side.endpoint.readable(key).is_empty() {
                let bytes = side.endpoint.readable(key);
                let count = bytes.len().min(PATTERN);
                let at = (user.read % PATTERN as u64) as usize;
                assert!(bytes[..count] == self.pattern[at..at + count], "wrong bytes after {}", user.read);
                user.read += count as u64;
                side.endpoint.consume(key, count);
            }
        }
    }

    /// The bytes that a side's users have read.
    pub(super) fn read(&self, side: usize) -> u64 {
        self.sides[side].users.values().map(|user| user.read).sum()
    }

    /// Whether all users of a side have learned that their connections were finished.
    pub(super) fn is_finished(&self, side: usize) -> bool {
        self.sides[side].users.values().all(|user| user.closed == Some(UtpCloseReason::Finished))
    }
}
