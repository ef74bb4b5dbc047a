//! Windows on a simulated path: one queue that drains at a fixed rate, and a delay, shared by several connections.

use super::*;
use std::collections::VecDeque;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Bytes per packet.
const PACKET: u64 = 1448;

/// A connection that always has blocks to send.
#[derive(Default)]
struct Sender {
    window: SendWindow,
    look: LinkFigures,
    /// The packets in flight: when each was written, when it left the queue, and its length in bytes.
    packets: VecDeque<(Duration, Duration, u64)>,
    asks_at: Duration,
}

impl Sender {
    /// Processes the acknowledgements that have arrived by now, over a path with this delay.
    fn acknowledge(&mut self, now: Duration, path: Duration) {
        while let Some(&(at, sent, bytes)) = self.packets.front()
            && sent + path <= now
        {
            self.packets.pop_front();
            self.look.acknowledged += bytes;
            self.look.queued -= bytes;
            self.look.rtt = (self.look.rtt * 7 + (sent + path).saturating_sub(at)) / 8;
            self.look.min_rtt = self.look.min_rtt.min((sent + path).saturating_sub(at));
        }
    }
}

/// The path that all connections share.
struct SimulatedPath {
    senders: Vec<Sender>,
    /// Bytes per second, and the round trip time without queueing.
    rate: f64,
    base: Duration,
    now: Duration,
    free_at: Duration,
    /// The longest time from a write until all of its data had left.
    longest: Duration,
}

impl SimulatedPath {
    fn new(rate: f64, base: Duration, senders: usize) -> SimulatedPath {
        let sender =
            || Sender { look: LinkFigures { rtt: base, min_rtt: base, ..LinkFigures::default() }, ..Sender::default() };
        let (now, free_at, longest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        SimulatedPath { senders: (0..senders).map(|_| sender()).collect(), rate, base, now, free_at, longest }
    }

    /// Advances the time, while other traffic adds `also` to the round trip time. Returns the share of the rate that each sender
    /// used.
    fn run(&mut self, time: Duration, also: Duration) -> Vec<f64> {
        let before: Vec<u64> = self.senders.iter().map(|sender| sender.look.acknowledged).collect();
        let end = self.now + time;
        self.longest = Duration::ZERO;
        while self.now < end {
            self.now += MS;
            for n in 0..self.senders.len() {
                self.senders[n].acknowledge(self.now, self.base + also);
                while self.now >= self.senders[n].asks_at {
                    let look = self.senders[n].look;
                    match self.senders[n].window.ask(self.now, look) {
                        WindowGrant::Wait(pause) => self.senders[n].asks_at = self.now + pause,
                        WindowGrant::Go(bytes) => {
                            self.write(n, bytes.clamp(u64::from(BLOCK_SIZE), 16 * u64::from(BLOCK_SIZE)));
                        }
                    }
                }
            }
        }
        let used = self.senders.iter().zip(before).map(|(sender, before)| sender.look.acknowledged - before);
        used.map(|bytes| bytes as f64 / time.as_secs_f64() / self.rate).collect()
    }

    fn write(&mut self, n: usize, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            let packet = left.min(PACKET);
            left -= packet;
            self.free_at = self.free_at.max(self.now) + Duration::from_secs_f64(packet as f64 / self.rate);
            self.senders[n].packets.push_back((self.now, self.free_at, packet));
        }
        self.senders[n].look.queued += bytes;
        self.longest = self.longest.max(self.free_at.saturating_sub(self.now));
    }
}

#[test]
fn a_slow_uplink_is_busy_and_nothing_waits_long_on_it() {
    for (rate, base) in [(50e3, 20), (100e3, 1), (100e3, 40), (500e3, 20), (2e6, 50)] {
        let mut line = SimulatedPath::new(rate, MS * base, 1);
        let block = Duration::from_secs_f64(f64::from(BLOCK_SIZE) / rate);
        line.run(SECOND * 3, Duration::ZERO);
        assert!(line.longest <= MS * 300 + block * 3, "{rate} B/s: {:?} at first", line.longest);
        let used = line.run(SECOND * 20, Duration::ZERO)[0];
        // On the slowest links, a single block takes longer than the window's target delay.
        assert!(line.longest <= MS * 200 + block * 2, "{rate} B/s: {:?}", line.longest);
        assert!(used > 0.85, "{rate} B/s over {base} ms: {used} of the line");
    }
}

#[test]
fn several_peers_share_a_slow_uplink_and_none_starves() {
    for (rate, base, senders) in [(100e3, 40, 4), (500e3, 20, 4), (1e6, 50, 10)] {
        let mut line = SimulatedPath::new(rate, MS * base, senders);
        line.run(SECOND * 10, Duration::ZERO);
        let used = line.run(SECOND * 60, Duration::ZERO);
        let (all, fair) = (used.iter().sum::<f64>(), 1.0 / senders as f64);
        // Each sender has a block in flight, whatever its window.
        let blocks = Duration::from_secs_f64(f64::from(BLOCK_SIZE) * 1.5 * senders as f64 / rate);
        assert!(line.longest <= MS * 200 + blocks, "{senders} at {rate} B/s: {:?}", line.longest);
        assert!(all > 0.85, "{senders} at {rate} B/s: {all} of the line");
        assert!(used.iter().all(|part| (0.4..2.5).contains(&(part / fair))), "{senders} at {rate} B/s: {used:?}");
    }
}

#[test]
fn a_fast_uplink_is_filled_soon() {
    for (rate, base) in [(10e6, 20), (10e6, 200), (1e9, 1)] {
        let mut line = SimulatedPath::new(rate, MS * base, 1);
        line.run(SECOND * 3, Duration::ZERO);
        let used = line.run(SECOND * 3, Duration::ZERO)[0];
        assert!(used > 0.85 || line.senders[0].window.bytes >= 4e6, "{rate} B/s over {base} ms: {used} of the line");
    }
}

#[test]
fn a_round_trip_that_others_make_long_costs_little() {
    let mut line = SimulatedPath::new(1e6, MS * 20, 1);
    line.run(SECOND * 5, Duration::ZERO);
    let used = line.run(SECOND * 60, MS * 400)[0];
    assert!(used > 0.6, "{used} of the line");
    let used = line.run(SECOND * 60, Duration::ZERO)[0];
    assert!(used > 0.85, "{used} of the line once it is short again");
    line.run(SECOND * 5, Duration::ZERO);
    assert!(line.longest <= MS * 250, "{:?}, as before", line.longest);
}
