//! A sender like TCP's Reno or CUBIC (without its friendly region), with selective acknowledgements, that always has data.

use std::collections::BTreeMap;

/// CUBIC's constants.
const CUBIC_SCALE: f64 = 0.4;
const CUBIC_BETA: f64 = 0.7;

#[derive(Debug)]
pub(super) struct Competitor {
    is_cubic: bool,
    window: f64,
    threshold: f64,
    next: u64,
    on_the_way: BTreeMap<u64, u64>,
    recovery: u64,
    last_ack: u64,
    round_trip: u64,
    /// CUBIC: the window at the last loss, and when that was.
    most: f64,
    lost_at: u64,
    pub(super) delivered: u64,
    starts: u64,
}

impl Competitor {
    /// Starts at that time.
    pub(super) fn new(is_cubic: bool, starts: u64) -> Competitor {
        Competitor {
            is_cubic,
            window: 10.0,
            threshold: f64::MAX,
            next: 0,
            on_the_way: BTreeMap::new(),
            recovery: 0,
            last_ack: starts,
            round_trip: 200_000,
            most: 0.0,
            lost_at: starts,
            delivered: 0,
            starts,
        }
    }

    fn retransmit_at(&self) -> u64 {
        self.last_ack + (self.round_trip * 2).max(1_000_000)
    }

    pub(super) fn next_deadline(&self) -> u64 {
        if self.next == 0 { self.starts } else { self.retransmit_at() }
    }

    /// The packets to send now.
    pub(super) fn due(&mut self, now: u64) -> Vec<u64> {
        if now < self.starts {
            return Vec::new();
        }
        if !self.on_the_way.is_empty() && now >= self.retransmit_at() {
            (self.threshold, self.window, self.last_ack) = (self.window / 2.0, 1.0, now);
            self.on_the_way.clear();
        }
        let mut packets = Vec::new();
        while (self.on_the_way.len() as f64) < self.window.floor().max(1.0) {
            self.on_the_way.insert(self.next, now);
            packets.push(self.next);
            self.next += 1;
        }
        packets
    }

    pub(super) fn acknowledged(&mut self, now: u64, number: u64) {
        self.last_ack = now;
        self.delivered += 1;
        let Some(sent_at) = self.on_the_way.remove(&number) else { return };
        self.round_trip = (self.round_trip * 7 + (now - sent_at)) / 8;
        let lost: Vec<u64> = self.on_the_way.range(..number.saturating_sub(3)).map(|(number, _)| *number).collect();
        for packet in &lost {
            self.on_the_way.remove(packet);
        }
        if lost.last().is_some_and(|last| *last >= self.recovery) {
            self.recovery = self.next;
            (self.most, self.lost_at) = (self.window, now);
            self.window = (self.window * if self.is_cubic { CUBIC_BETA } else { 0.5 }).max(2.0);
            self.threshold = self.window;
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else if self.is_cubic {
            let inflection = (self.most * (1.0 - CUBIC_BETA) / CUBIC_SCALE).cbrt();
            let elapsed = (now - self.lost_at + self.round_trip) as f64 / 1e6;
            let wanted = CUBIC_SCALE * (elapsed - inflection).powi(3) + self.most;
            self.window += ((wanted - self.window) / self.window).clamp(0.01 / self.window, 0.5);
        } else {
            self.window += 1.0 / self.window;
        }
    }
}
