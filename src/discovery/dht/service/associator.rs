//! The thread that gets the DHT its UDP association with the SOCKS 5 proxy, and another one when it has ended. It is apart from the
//! DHT's thread because connecting to the proxy blocks.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use crate::discovery::dht::service::DhtCommand;
use crate::discovery::dht::service::channel::DhtLoopHandle;
use crate::discovery::dht::service::resolver::STOP_TIMEOUT;
use crate::net::proxy::state::Proxy;

/// The time limit for connecting to the proxy and for its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a proxy has refused an association, or has ended one; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
/// After an association that lasted so long, the first pause comes again.
const LASTED: Duration = Duration::from_secs(60);
const STACK: usize = 128 * 1024;

/// The thread. Dropping it ends or abandons it.
#[derive(Debug)]
pub(super) struct ProxyAssociator {
    /// Dropping it tells the thread to end, which then drops the other end of `done`.
    stop: Option<Sender<Infallible>>,
    done: Receiver<Infallible>,
    thread: Option<JoinHandle<()>>,
}

impl ProxyAssociator {
    /// Starts the thread, which passes associations to the DHT's threads. Something in `lost` tells that the last one has ended.
    pub fn start(
        proxy: Arc<Proxy>,
        handles: Weak<Vec<DhtLoopHandle>>,
        lost: Receiver<()>,
    ) -> io::Result<ProxyAssociator> {
        let ((stop, stopped), (running, done)) = (bounded(0), bounded(0));
        let work = move || {
            let _running: Sender<Infallible> = running;
            let _ = associate_repeatedly(&proxy, &handles, &lost, &stopped);
        };
        let thread = std::thread::Builder::new().name("dht-proxy".into()).stack_size(STACK).spawn(work)?;
        Ok(ProxyAssociator { stop: Some(stop), done, thread: Some(thread) })
    }
}

impl Drop for ProxyAssociator {
    fn drop(&mut self) {
        self.stop = None;
        if self.done.recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the DHT's thread for the proxy panicked");
        }
    }
}

/// The DHT has stopped.
struct HasStopped;

fn associate_repeatedly(
    proxy: &Proxy,
    handles: &Weak<Vec<DhtLoopHandle>>,
    lost: &Receiver<()>,
    stopped: &Receiver<Infallible>,
) -> Result<(), HasStopped> {
    let mut failures = 0;
    loop {
        // While the proxy does not work, all wait for one attempt at a time.
        while let Err(wait) = proxy.permit_dial(Instant::now()) {
            sleep(wait, stopped)?;
        }
        match proxy.associate(Instant::now() + TIMEOUT) {
            Ok(association) => {
                let since = Instant::now();
                let association = Arc::new(association);
                for handle in handles.upgrade().ok_or(HasStopped)?.iter() {
                    handle.send_command(DhtCommand::Associated(association.clone()));
                }
                drop(association);
                select! {
                    recv(stopped) -> _ => return Err(HasStopped),
                    recv(lost) -> lost => lost.map_err(|_| HasStopped)?,
                }
                log::debug!("the proxy has ended the DHT's association");
                failures = if since.elapsed() < LASTED { failures + 1 } else { 1 };
            }
            Err(error) => {
                let is_new = failures == 0 && error.concerns_only_target();
                log::log!(
                    if is_new { log::Level::Info } else { log::Level::Debug },
                    "no DHT through the proxy: {error}"
                );
                failures += 1;
            }
        }
        sleep(pause(failures), stopped)?;
    }
}

fn sleep(time: Duration, stopped: &Receiver<Infallible>) -> Result<(), HasStopped> {
    match stopped.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Err(RecvTimeoutError::Disconnected) => Err(HasStopped),
        Ok(never) => match never {},
    }
}

/// The pause after this many failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!([1, 2, 3].map(pause), [1, 2, 4].map(Duration::from_secs));
        assert_eq!([10, u32::MAX].map(pause), [MAX_PAUSE; 2]);
    }
}
