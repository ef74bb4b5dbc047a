//! Whether a torrent runs, is paused or has to stop: one state, which its handles change and all its threads read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::storage::StopCheck;

/// Why a torrent stops before it reaches its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The program told it to.
    Requested,
    /// No data arrived for as long as the program is willing to wait.
    TimedOut,
}

/// What a torrent was last told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// It transfers blocks.
    #[default]
    Running,
    /// It neither requests nor serves blocks, until it is told to resume.
    Paused,
    /// It ends. A torrent that was paused requests nothing in its last moments either.
    Stopping {
        /// The first reason to stop; later ones change nothing.
        reason: StopReason,
        /// Whether it was paused when it was told to stop.
        was_paused: bool,
    },
}

impl RunState {
    /// The state after a pause.
    #[must_use]
    pub fn pause(self) -> RunState {
        if self == RunState::Running { RunState::Paused } else { self }
    }

    /// The state after a resume. A torrent that stops does not resume.
    #[must_use]
    pub fn resume(self) -> RunState {
        if self == RunState::Paused { RunState::Running } else { self }
    }

    /// The state after a stop.
    #[must_use]
    pub fn stop(self, reason: StopReason) -> RunState {
        match self {
            RunState::Stopping { .. } => self,
            _ => RunState::Stopping { reason, was_paused: self.is_paused() },
        }
    }

    /// Whether no blocks are requested or served.
    pub fn is_paused(self) -> bool {
        matches!(self, RunState::Paused | RunState::Stopping { was_paused: true, .. })
    }

    /// Why the torrent has to stop, if it has to.
    pub fn stop_reason(self) -> Option<StopReason> {
        if let RunState::Stopping { reason, .. } = self { Some(reason) } else { None }
    }

    /// All states; the index of each is its code in [`RunControl`].
    const ALL: [RunState; 6] = [
        RunState::Running,
        RunState::Paused,
        RunState::Stopping { reason: StopReason::Requested, was_paused: false },
        RunState::Stopping { reason: StopReason::Requested, was_paused: true },
        RunState::Stopping { reason: StopReason::TimedOut, was_paused: false },
        RunState::Stopping { reason: StopReason::TimedOut, was_paused: true },
    ];

    fn code(self) -> u32 {
        match self {
            RunState::Running => 0,
            RunState::Paused => 1,
            RunState::Stopping { reason, was_paused } => {
                2 + 2 * u32::from(reason == StopReason::TimedOut) + u32::from(was_paused)
            }
        }
    }
}

/// The bits of [`RunControl`] that hold the state's code; the others count its changes.
const CODE_BITS: u32 = 3;

/// The [`RunState`] that the threads of one torrent share. The thread that changes it wakes main. A stop also calls the function of
/// [`RunControl::on_stop`], which wakes main where it does not wait for its channel.
///
/// It counts the changes, so that main also notices a pause that was over before main looked: a connection may have
/// left out its requests because of it.
#[derive(Default)]
pub struct RunControl {
    /// Several fields in one word, which change together; see [`RunControl::unpack`].
    bits: AtomicU32,
    on_stop: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl RunControl {
    /// Calls `wake` after a stop, on the thread that stops the torrent. Only the first call of this sets the function.
    pub fn on_stop(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_stop.set(Box::new(wake));
    }

    /// The state.
    pub fn state(&self) -> RunState {
        RunControl::unpack(self.bits.load(Ordering::Acquire))
    }

    /// The number of changes so far, which wraps around. It is 0 for a torrent that nobody has paused or stopped.
    pub fn changes(&self) -> u32 {
        self.bits.load(Ordering::Acquire) >> CODE_BITS
    }

    /// Pauses the torrent.
    pub fn pause(&self) {
        self.change(RunState::pause);
    }

    /// Resumes a paused torrent.
    pub fn resume(&self) {
        self.change(RunState::resume);
    }

    /// Tells the torrent to stop.
    pub fn stop(&self, reason: StopReason) {
        self.change(|state| state.stop(reason));
        if let Some(wake) = self.on_stop.get() {
            wake();
        }
    }

    /// Whether no blocks are requested or served.
    pub fn is_paused(&self) -> bool {
        self.state().is_paused()
    }

    fn change(&self, transition: impl Fn(RunState) -> RunState) {
        let _ = self.bits.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
            let (state, changes) = (RunControl::unpack(bits), bits >> CODE_BITS);
            let next = transition(state);
            (next != state).then(|| (changes.wrapping_add(1) << CODE_BITS) | next.code())
        });
    }

    fn unpack(bits: u32) -> RunState {
        RunState::ALL.get((bits & ((1 << CODE_BITS) - 1)) as usize).copied().unwrap_or_default()
    }
}

impl StopCheck for RunControl {
    fn is_stopped(&self) -> bool {
        self.state().stop_reason().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RunState::{Paused, Running};

    #[test]
    fn a_stop_is_final_and_its_first_reason_counts() {
        for state in RunState::ALL.into_iter().skip(2) {
            assert_eq!([state.pause(), state.resume()], [state; 2]);
            for reason in [StopReason::Requested, StopReason::TimedOut] {
                assert_eq!(state.stop(reason), state);
            }
        }
    }

    #[test]
    fn a_pause_lasts_until_it_is_resumed_even_through_a_stop() {
        assert_eq!(
            [Running.pause(), Paused.pause(), Paused.resume(), Running.resume()],
            [Paused, Paused, Running, Running]
        );
        for reason in [StopReason::Requested, StopReason::TimedOut] {
            assert!(Paused.stop(reason).is_paused() && !Running.stop(reason).is_paused());
            assert_eq!(Running.stop(reason).stop_reason(), Some(reason));
        }
        assert_eq!([Running.stop_reason(), Paused.stop_reason()], [None; 2]);
    }

    #[test]
    fn every_state_keeps_its_code() {
        for (code, state) in (0..).zip(RunState::ALL) {
            assert_eq!((state.code(), RunControl::unpack(state.code())), (code, state));
        }
    }

    #[test]
    fn a_pause_that_is_over_already_shows_in_the_number_of_changes() {
        let control = RunControl::default();
        assert_eq!((control.state(), control.changes()), (Running, 0));
        control.resume();
        assert_eq!(control.changes(), 0, "nothing has changed");
        control.pause();
        control.pause();
        control.resume();
        assert_eq!((control.state(), control.changes()), (Running, 2));
        control.stop(StopReason::TimedOut);
        control.stop(StopReason::Requested);
        assert_eq!((control.state().stop_reason(), control.changes()), (Some(StopReason::TimedOut), 3));
        assert!(control.is_stopped() && !control.is_paused());
    }

    #[test]
    fn the_number_of_changes_wraps_around() {
        let control = RunControl { bits: AtomicU32::new(u32::MAX << CODE_BITS), ..RunControl::default() };
        control.pause();
        assert_eq!((control.state(), control.changes()), (Paused, 0));
    }
}
