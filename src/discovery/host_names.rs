//! Looks up the addresses of a host. The system's resolver blocks, for half a minute where the network is silent, and cannot be
//! interrupted: each look-up has a thread of its own, which a deadline leaves behind.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

/// The resolver wants more than our own code.
const STACK: usize = 512 * 1024;

/// Why a host has no addresses.
#[derive(Debug)]
pub(crate) enum LookUpError {
    /// There is no such host, or nobody says so.
    NotFound,
    /// The resolver takes too long.
    TimedOut,
    /// The system has no thread for it.
    NoThread(io::Error),
}

/// The addresses of `host` with `port`, at least one; `None` waits as long as the resolver does.
pub(crate) fn look_up(host: &str, port: u16, timeout: Option<Duration>) -> Result<Vec<SocketAddr>, LookUpError> {
    let (tell, told) = bounded(1);
    let host = host.to_owned();
    let work = move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Where the deadline came first nobody wants it.
        let _ = tell.send(found);
    };
    let thread = thread::Builder::new().name("look-up".into()).stack_size(STACK).spawn(work);
    let thread = thread.map_err(LookUpError::NoThread)?;
    let heard = match timeout {
        Some(timeout) => told.recv_timeout(timeout),
        None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    match heard {
        Err(RecvTimeoutError::Timeout) => Err(LookUpError::TimedOut),
        Err(RecvTimeoutError::Disconnected) => Err(LookUpError::NotFound),
        Ok(found) => {
            let _ = thread.join();
            found.ok().filter(|found| !found.is_empty()).ok_or(LookUpError::NotFound)
        }
    }
}
