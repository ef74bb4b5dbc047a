//! Resolves host names. The system's resolver blocks, up to half a minute on a silent network, and cannot be interrupted.
//! Therefore each list of names has its own thread, which is abandoned if it is blocked when the DHT stops.

use std::convert::Infallible;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

/// The most names resolved per list.
const MAX_HOSTS: usize = 32;
/// Names that do not resolve are tried again after this delay, which doubles each time, up to `TRIES` attempts in total.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const TRIES: u32 = 6;
/// How long shutdown waits for a thread blocked in the resolver. With several torrents, it comes after the final announces.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(20);
/// The thread's stack size: the resolver needs more than our own code.
const STACK: usize = 512 * 1024;

/// The threads that resolve names. Dropping it ends or abandons them.
#[derive(Debug)]
pub(crate) struct HostResolver {
    /// Dropping `stop` tells the threads to end. Each holds a clone of `done`, so `all_done` disconnects when the last one ends.
    stop: Option<Sender<Infallible>>,
    stopped: Receiver<Infallible>,
    done: Option<Sender<Infallible>>,
    all_done: Receiver<Infallible>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Default for HostResolver {
    fn default() -> HostResolver {
        let ((stop, stopped), (done, all_done)) = (bounded(0), bounded(0));
        HostResolver { stop: Some(stop), stopped, done: Some(done), all_done, threads: Mutex::default() }
    }
}

impl HostResolver {
    /// Calls `with` for each address of each `HOST:PORT`: at once for literal addresses, on a thread for names.
    pub(crate) fn look_up(&self, hosts: Vec<String>, with: impl Fn(SocketAddr) + Send + 'static) {
        let mut names = Vec::new();
        for host in hosts.into_iter().take(MAX_HOSTS) {
            match host.parse() {
                Ok(addr) => with(addr),
                Err(_) => names.push(host),
            }
        }
        let Some(done) = self.done.clone().filter(|_| !names.is_empty()) else { return };
        let stopped = self.stopped.clone();
        let work = move || {
            let _done = done;
            resolve(names, &with, &stopped);
        };
        match std::thread::Builder::new().name("dht-names".into()).stack_size(STACK).spawn(work) {
            Ok(thread) => {
                let mut threads = self.threads.lock();
                join(threads.extract_if(.., |before| before.is_finished()));
                threads.push(thread);
            }
            Err(error) => log::warn!("cannot start a thread to resolve DHT nodes: {error}"),
        }
    }
}

impl Drop for HostResolver {
    fn drop(&mut self) {
        self.stop = None;
        self.done = None;
        let all_done = self.all_done.recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Disconnected);
        // Threads that have dropped `done` are about to end.
        join(self.threads.get_mut().drain(..).filter(|thread| all_done || thread.is_finished()));
    }
}

fn join(threads: impl Iterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            log::error!("a thread that resolves DHT nodes panicked");
        }
    }
}

/// Resolves the names one by one until none is left, all attempts are used up, or the DHT stops.
fn resolve(mut names: Vec<String>, with: &impl Fn(SocketAddr), stopped: &Receiver<Infallible>) {
    let mut pause = FIRST_PAUSE;
    for _ in 0..TRIES {
        let mut missing = Vec::new();
        for name in names {
            match name.to_socket_addrs() {
                Ok(addrs) => addrs.for_each(with),
                Err(error) => {
                    log::debug!("DHT node {name:?}: {error}");
                    missing.push(name);
                }
            }
            if stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
                return;
            }
        }
        if missing.is_empty() || stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        names = missing;
        pause *= 2;
    }
}
