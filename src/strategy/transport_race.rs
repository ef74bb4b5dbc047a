//! In which order a peer is dialled over TCP and uTP, as in RFC 8305: one of them has a head start, and whichever connects first
//! carries the connection. The caller passes the time, starts what it is told to start, and reports what has failed.

use std::time::Duration;

use crate::types::Transport;

/// How long the second transport waits for the first.
const HEAD_START: Duration = Duration::from_millis(250);
/// When one transport was refused, the host has answered: the other may take only this long, enough for its second packet.
const AFTER_REFUSAL: Duration = Duration::from_secs(3);

/// See the module's documentation.
#[derive(Debug)]
pub struct TransportRace {
    /// Those that have not started, the next one first, with the time at which it starts.
    waiting: Vec<(Transport, Duration)>,
    running: Vec<Transport>,
    deadline: Duration,
}

impl TransportRace {
    /// A race that begins now, between `first` and, if there is one, `second`. It ends after `timeout`.
    pub fn new(first: Transport, second: Option<Transport>, now: Duration, timeout: Duration) -> TransportRace {
        let mut waiting = vec![(first, now)];
        waiting.extend(second.map(|second| (second, now + HEAD_START)));
        TransportRace { waiting, running: Vec::new(), deadline: now + timeout }
    }

    /// What to start now, if anything.
    pub fn next_start(&mut self, now: Duration) -> Option<Transport> {
        let (transport, _) = *self.waiting.first().filter(|(_, at)| *at <= now)?;
        self.waiting.remove(0);
        self.running.push(transport);
        Some(transport)
    }

    /// What is running has failed for a reason that says nothing about the peer. The other transport starts at once.
    pub fn failed(&mut self, transport: Transport, now: Duration) {
        self.running.retain(|running| *running != transport);
        for (_, at) in &mut self.waiting {
            *at = now.min(*at);
        }
    }

    /// The peer has refused what is running. The other transport starts at once, and has little time: the host is up.
    pub fn refused(&mut self, transport: Transport, now: Duration) {
        self.failed(transport, now);
        self.deadline = self.deadline.min(now + AFTER_REFUSAL);
    }

    /// Whether nobody can win any more.
    pub fn is_lost(&self, now: Duration) -> bool {
        now >= self.deadline || (self.waiting.is_empty() && self.running.is_empty())
    }

    /// When to look again at the latest, if nothing happens.
    pub fn next_deadline(&self) -> Duration {
        self.waiting.first().map_or(self.deadline, |(_, at)| self.deadline.min(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Tcp, Utp};

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_second_starts_after_the_head_start() {
        let mut race = TransportRace::new(Tcp, Some(Utp), ms(5), TIMEOUT);
        assert_eq!((race.next_start(ms(5)), race.next_start(ms(5))), (Some(Tcp), None));
        assert_eq!(race.next_deadline(), ms(255));
        assert_eq!(
            (race.next_start(ms(254)), race.next_start(ms(255)), race.next_start(ms(255))),
            (None, Some(Utp), None)
        );
        assert_eq!(race.next_deadline(), ms(5) + TIMEOUT);
        assert!(!race.is_lost(ms(10_004)) && race.is_lost(ms(10_005)));
    }

    #[test]
    fn a_refusal_starts_the_other_at_once_and_leaves_it_little_time() {
        let mut race = TransportRace::new(Tcp, Some(Utp), ms(0), TIMEOUT);
        assert_eq!(race.next_start(ms(0)), Some(Tcp));
        race.refused(Tcp, ms(1));
        assert_eq!(race.next_start(ms(1)), Some(Utp));
        assert!(!race.is_lost(ms(3000)) && race.is_lost(ms(3001)));
        race.refused(Utp, ms(2));
        assert!(race.is_lost(ms(2)), "both were refused");
    }

    #[test]
    fn a_failure_of_our_own_starts_the_other_at_once_and_leaves_it_all_its_time() {
        let mut race = TransportRace::new(Utp, Some(Tcp), ms(0), TIMEOUT);
        assert_eq!(race.next_start(ms(0)), Some(Utp));
        race.failed(Utp, ms(1));
        assert_eq!(race.next_start(ms(1)), Some(Tcp));
        assert!(!race.is_lost(ms(9_999)) && race.is_lost(ms(10_000)));
    }

    #[test]
    fn a_late_refusal_gives_the_other_no_more_time_than_it_had() {
        let mut race = TransportRace::new(Utp, Some(Tcp), ms(0), TIMEOUT);
        assert_eq!((race.next_start(ms(0)), race.next_start(ms(300))), (Some(Utp), Some(Tcp)));
        race.refused(Utp, ms(9_000));
        assert!(!race.is_lost(ms(9_999)) && race.is_lost(ms(10_000)));
    }

    #[test]
    fn a_single_transport_has_all_the_time() {
        let mut race = TransportRace::new(Utp, None, ms(0), TIMEOUT);
        assert_eq!((race.next_start(ms(0)), race.next_start(TIMEOUT)), (Some(Utp), None));
        assert!(!race.is_lost(ms(9_999)));
        race.failed(Utp, ms(100));
        assert!(race.is_lost(ms(100)));
    }
}
