//! How many regular slots to give: as many as the way up carries, found by trying. Pure; the [`super::Choker`] drives it.
//!
//! Nobody tells us what the way up carries. So: where each slot is rich there is room for more; where each is poor, fewer are
//! tried; and in between a few more are tried now and then. A trial that does not pay is taken back, and the next one waits for
//! minutes, so that the number does not hunt.

/// A slot with so many bytes a second has plenty: there is room for more.
pub const RICH: u64 = 32 * 1024;
/// A slot with fewer bytes a second is hardly worth its requests.
pub const POOR: u64 = 8 * 1024;

/// Slots at most.
const MOST: usize = 256;
/// Never fewer, as long as no limit makes them [`POOR`].
const USUAL: usize = 8;
/// Without a limit so few peers are all served from the start.
const FEW: usize = 16;
/// Rounds between two steps, so that the rolling rates speak of the present number only.
const STEP: u32 = 2;
/// Steps without a trial after one that did not pay.
const PAUSE: u32 = 30;

/// A change that has yet to prove itself.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The number of slots before it.
    from: usize,
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
    /// Bytes per second to all of them.
    pub total: u64,
}

/// The number of regular slots; see the module's head.
#[derive(Debug)]
pub struct Slots {
    count: usize,
    seeding: bool,
    limit: u64,
    rounds: u32,
    trial: Option<Trial>,
    pause: u32,
    /// Fewer slots have been tried and carried less, so more are to be tried.
    spare: bool,
}

impl Slots {
    /// For a download without a limit.
    pub fn new() -> Slots {
        let mut slots = Slots { count: 0, seeding: false, limit: 0, rounds: 0, trial: None, pause: 0, spare: false };
        slots.restart();
        slots
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.count
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

    /// A round has passed.
    pub fn observe(&mut self, seeding: bool, load: Load) {
        self.set_seeding(seeding);
        self.rounds += 1;
        let full = load.demand > self.count && load.served >= self.count;
        if !full || load.total == 0 {
            // Nobody waits, or nothing flows: there is nothing to learn.
            self.trial = None;
            self.rounds = 0;
        } else if self.rounds >= STEP {
            self.rounds = 0;
            self.step(load);
        }
    }

    fn restart(&mut self) {
        let start = if self.seeding { MOST } else { FEW };
        let room = usize::try_from(self.limit / RICH).unwrap_or(MOST);
        self.count = if self.limit == 0 { start } else { room.clamp(self.least(), start) };
        (self.rounds, self.trial, self.pause, self.spare) = (0, None, 0, false);
    }

    /// Fewer make no sense.
    fn least(&self) -> usize {
        if self.limit == 0 { USUAL } else { usize::try_from(self.limit / POOR).unwrap_or(USUAL).clamp(2, USUAL) }
    }

    fn step(&mut self, load: Load) {
        if let Some(trial) = self.trial.take()
            && !self.paid(trial, load.total)
        {
            self.spare = self.count < trial.from;
            self.pause = if self.spare { 0 } else { PAUSE };
            self.count = trial.from;
            return;
        }
        let share = load.total / load.served.max(1) as u64;
        let quarter = (self.count / 4).max(1);
        let trial = Trial { from: self.count, total: load.total };
        if share >= RICH {
            self.count += if share >= 4 * RICH { self.count } else { quarter };
        } else if self.pause > 0 {
            self.pause -= 1;
        } else if share < POOR && !self.spare && self.count > self.least() {
            self.count -= quarter;
            self.trial = Some(trial);
        } else if self.limit == 0 || load.total < self.limit / 10 * 9 {
            // What the limit allows is not used up, so more may carry more.
            self.count += quarter;
            self.trial = Some(trial);
        }
        self.count = self.count.clamp(self.least(), MOST);
        if self.count == trial.from {
            self.trial = None;
        }
    }

    /// More slots must carry more, by two fifths of what they are more; fewer must carry nearly the same.
    fn paid(&self, trial: Trial, total: u64) -> bool {
        let (before, after) = (trial.total as f64, total as f64);
        let growth = self.count as f64 / trial.from.max(1) as f64 - 1.0;
        if growth > 0.0 { after >= before * (1.0 + 0.4 * growth) } else { after >= before * 0.9 }
    }
}

impl Default for Slots {
    fn default() -> Slots {
        Slots::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// `demand` peers that take up to `each` behind a link that carries `link`; returns the number after every round.
    fn run(slots: &mut Slots, seeding: bool, demand: usize, link: u64, each: u64, rounds: usize) -> Vec<usize> {
        let limit = if slots.limit == 0 { link } else { link.min(slots.limit) };
        (0..rounds)
            .map(|_| {
                let served = demand.min(slots.count());
                slots.observe(seeding, Load { demand, served, total: limit.min(each * served as u64) });
                slots.count()
            })
            .collect()
    }

    #[test]
    fn a_fast_link_serves_all() {
        let mut slots = Slots::new();
        assert!(slots.count() >= 8);
        assert!(run(&mut slots, true, 200, 1 << 30, 1 << 24, 60).iter().all(|n| *n == 256));
        let mut slots = Slots::new();
        assert_eq!(run(&mut slots, false, 500, 1 << 30, 1 << 24, 10).last(), Some(&256));
    }

    #[test]
    fn a_slow_link_ends_with_slots_that_are_worth_having_and_does_not_hunt() {
        let mut slots = Slots::new();
        let seen = run(&mut slots, true, 600, 100 * KIB, 1 << 20, 360);
        assert!(seen[40..].iter().all(|n| (8..=32).contains(n)), "{seen:?}");
        let changes = seen[40..].windows(2).filter(|w| w[0] != w[1]).count();
        assert!(changes <= 14, "{changes} changes in 53 minutes: {seen:?}");
        let mut slots = Slots::new();
        let seen = run(&mut slots, false, 600, 10 * KIB, 1 << 20, 100);
        assert!(seen[10..].iter().all(|n| (8..=10).contains(n)), "{seen:?}");
    }

    #[test]
    fn peers_that_take_little_get_more_slots() {
        let mut slots = Slots::new();
        assert_eq!(run(&mut slots, false, 600, 1 << 30, 2 * KIB, 60).last(), Some(&256));
    }

    #[test]
    fn a_limit_sets_the_number_at_once() {
        let mut slots = Slots::new();
        slots.set_limit(10 * KIB);
        assert_eq!(slots.count(), 2);
        slots.set_limit(320 * KIB);
        assert_eq!(slots.count(), 10);
        let seen = run(&mut slots, false, 600, 1 << 30, 1 << 24, 100);
        assert!(seen.iter().all(|n| (8..=16).contains(n)), "{seen:?}");
        slots.set_limit(0);
        assert_eq!(slots.count(), 16);
    }

    #[test]
    fn while_nobody_waits_nothing_changes() {
        let mut slots = Slots::new();
        assert!(run(&mut slots, false, 16, 1 << 30, 1 << 24, 50).iter().all(|n| *n == 16));
        assert!(run(&mut slots, false, 99, 0, 0, 50).iter().all(|n| *n == 16), "nothing flows");
    }
}
