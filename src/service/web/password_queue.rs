//! The order in which passwords are checked: one at a time, and first for the clients whose networks have tried the fewest. So
//! clients that guess passwords from many addresses keep nobody else out.

use std::collections::BTreeSet;

use parking_lot::{Condvar, Mutex};

use crate::service::web::attempts::AttemptCounts;

/// The most requests whose password is being checked, or waits for that. They keep workers of the server waiting, and others need
/// one too.
const MAX_CHECKS: usize = 3;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct PasswordQueue {
    order: Mutex<PasswordOrder>,
    changed: Condvar,
}

/// The right to check a password. Only one exists at a time.
pub(super) struct PasswordTurn<'a>(&'a PasswordQueue);

impl PasswordQueue {
    /// Waits until this client may have its password checked. `None` if too many clients wait that have tried less.
    pub(super) fn wait_for_turn(&self, attempts: AttemptCounts) -> Option<PasswordTurn<'_>> {
        let mut order = self.order.lock();
        let place = order.enter(attempts)?;
        // The place may be another client's, which has to learn that.
        self.changed.notify_all();
        loop {
            match order.step(place) {
                PasswordStep::Begin => return Some(PasswordTurn(self)),
                PasswordStep::Refused => return None,
                PasswordStep::Wait => self.changed.wait(&mut order),
            }
        }
    }

    /// Runs a test while as many requests wait as may, none of whose clients has tried a password before.
    #[cfg(test)]
    pub(super) fn with_all_places_taken(&self, test: impl FnOnce()) {
        let places: Vec<_> = std::iter::from_fn(|| self.order.lock().enter(AttemptCounts::default())).collect();
        test();
        self.order.lock().waiting.retain(|place| !places.contains(place));
    }
}

impl Drop for PasswordTurn<'_> {
    fn drop(&mut self) {
        self.0.order.lock().is_checking = false;
        self.0.changed.notify_all();
    }
}

/// A request that waits: the attempts of its networks, and a number that grows.
type PasswordPlace = (AttemptCounts, u64);

/// What a request that has entered does next.
#[derive(Debug, PartialEq, Eq)]
enum PasswordStep {
    Begin,
    Wait,
    /// Another request has taken its place.
    Refused,
}

/// The requests that wait, without the waiting. Pure.
#[derive(Default)]
struct PasswordOrder {
    is_checking: bool,
    waiting: BTreeSet<PasswordPlace>,
    next_number: u64,
}

impl PasswordOrder {
    /// Enters a request. `None` if all places are taken by clients that have tried no more.
    fn enter(&mut self, attempts: AttemptCounts) -> Option<PasswordPlace> {
        if self.waiting.len() + usize::from(self.is_checking) >= MAX_CHECKS {
            let last = self.waiting.last().copied().filter(|(others, _)| *others > attempts)?;
            self.waiting.remove(&last);
        }
        let place = (attempts, self.next_number);
        self.next_number += 1;
        self.waiting.insert(place);
        Some(place)
    }

    fn step(&mut self, place: PasswordPlace) -> PasswordStep {
        if !self.waiting.contains(&place) {
            return PasswordStep::Refused;
        }
        if self.is_checking || self.waiting.first() != Some(&place) {
            return PasswordStep::Wait;
        }
        self.waiting.remove(&place);
        self.is_checking = true;
        PasswordStep::Begin
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::service::web::attempts::PasswordAttempts;

    #[test]
    fn a_client_that_has_tried_less_takes_a_place_and_is_the_next() {
        let mut order = PasswordOrder::default();
        let (tried, fresh) = ([3, 1, 1], [0, 0, 0]);
        let first = order.enter(tried).expect("a place");
        assert_eq!(order.step(first), PasswordStep::Begin);
        let second = order.enter(tried).expect("a place");
        let third = order.enter(tried).expect("a place");
        assert_eq!(order.enter(tried), None, "as many as may wait");
        let other = order.enter(fresh).expect("the place of the last one");
        assert_eq!(order.step(third), PasswordStep::Refused);
        assert_eq!([order.step(second), order.step(other)], [PasswordStep::Wait, PasswordStep::Wait]);
        order.is_checking = false;
        assert_eq!([order.step(second), order.step(other)], [PasswordStep::Wait, PasswordStep::Begin]);
        order.is_checking = false;
        assert_eq!(order.step(second), PasswordStep::Begin);
    }

    #[test]
    fn requests_of_clients_alike_are_checked_in_their_order() {
        let mut order = PasswordOrder::default();
        let places: Vec<_> = (0..5).map(|_| order.enter([0, 0, 0])).collect();
        assert_eq!(places.iter().flatten().count(), MAX_CHECKS);
        for place in places.into_iter().flatten() {
            assert_eq!(order.step(place), PasswordStep::Begin);
            order.is_checking = false;
        }
    }

    /// Private addresses are cheap, so their subnet counts here, although it has no limit of its own.
    #[test]
    fn guesses_from_all_addresses_of_a_private_network_keep_no_other_client_out() {
        for honest in [IpAddr::from([192, 168, 1, 7]), IpAddr::from([10, 9, 0, 7])] {
            let (mut order, mut attempts, now) =
                (PasswordOrder::default(), PasswordAttempts::default(), Instant::now());
            for round in 0..1500_u16 {
                let guesser = IpAddr::from([10, 9, 0, 8 + (round % 200) as u8]);
                assert!(attempts.may_try(guesser, now));
                order.enter(attempts.counts(guesser, now));
                attempts.count_failure(guesser, now);
                // One of three guesses is checked.
                if round % 3 == 0
                    && let Some(first) = order.waiting.first().copied()
                {
                    order.is_checking = false;
                    assert_eq!(order.step(first), PasswordStep::Begin);
                }
            }
            assert_eq!(order.waiting.len(), MAX_CHECKS - 1);
            let place = order.enter(attempts.counts(honest, now)).expect("a place");
            order.is_checking = false;
            assert_eq!(order.step(place), PasswordStep::Begin);
        }
    }

    #[test]
    fn a_thread_that_waits_is_woken_when_it_may_check_and_when_it_is_refused() {
        let queue = Arc::new(PasswordQueue::default());
        let turn = queue.wait_for_turn([1, 1, 1]).expect("the first");
        let wait = |attempts: u32| {
            let of = Arc::clone(&queue);
            let waiting = queue.order.lock().next_number;
            let thread = thread::spawn(move || of.wait_for_turn([attempts; 3]).is_some());
            while queue.order.lock().next_number == waiting {
                thread::yield_now();
            }
            thread
        };
        let (second, third, fourth) = (wait(1), wait(2), wait(0));
        assert!(!third.join().expect("no panic"), "its place is taken");
        drop(turn);
        assert!(second.join().expect("no panic") && fourth.join().expect("no panic"));
    }
}
