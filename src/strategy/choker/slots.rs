//! How many regular slots to give: as many as the way up carries, found by trying. Pure; the [`crate::strategy::choker::Choker`] drives it.
//!
//! Nobody tells us what the way up carries, and a slow one that is split among many brings nobody a piece for minutes. So a seed
//! begins with few slots and doubles them, every other second if need be, as long as each will still be rich: that is the *opening*. What
//! is acknowledged in a second may be much more than a slow line carries, where a lost packet held it up. Where nobody who has a slot
//! has anything to wait for, the way up is not used, and slots are doubled at any time. After it: where each slot is
//! rich there is room for more; where each is slow, fewer are tried, whether or not somebody waits; and in between a
//! few more are tried now and then. A trial that does not pay is taken back, and the next one waits for minutes, so that the
//! number does not hunt; one that pays is followed by a larger one.

use std::time::Duration;

/// A slot with so many bytes a second has plenty: there is room for more.
pub const GOOD_SLOT_RATE: u64 = 32 * 1024;
/// With fewer bytes a second for each, fewer slots are tried.
pub const SLOW_SLOT_RATE: u64 = 16 * 1024;
/// A slot with fewer bytes a second is hardly worth its requests.
pub const MIN_SLOT_RATE: u64 = 8 * 1024;

/// Slots at most.
const MAX_SLOTS: usize = 256;
/// Never fewer while downloading, as long as no limit makes them [`MIN_SLOT_RATE`].
const MIN_DOWNLOAD_SLOTS: usize = 8;
/// Without a limit so few peers are all served from the start while downloading.
const FEW_PEERS: usize = 16;
/// A seed begins with so many, and never has fewer but under a limit.
const MIN_SEED_SLOTS: usize = 4;
/// Time between two steps, so that the rolling rates speak of the present number only.
const STEP_INTERVAL: Duration = Duration::from_secs(20);
/// Steps without a trial after one that did not pay.
const STEPS_BETWEEN_TRIALS: u32 = 30;
/// Time between two looks while a seed opens slots, and how long it does so without opening one.
pub const RAMP_UP_INTERVAL: Duration = Duration::from_secs(1);
const RAMP_UP_TIME: Duration = Duration::from_secs(10);
/// The same in the first second, in which a fast line shows.
const FIRST_RAMP_UP_INTERVAL: Duration = Duration::from_millis(50);
/// More bytes for each slot within a second than buffers hold: the line is fast, and all slots are opened at once.
const FAST_LINE_BYTES: u64 = 8 << 20;

/// A change that has yet to prove itself.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The number of slots before it, and how many of them were used.
    from: usize,
    active: usize,
    /// The upload rate before it, in bytes per second.
    total: u64,
}

/// What a round shows of the upload.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Peers that want a slot.
    pub demand: usize,
    /// Peers that have one.
    pub served: usize,
    /// Those of them that wait for blocks, or take them fast: the others leave the way up to the rest.
    pub active: usize,
    /// Bytes per second to all of them.
    pub total: u64,
    /// Bytes that were ever sent to those who are connected.
    pub sent: u64,
}

/// Where the opening stands.
#[derive(Clone, Copy, Debug)]
struct RampUp {
    /// Since when so many slots are there, and what had been sent by then.
    since: Duration,
    sent: u64,
    /// When it was last looked at, and what had been sent by then; `None` at first, while buffers fill, which says nothing of the way up.
    look: Option<(Duration, u64)>,
}

/// The number of regular slots; see the module's head.
#[derive(Debug)]
pub struct Slots {
    count: usize,
    seeding: bool,
    limit: u64,
    /// When the last step was, or since when there has been reason for one.
    stepped: Option<Duration>,
    trial: Option<Trial>,
    pause: u32,
    /// How many trials of more slots have paid in a row.
    paid: u32,
    /// Fewer slots have been tried and carried less, so more are to be tried.
    fewer_was_worse: bool,
    /// While a seed opens slots; with nothing in it before somebody waits.
    #[expect(clippy::option_option, reason = "not a seed, a seed where nobody waits yet, a seed that opens slots")]
    ramp_up: Option<Option<RampUp>>,
    /// Since when nobody who has a slot has had anything to wait for, while others wait for a slot.
    unused: Option<Duration>,
    /// Something was sent while the present number of slots was in force.
    learned: bool,
}

impl Slots {
    /// For a download without a limit.
    pub fn new() -> Slots {
        let (stepped, trial, ramp_up) = (None, None, None);
        let mut slots = Slots {
            count: 0,
            seeding: false,
            limit: 0,
            stepped,
            trial,
            pause: 0,
            paid: 0,
            fewer_was_worse: false,
            ramp_up,
            unused: None,
            learned: false,
        };
        slots.restart();
        slots
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.count
    }

    /// In how long to look again although a round is not due, where somebody waits for a slot.
    pub fn early_round_in(&self) -> Option<Duration> {
        let is_new = |ramp_up: &Option<RampUp>| ramp_up.is_none_or(|ramp_up| ramp_up.look.is_none());
        self.ramp_up.map(|ramp_up| if is_new(&ramp_up) { FIRST_RAMP_UP_INTERVAL } else { RAMP_UP_INTERVAL })
    }

    /// States the upload limit, in bytes per second; 0 for none.
    pub fn set_limit(&mut self, limit: u64) {
        if limit != self.limit {
            self.limit = limit;
            self.restart();
        }
    }

    /// States whether everything is there, so that many can be served who give nothing.
    pub fn set_seeding(&mut self, seeding: bool) {
        if seeding != self.seeding {
            self.seeding = seeding;
            self.restart();
        }
    }

    /// Time has passed.
    pub fn observe(&mut self, now: Duration, seeding: bool, load: Load) {
        self.set_seeding(seeding);
        self.learned |= load.total > 0;
        let waits = load.demand > self.count && load.served >= self.count;
        if waits && self.open(now, load) {
            return;
        }
        self.unused = self.unused.filter(|_| waits && load.active == 0);
        if waits && load.active == 0 {
            if now >= *self.unused.get_or_insert(now) + RAMP_UP_INTERVAL {
                (self.count, self.trial, self.unused) = ((2 * self.count).min(self.most()), None, Some(now));
            }
            return;
        }
        if load.total == 0 || !(waits || self.is_slow(load) || self.trial.is_some()) {
            // There is nothing to learn.
            (self.trial, self.stepped) = (None, None);
        } else if now >= *self.stepped.get_or_insert(now) + STEP_INTERVAL {
            self.stepped = Some(now);
            self.step(waits, load);
        }
    }

    fn restart(&mut self) {
        // A download that is done goes on with the slots that it had.
        let start = match self.seeding {
            true if self.learned => self.count.max(MIN_SEED_SLOTS),
            true => MIN_SEED_SLOTS,
            false => FEW_PEERS,
        };
        self.count = start.min(self.most()).max(self.least());
        (self.stepped, self.trial, self.pause, self.paid, self.fewer_was_worse) = (None, None, 0, 0, false);
        self.ramp_up = (self.seeding && self.count < self.most()).then_some(None);
        self.unused = None;
    }

    /// With more, none would be rich.
    fn most(&self) -> usize {
        if self.limit == 0 {
            MAX_SLOTS
        } else {
            usize::try_from(self.limit / GOOD_SLOT_RATE).unwrap_or(MAX_SLOTS).min(MAX_SLOTS)
        }
    }

    /// Fewer make no sense.
    fn least(&self) -> usize {
        let least = if self.seeding { MIN_SEED_SLOTS } else { MIN_DOWNLOAD_SLOTS };
        if self.limit == 0 {
            least
        } else {
            usize::try_from(self.limit / MIN_SLOT_RATE).unwrap_or(least).clamp(2, least)
        }
    }

    /// A seed's slots are doubled where what is sent makes twice as many rich, once buffers are full; where more is sent than buffers hold,
    /// all are opened. True while the opening lasts.
    fn open(&mut self, now: Duration, load: Load) -> bool {
        let Some(ramp_up) = &mut self.ramp_up else { return false };
        let ramp_up = ramp_up.get_or_insert(RampUp { since: now, sent: load.sent, look: None });
        if load.active > 0 && load.sent.saturating_sub(ramp_up.sent) >= FAST_LINE_BYTES * load.active as u64 {
            (self.count, self.ramp_up) = (self.most(), None);
            return true;
        }
        let took = now.saturating_sub(ramp_up.look.map_or(ramp_up.since, |(at, _)| at));
        if took < RAMP_UP_INTERVAL {
            return true;
        }
        let Some((_, sent)) = ramp_up.look.replace((now, load.sent)) else { return true };
        let enough = 2.0 * GOOD_SLOT_RATE as f64 * load.active as f64 * took.as_secs_f64();
        if load.sent.saturating_sub(sent) as f64 >= enough {
            self.count = (2 * self.count).min(self.most());
            self.ramp_up = (self.count < self.most()).then_some(None);
        } else if now.saturating_sub(ramp_up.since) >= RAMP_UP_TIME {
            self.ramp_up = None;
        }
        true
    }

    /// Whether those who use a slot get so little that fewer should be tried.
    fn is_slow(&self, load: Load) -> bool {
        load.active > self.least() && load.total / (load.active as u64) < SLOW_SLOT_RATE && !self.fewer_was_worse
    }

    fn step(&mut self, waits: bool, load: Load) {
        if let Some(trial) = self.trial.take() {
            if !self.has_paid(trial, load.total) {
                self.fewer_was_worse = self.count < trial.from;
                self.pause = if self.fewer_was_worse { 0 } else { STEPS_BETWEEN_TRIALS };
                (self.count, self.paid) = (trial.from, 0);
                return;
            }
            self.paid = if self.count > trial.from { self.paid + 1 } else { 0 };
        }
        let share = load.total / load.active.max(1) as u64;
        let more = (self.count >> 2u32.saturating_sub(self.paid)).max(1);
        let trial = Trial { from: self.count, active: load.active, total: load.total };
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
        } else if self.limit == 0 || load.total < self.limit / 10 * 9 {
            // What the limit allows is not used up, so more may carry more.
            self.count += more;
            self.trial = Some(trial);
        }
        self.count = self.count.clamp(self.least(), MAX_SLOTS);
        if self.count == trial.from {
            self.trial = None;
        }
    }

    /// More slots must carry more, by two fifths of what they are more; fewer must carry nearly the same.
    fn has_paid(&self, trial: Trial, total: u64) -> bool {
        let (before, after) = (trial.total as f64, total as f64);
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
