//! Rate limits: parses them from the command line, and switches them while a download runs. SIGUSR1 lifts the limits;
//! SIGUSR2 restores those of the command line.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use signal_hook::consts::{SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::{Handle as SignalsHandle, Signals};

use crate::cli::report::status::rate;
use crate::util::atomics::Flag;
use crate::util::descriptors::with_retry;
use btsync::Limits;

/// Parses a rate in bytes per second. K and M are multiples of 1024; 0 means no limit.
///
/// # Errors
/// The message for the user: which form is expected.
pub fn parse(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1024.0),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1024.0 * 1024.0),
        _ => (text, 1.0),
    };
    // Digits and a point only. `f64` also accepts inf, 1e9 and -0, which are not rates.
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match number.parse::<f64>().ok().filter(|_| plain).map(|number| number * unit) {
        Some(0.0) => Ok(0),
        // A limit below 1 byte per second must not become 0, which means no limit.
        Some(bytes) if bytes < 1e15 => Ok((bytes as u64).max(1)),
        _ => Err("expected bytes per second, such as 500K, 1.5M, or 0 for no limit".to_owned()),
    }
}

/// Handles SIGUSR1 and SIGUSR2 until dropped.
pub struct LimitSignals {
    signals: Arc<Mutex<Option<SignalsHandle>>>,
    stopped: Arc<Flag>,
    thread: Option<JoinHandle<()>>,
}

impl LimitSignals {
    /// Starts the thread that handles the signals. It calls `set` without limits on SIGUSR1 and with `limits` on SIGUSR2.
    /// If the process is out of file descriptors, the thread waits for one; until then the signals do nothing.
    ///
    /// # Errors
    /// The system error if a handler or the thread cannot be set up.
    pub fn new(set: impl Fn(Limits) + Send + 'static, limits: Limits) -> io::Result<LimitSignals> {
        for signal in [SIGUSR1, SIGUSR2] {
            flag::register(signal, Arc::default())?; // the signals no longer end the process
        }
        let (signals, stopped) = (Arc::new(Mutex::new(None)), Arc::new(Flag::default()));
        let (kept, is_stopped) = (signals.clone(), stopped.clone());
        let wait = move || {
            let made = with_retry(|| Signals::new([SIGUSR1, SIGUSR2]), || !is_stopped.is_set());
            let mut signals = match made {
                Ok(signals) => signals,
                Err(error) if is_stopped.is_set() => {
                    return log::debug!("cannot watch for SIGUSR1 and SIGUSR2: {error}");
                }
                Err(error) => return log::warn!("SIGUSR1 and SIGUSR2 have no effect: {error}"),
            };
            *kept.lock() = Some(signals.handle());
            if is_stopped.is_set() {
                return;
            }
            for signal in signals.forever() {
                let limits = if signal == SIGUSR1 { Limits::default() } else { limits };
                set(limits);
                log::info!("limits: {}", describe(limits));
            }
        };
        let thread = thread::Builder::new().name("limits".to_owned()).spawn(wait)?;
        Ok(LimitSignals { signals, stopped, thread: Some(thread) })
    }
}

impl Drop for LimitSignals {
    fn drop(&mut self) {
        // In this order: either the handle is stored before `stopped` is set and gets closed here, or the thread sees `stopped`.
        self.stopped.set(true);
        self.signals.lock().iter().for_each(SignalsHandle::close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn describe(limits: Limits) -> String {
    let word = |limit| if limit == 0 { "none".to_owned() } else { rate(limit as f64) };
    format!("down {}, up {}", word(limits.down), word(limits.up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_with_units() {
        let good = [("0", 0), ("0M", 0), ("1", 1), ("0.1", 1), ("200K", 200 << 10), ("1.5m", 3 << 19), ("2M", 2 << 20)];
        for (text, expected) in good {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for bad in ["", "K", ".", "1G", "-1", "+1", "1e6", "inf", "nan", "1.2.3K", "1 M", "9999999999999M", "é", "1é"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_is_said_in_words() {
        assert_eq!(describe(Limits::default()), "down none, up none");
        assert!(describe(Limits { down: 1 << 20, up: 0 }).starts_with("down 1.0 MiB/s"));
    }
}
