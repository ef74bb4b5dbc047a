//! Decides the number of regular slots: as many as the uplink carries, found by trial. Driven by
//! [`crate::strategy::choker::Choker`].
//!
//! The capacity of the uplink is unknown, and a slow uplink divided among many peers delivers no complete piece for minutes. So a
//! seed starts with few slots and doubles them, as often as every other second, while each would then still be above
//! [`GOOD_SLOT_RATE`]: the *ramp-up*. That condition is strict because a single second may acknowledge much more than a slow link
//! carries, if a lost packet held the data up. If no peer with a slot has requests waiting, the uplink is not used, and the slots
//! are doubled at any time.
//!
//! After the ramp-up, slots are added while each is above [`GOOD_SLOT_RATE`]; fewer slots are tried while each is below
//! [`SLOW_SLOT_RATE`], whether or not peers wait; in between, a few more slots are tried now and then. A trial that does not pay
//! is undone, and the next one is minutes later, so that the number does not oscillate. A trial that pays is followed by a larger
//! one.

use std::time::Duration;

/// At this rate per slot, in bytes per second, more slots are added.
pub const GOOD_SLOT_RATE: u64 = 32 * 1024;
/// Below this rate per slot, in bytes per second, fewer slots are tried.
pub const SLOW_SLOT_RATE: u64 = 16 * 1024;
/// Below this rate, in bytes per second, a slot is hardly worth its requests.
pub const MIN_SLOT_RATE: u64 = 8 * 1024;

/// The most slots.
pub(super) const MAX_SLOTS: usize = 256;
/// The fewest slots while downloading, unless an upload limit leaves each less than [`MIN_SLOT_RATE`].
const MIN_DOWNLOAD_SLOTS: usize = 8;
/// While downloading without a limit, up to this many peers are all served from the start.
const FEW_PEERS: usize = 16;
/// The slots of a seed at the start, and the fewest it ever has without an upload limit.
const MIN_SEED_SLOTS: usize = 4;
/// The time between two steps, so that the rolling rates reflect only the current number of slots.
const STEP_INTERVAL: Duration = Duration::from_secs(20);
/// How many steps pass without a trial after one that did not pay.
const STEPS_BETWEEN_TRIALS: u32 = 30;
/// The time between two observations during the ramp-up, and how long a ramp-up continues without adding slots.
pub const RAMP_UP_INTERVAL: Duration = Duration::from_secs(1);
const RAMP_UP_TIME: Duration = Duration::from_secs(10);
/// The time between two observations in the first second, in which a fast link shows itself.
const FIRST_RAMP_UP_INTERVAL: Duration = Duration::from_millis(50);
/// If each slot takes more bytes than this, which is more than buffers hold, the link is fast and all slots are opened at once.
const FAST_LINK_BYTES: u64 = 8 << 20;

/// A change in the number of slots that has yet to pay.
#[derive(Clone, Copy, Debug)]
struct SlotTrial {
    /// The number of slots before the change, and how many of them were in use.
    from: usize,
    active: usize,
    /// The upload rate before the change, in bytes per second.
    upload_rate: u64,
}

/// The upload as a round observes it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Peers that want a slot. Here and in the next two numbers, peers with a slot that read slowly do not count.
    pub demand: usize,
    /// Peers that have a slot.
    pub served: usize,
    /// Peers with a slot that wait for blocks or take them fast. The other slots leave the uplink to these.
    pub active: usize,
    /// The upload rate to all peers, in bytes per second.
    pub upload_rate: u64,
    /// Payload bytes sent to all connected peers since they connected.
    pub sent: u64,
}

/// The state of the ramp-up.
#[derive(Clone, Copy, Debug)]
struct RampUp {
    /// When the current number of slots took effect, and the bytes sent by then.
    since: Duration,
    sent: u64,
    /// The last observation and the bytes sent by then; `None` at first, because the data that fills the buffers says nothing
    /// about the uplink.
    last_observation: Option<(Duration, u64)>,
}

/// The number of regular slots; see the module documentation.
#[derive(Debug)]
pub struct Slots {
    count: usize,
    is_seeding: bool,
    limit: u64,
    /// When the last step was taken, or since when there has been a reason for one.
    stepped: Option<Duration>,
    trial: Option<SlotTrial>,
    pause: u32,
    /// How many trials with more slots have paid in a row.
    paid: u32,
    /// Whether fewer slots were tried and carried less, so that more slots are to be tried.
    fewer_was_worse: bool,
    /// Set while a seed ramps up; the inner value is `None` until a peer waits for a slot.
    #[expect(clippy::option_option, reason = "not a seed, a seed where nobody waits yet, a seed that opens slots")]
    ramp_up: Option<Option<RampUp>>,
    /// Since when peers have waited for a slot while no peer with a slot had requests waiting.
    unused: Option<Duration>,
    /// Whether data was sent with the current number of slots.
    has_sent: bool,
}

impl Slots {
    /// The slots of a download without an upload limit.
    pub fn new() -> Slots {
        let (stepped, trial, ramp_up) = (None, None, None);
        let mut slots = Slots {
            count: 0,
            is_seeding: false,
            limit: 0,
            stepped,
            trial,
            pause: 0,
            paid: 0,
            fewer_was_worse: false,
            ramp_up,
            unused: None,
            has_sent: false,
        };
        slots.restart();
        slots
    }

    /// The current number of slots.
    pub fn count(&self) -> usize {
        self.count
    }

    /// When to observe again before the next round is due, if a peer waits for a slot.
    pub fn early_round_in(&self) -> Option<Duration> {
        let is_new = |ramp_up: &Option<RampUp>| ramp_up.is_none_or(|ramp_up| ramp_up.last_observation.is_none());
        self.ramp_up.map(|ramp_up| if is_new(&ramp_up) { FIRST_RAMP_UP_INTERVAL } else { RAMP_UP_INTERVAL })
    }

    /// Sets the upload limit in bytes per second, 0 for none.
    pub fn set_limit(&mut self, limit: u64) {
        if limit != self.limit {
            self.limit = limit;
            self.restart();
        }
    }

    /// Sets whether we are seeding. Restarts the search on a change.
    pub fn set_seeding(&mut self, is_seeding: bool) {
        if is_seeding != self.is_seeding {
            self.is_seeding = is_seeding;
            self.restart();
        }
    }

    /// Processes the current load, and adjusts the number of slots.
    pub fn observe(&mut self, now: Duration, is_seeding: bool, load: Load) {
        self.set_seeding(is_seeding);
        self.has_sent |= load.upload_rate > 0;
        let waits = load.demand > self.count && load.served >= self.count;
        if waits && self.ramp_up(now, load) {
            return;
        }
        self.unused = self.unused.filter(|_| waits && load.active == 0);
        if waits && load.active == 0 {
            if now >= *self.unused.get_or_insert(now) + RAMP_UP_INTERVAL {
                (self.count, self.trial, self.unused) = ((2 * self.count).min(self.most()), None, Some(now));
            }
            return;
        }
        if load.upload_rate == 0 || !(waits || self.is_slow(load) || self.trial.is_some()) {
            // There is nothing to learn from this load.
            (self.trial, self.stepped) = (None, None);
        } else if now >= *self.stepped.get_or_insert(now) + STEP_INTERVAL {
            self.stepped = Some(now);
            self.step(waits, load);
        }
    }

    fn restart(&mut self) {
        // A completed download keeps its number of slots.
        let start = match self.is_seeding {
            true if self.has_sent => self.count.max(MIN_SEED_SLOTS),
            true => MIN_SEED_SLOTS,
            false => FEW_PEERS,
        };
        self.count = start.min(self.most()).max(self.least());
        (self.stepped, self.trial, self.pause, self.paid, self.fewer_was_worse) = (None, None, 0, 0, false);
        self.ramp_up = (self.is_seeding && self.count < self.most()).then_some(None);
        self.unused = None;
    }

    /// The most slots with which each can still reach [`GOOD_SLOT_RATE`] under the limit.
    fn most(&self) -> usize {
        if self.limit == 0 {
            MAX_SLOTS
        } else {
            usize::try_from(self.limit / GOOD_SLOT_RATE).unwrap_or(MAX_SLOTS).min(MAX_SLOTS)
        }
    }

    /// The fewest slots that make sense under the limit.
    fn least(&self) -> usize {
        let least = if self.is_seeding { MIN_SEED_SLOTS } else { MIN_DOWNLOAD_SLOTS };
        if self.limit == 0 {
            least
        } else {
            usize::try_from(self.limit / MIN_SLOT_RATE).unwrap_or(least).clamp(2, least)
        }
    }

    /// Ramps up. Doubles the slots if, after the buffers are full, twice as many would still reach [`GOOD_SLOT_RATE`]. Opens all
    /// slots if more is sent than buffers hold. Returns true while the ramp-up lasts.
    fn ramp_up(&mut self, now: Duration, load: Load) -> bool {
        let Some(ramp_up) = &mut self.ramp_up else { return false };
        let ramp_up = ramp_up.get_or_insert(RampUp { since: now, sent: load.sent, last_observation: None });
        if load.active > 0 && load.sent.saturating_sub(ramp_up.sent) >= FAST_LINK_BYTES * load.active as u64 {
            (self.count, self.ramp_up) = (self.most(), None);
            return true;
        }
        let took = now.saturating_sub(ramp_up.last_observation.map_or(ramp_up.since, |(at, _)| at));
        if took < RAMP_UP_INTERVAL {
            return true;
        }
        let Some((_, sent)) = ramp_up.last_observation.replace((now, load.sent)) else { return true };
        let enough = 2.0 * GOOD_SLOT_RATE as f64 * load.active as f64 * took.as_secs_f64();
        if load.sent.saturating_sub(sent) as f64 >= enough {
            self.count = (2 * self.count).min(self.most());
            self.ramp_up = (self.count < self.most()).then_some(None);
        } else if now.saturating_sub(ramp_up.since) >= RAMP_UP_TIME {
            self.ramp_up = None;
        }
        true
    }

    /// Whether the slots in use are so slow that fewer should be tried.
    fn is_slow(&self, load: Load) -> bool {
        load.active > self.least() && load.upload_rate / (load.active as u64) < SLOW_SLOT_RATE && !self.fewer_was_worse
    }

    fn step(&mut self, waits: bool, load: Load) {
        if let Some(trial) = self.trial.take() {
            if !self.has_paid(trial, load.upload_rate) {
                self.fewer_was_worse = self.count < trial.from;
                self.pause = if self.fewer_was_worse { 0 } else { STEPS_BETWEEN_TRIALS };
                (self.count, self.paid) = (trial.from, 0);
                return;
            }
            self.paid = if self.count > trial.from { self.paid + 1 } else { 0 };
        }
        let share = load.upload_rate / load.active.max(1) as u64;
        let more = (self.count >> 2u32.saturating_sub(self.paid)).max(1);
        let trial = SlotTrial { from: self.count, active: load.active, upload_rate: load.upload_rate };
        if self.is_slow(load) {
            let active = self.count.min(load.active);
            self.count = active - (active / 4).max(1);
            self.trial = Some(trial);
        } else if !waits {
            return;
        } else if share >= GOOD_SLOT_RATE {
            self.count += if share >= 4 * GOOD_SLOT_RATE { self.count } else { (self.count / 4).max(1) };
        } else if self.pause > 0 {
            self.pause -= 1;
        } else if self.limit == 0 || load.upload_rate < self.limit / 10 * 9 {
            // The limit is not used up, so more slots may carry more.
            self.count += more;
            self.trial = Some(trial);
        }
        self.count = self.count.clamp(self.least(), MAX_SLOTS);
        if self.count == trial.from {
            self.trial = None;
        }
    }

    /// Whether a trial has paid. More slots must increase the rate by at least two fifths of the increase in slots; fewer slots
    /// must keep nine tenths of it.
    fn has_paid(&self, trial: SlotTrial, upload_rate: u64) -> bool {
        let (before, after) = (trial.upload_rate as f64, upload_rate as f64);
        let growth = self.count as f64 / trial.active.max(1) as f64 - 1.0;
        if growth > 0.0 { after >= before * (1.0 + 0.4 * growth) } else { after >= before * 0.9 }
    }
}

impl Default for Slots {
    fn default() -> Slots {
        Slots::new()
    }
}

#[cfg(test)]
mod tests;
