//! What to do after a web seed's fault: wait, leave a file to others, or give the web seed up.

use std::collections::HashSet;
use std::time::Duration;

use crate::strategy::web_seed::WebSeedFault;
use crate::types::PieceIndex;

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The first wait if the server is busy and does not say how long.
const BUSY_WAIT: Duration = Duration::from_secs(30);
/// The longest wait if the server does not say how long.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Stalls that are further apart are no failures in a row.
const STALL_MEMORY: Duration = Duration::from_secs(3600);
/// The longest wait, whatever the server says.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The shortest wait, whatever the server says.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pause after the first missing file. It doubles with each, until data arrives: the host may be that of a third party.
const MISSING_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a missing file.
const MAX_MISSING_PAUSE: Duration = Duration::from_secs(10);
/// A web seed that lacks so many files in a row is given up.
const MAX_MISSING: u32 = 50;
/// A web seed with wrong data in so many of its files, or pieces of several files, is given up.
const MAX_WRONG: usize = 8;

/// What to do after a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSeedStep {
    /// Ask again at this time.
    WaitUntil(Duration),
    /// Request nothing of this file any more, and nothing of others until then.
    LeaveFile {
        /// Its index.
        file: usize,
        /// Zero if there is no need to wait.
        until: Duration,
    },
    /// Request this piece no more.
    LeavePiece(PieceIndex),
    /// Give the web seed up.
    End,
}

/// The history of a web seed that matters after a fault. All times count from a start of the caller's choice.
#[derive(Clone, Debug, Default)]
pub struct WebSeedHealth {
    /// Failures in a row.
    failures: u32,
    /// Stalls in a row. Data in between does not count: a hostile server would send some.
    stalls: u32,
    last_stall: Duration,
    /// Files that the server does not have, or has with other lengths.
    missing: HashSet<usize>,
    /// How many files in a row were missing.
    missing_in_row: u32,
    /// How many files or pieces were wrong.
    wrong: usize,
}

impl WebSeedHealth {
    /// Data arrived.
    pub fn succeeded(&mut self) {
        (self.failures, self.missing_in_row) = (0, 0);
    }

    /// Decides what follows from wrong data in a piece, which has bytes of `files`. Mirrors update single files, so the others of a
    /// torrent with several files may still be right.
    pub fn piece_failed(&mut self, piece: PieceIndex, files: &[usize], is_multi_file: bool) -> WebSeedStep {
        if files.iter().any(|file| self.missing.contains(file)) && self.wrong < MAX_WRONG {
            return WebSeedStep::LeavePiece(piece); // requested before the file was left
        }
        self.wrong += 1;
        match files {
            _ if !is_multi_file || self.wrong >= MAX_WRONG => WebSeedStep::End,
            [file] => {
                self.missing.insert(*file);
                WebSeedStep::LeaveFile { file: *file, until: Duration::ZERO }
            }
            _ => WebSeedStep::LeavePiece(piece),
        }
    }

    /// Decides what follows from a fault of a request for this file. A script's request is for no file.
    pub fn failed(&mut self, now: Duration, file: Option<usize>, fault: &WebSeedFault) -> WebSeedStep {
        let wait = match fault {
            WebSeedFault::Unreachable(_) | WebSeedFault::ServerError(_) => doubled(FIRST_WAIT, self.failures),
            WebSeedFault::Stalled => return self.stalled(now),
            WebSeedFault::Busy(None) => doubled(BUSY_WAIT, self.failures),
            WebSeedFault::Busy(Some(wait)) => (*wait).clamp(SHORTEST_RETRY_AFTER, MAX_RETRY_AFTER),
            WebSeedFault::NoFile(_) | WebSeedFault::WrongLength => {
                let Some(file) = file else { return WebSeedStep::End };
                self.missing.insert(file);
                return self.file_is_missing(now, file);
            }
            WebSeedFault::WrongRange
            | WebSeedFault::Compressed
            | WebSeedFault::Refused(_)
            | WebSeedFault::WrongData => return WebSeedStep::End,
        };
        self.failures = self.failures.saturating_add(1);
        WebSeedStep::WaitUntil(now.saturating_add(wait))
    }

    fn file_is_missing(&mut self, now: Duration, file: usize) -> WebSeedStep {
        let pause = MISSING_PAUSE.saturating_mul(1 << self.missing_in_row.min(16)).min(MAX_MISSING_PAUSE);
        self.missing_in_row += 1;
        if self.missing_in_row >= MAX_MISSING {
            return WebSeedStep::End;
        }
        WebSeedStep::LeaveFile { file, until: now.saturating_add(pause) }
    }

    fn stalled(&mut self, now: Duration) -> WebSeedStep {
        if now.saturating_sub(self.last_stall) > STALL_MEMORY {
            self.stalls = 0;
        }
        let wait = doubled(FIRST_WAIT, self.stalls);
        (self.stalls, self.last_stall) = (self.stalls.saturating_add(1), now);
        WebSeedStep::WaitUntil(now.saturating_add(wait))
    }
}

/// The wait after so many failures.
fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(health: &mut WebSeedHealth, fault: &WebSeedFault, n: usize) -> Vec<u64> {
        let wait = |_| match health.failed(SECOND * 100, Some(0), fault) {
            WebSeedStep::WaitUntil(at) => at.as_secs() - 100,
            other => panic!("{other:?}"),
        };
        (0..n).map(wait).collect()
    }

    #[test]
    fn waits_double_until_data_arrives() {
        let mut health = WebSeedHealth::default();
        let lost = WebSeedFault::Unreachable("reset".to_owned());
        assert_eq!(waits(&mut health, &lost, 9), [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        health.succeeded();
        assert_eq!(waits(&mut health, &WebSeedFault::ServerError(500), 2), [5, 10]);
        assert_eq!(waits(&mut health, &WebSeedFault::Busy(None), 2), [120, 240]);
        assert_eq!(waits(&mut health, &lost, 40).last(), Some(&600));
    }

    #[test]
    fn a_server_that_stalls_again_and_again_waits_longer_although_data_arrives() {
        let mut health = WebSeedHealth::default();
        let step = |health: &mut WebSeedHealth, now: u64| {
            health.succeeded();
            health.failed(SECOND * now as u32, Some(0), &WebSeedFault::Stalled)
        };
        let until = |at: u32| WebSeedStep::WaitUntil(SECOND * at);
        assert_eq!([100, 200, 300].map(|now| step(&mut health, now)), [until(105), until(210), until(320)]);
        assert_eq!(step(&mut health, 3901), until(3906), "the last stall was an hour ago");
        assert_eq!(waits(&mut health, &WebSeedFault::ServerError(500), 1), [5], "no failure of another kind");
    }

    #[test]
    fn a_busy_server_says_how_long_but_not_for_ever() {
        let mut health = WebSeedHealth::default();
        for (said, waited) in [(0, 1), (7, 7), (u64::MAX, 3600)] {
            assert_eq!(waits(&mut health, &WebSeedFault::Busy(Some(Duration::from_secs(said))), 1), [waited]);
        }
    }

    #[test]
    fn a_missing_file_costs_only_that_file() {
        let mut health = WebSeedHealth::default();
        let leave = |file, milliseconds| WebSeedStep::LeaveFile { file, until: Duration::from_millis(milliseconds) };
        assert_eq!(health.failed(SECOND, Some(3), &WebSeedFault::NoFile(404)), leave(3, 1100));
        assert_eq!(health.failed(SECOND, Some(5), &WebSeedFault::WrongLength), leave(5, 1200));
        assert_eq!(health.failed(SECOND, None, &WebSeedFault::NoFile(404)), WebSeedStep::End, "a script");
        assert_eq!(waits(&mut health, &WebSeedFault::ServerError(500), 1), [5], "no failure of the server");
    }

    #[test]
    fn a_server_without_our_files_is_asked_ever_less_often_and_not_for_all_of_them() {
        let mut health = WebSeedHealth::default();
        let pause =
            |health: &mut WebSeedHealth, file| match health.failed(SECOND, Some(file), &WebSeedFault::NoFile(404)) {
                WebSeedStep::LeaveFile { until, .. } => Some(until.saturating_sub(SECOND).as_millis()),
                WebSeedStep::End => None,
                other => panic!("{other:?}"),
            };
        let pauses: Vec<_> = (0..49).map_while(|file| pause(&mut health, file)).collect();
        assert_eq!(pauses[..9], [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!((pauses.len(), pauses[48]), (49, 10_000));
        assert_eq!(pause(&mut health.clone(), 49), None);
        health.succeeded();
        assert_eq!(pause(&mut health, 49), Some(100), "it has some");
    }

    #[test]
    fn a_mirror_with_an_updated_file_keeps_the_others_for_a_while() {
        let mut health = WebSeedHealth::default();
        assert_eq!(health.clone().piece_failed(PieceIndex(0), &[0], false), WebSeedStep::End, "the only file");
        assert_eq!(
            health.piece_failed(PieceIndex(5), &[2], true),
            WebSeedStep::LeaveFile { file: 2, until: Duration::ZERO }
        );
        assert_eq!(health.piece_failed(PieceIndex(6), &[2], true), WebSeedStep::LeavePiece(PieceIndex(6)));
        assert_eq!(health.piece_failed(PieceIndex(9), &[3, 4], true), WebSeedStep::LeavePiece(PieceIndex(9)));
        let steps: Vec<_> = (10..20).map(|n| health.piece_failed(PieceIndex(n), &[n as usize], true)).collect();
        assert_eq!(steps.iter().position(|step| *step == WebSeedStep::End), Some(5));
    }

    #[test]
    fn a_server_that_lies_or_refuses_is_given_up() {
        let mut health = WebSeedHealth::default();
        let refused = WebSeedFault::Refused("HTTP status 403".to_owned());
        for fault in [WebSeedFault::WrongRange, WebSeedFault::Compressed, refused, WebSeedFault::WrongData] {
            assert_eq!(health.failed(SECOND, Some(0), &fault), WebSeedStep::End);
        }
    }
}
