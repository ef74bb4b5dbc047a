//! Resolves host names. The system's resolver blocks, up to half a minute on a silent network, and cannot be interrupted.
//! Therefore each lookup has its own thread, which is abandoned at the deadline.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::util::os_error::reason;

/// The thread's stack size: the resolver needs more than our own code.
const STACK: usize = 512 * 1024;

/// Why a lookup failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The host does not exist, or no name server answered.
    #[error("the name does not exist, or no name server answered")]
    NotFound,
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
    /// The system refused to start a thread.
    #[error("cannot start a thread to resolve the host: {}", reason(.0))]
    NoThread(io::Error),
}

/// The addresses of `host` with `port`, at least one. A `timeout` of `None` waits as long as the resolver does.
pub(crate) fn resolve(host: &str, port: u16, timeout: Option<Duration>) -> Result<Vec<SocketAddr>, ResolveError> {
    let (sender, receiver) = bounded(1);
    let host = host.to_owned();
    let work = move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Fails if the deadline has passed and the receiver is gone.
        let _ = sender.send(found);
    };
    let thread = thread::Builder::new().name("look-up".into()).stack_size(STACK).spawn(work);
    let thread = thread.map_err(ResolveError::NoThread)?;
    let heard = match timeout {
        Some(timeout) => receiver.recv_timeout(timeout),
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    match heard {
        Err(RecvTimeoutError::Timeout) => Err(ResolveError::TimedOut),
        Err(RecvTimeoutError::Disconnected) => Err(ResolveError::NotFound),
        Ok(found) => {
            let _ = thread.join();
            found.ok().filter(|found| !found.is_empty()).ok_or(ResolveError::NotFound)
        }
    }
}
