//! Host names: resolves those that a tracker gives for peers, and recognizes local ones.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::util::atomics::Amount;

/// The time limit for resolving all names of one response.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The most addresses used per name.
const ADDRESSES_OF_A_NAME: usize = 4;
/// The most threads of the process that resolve names of peers. A name server that does not answer blocks each of them for up to
/// half a minute.
const MAX_THREADS: usize = 8;
/// The thread's stack size: the resolver needs more than our own code.
const STACK: usize = 512 * 1024;

/// The threads that resolve names of peers now.
static THREADS: Amount = Amount::new(0);

/// One of [`MAX_THREADS`].
struct ThreadPermit(&'static Amount);

impl ThreadPermit {
    /// `None` if all are taken.
    fn take(threads: &'static Amount) -> Option<ThreadPermit> {
        threads.add_one_below(MAX_THREADS).then(|| ThreadPermit(threads))
    }
}

impl Drop for ThreadPermit {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// Resolves the names that a tracker gave for peers; `end` is the deadline. If other lookups take all threads, resolves none.
pub(crate) fn addresses(names: &[(String, u16)], end: Instant) -> Vec<SocketAddr> {
    let end = end.min(Instant::now() + LOOKUP_TIMEOUT);
    let Some(permit) = ThreadPermit::take(&THREADS) else {
        log::debug!("{} names of peers are not resolved, because other lookups are in progress", names.len());
        return Vec::new();
    };
    let names = names.to_owned();
    resolve_on_thread(permit, names, end, |host, port| (host, port).to_socket_addrs().map(Iterator::collect))
}

/// Resolves the names one by one on a thread, which stops at the deadline. If it is blocked then, it is abandoned.
fn resolve_on_thread(
    permit: ThreadPermit,
    names: Vec<(String, u16)>,
    end: Instant,
    mut look_up: impl FnMut(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Vec<SocketAddr> {
    let (sender, found) = bounded(names.len());
    let work = move || {
        let _permit = permit;
        for (host, port) in names {
            if Instant::now() >= end {
                return;
            }
            let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), port);
            let of_name = look_up(&host, port).unwrap_or_default().into_iter().map(canonical);
            // Fails if the deadline has passed and the receiver is gone.
            let _ = sender.send(of_name.take(ADDRESSES_OF_A_NAME).collect::<Vec<_>>());
        }
    };
    if let Err(error) = thread::Builder::new().name("look-up".into()).stack_size(STACK).spawn(work) {
        log::warn!("cannot start a thread to resolve names of peers: {error}");
    }
    std::iter::from_fn(|| found.recv_deadline(end).ok()).flatten().collect()
}

/// Whether a host name is always local (RFC 6761, 6762, 8375, and `internal`).
pub(crate) fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_in = |zone: &str| host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ["localhost", "local", "home.arpa", "internal"].into_iter().any(is_in)
}

/// Whether a host name looks like one of a local network: [`is_local`], or a single label. Resolvers also accept numbers in place of
/// addresses, such as `127.1` and `0x7f000001`.
pub(crate) fn has_local_form(host: &str) -> bool {
    let bare = host.trim_end_matches('.');
    let last = bare.rsplit('.').next().unwrap_or_default();
    is_local(bare) || !bare.contains('.') || last.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];

    fn resolve_names(
        threads: &'static Amount,
        end: Instant,
        look_up: impl FnMut(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Vec<SocketAddr> {
        let permit = ThreadPermit::take(threads).expect("a thread");
        resolve_on_thread(permit, NAMES.map(|name| (name.to_owned(), 1)).to_vec(), end, look_up)
    }

    #[test]
    fn no_further_name_is_looked_up_after_the_deadline() {
        static THREADS: Amount = Amount::new(0);
        let (unblock, blocked) = bounded::<()>(0);
        let (name_sender, asked) = crossbeam_channel::unbounded();
        let addr = SocketAddr::from(([192, 0, 2, 1], 1));
        let end = Instant::now() + Duration::from_millis(50);
        let found = resolve_names(&THREADS, end, move |host, _| {
            let _ = name_sender.send(host.to_owned());
            let _ = if host == NAMES[0] { Ok(()) } else { blocked.recv() }; // until the deadline has passed
            Ok(vec![addr; ADDRESSES_OF_A_NAME + 1])
        });
        assert_eq!(found, [addr; ADDRESSES_OF_A_NAME], "the addresses found in time");
        drop(unblock);
        assert_eq!(asked.iter().collect::<Vec<_>>(), NAMES[..2], "by the one thread, which ends");
    }

    #[test]
    fn the_threads_of_silent_name_servers_are_few() {
        static THREADS: Amount = Amount::new(0);
        let taken: Vec<_> = (0..MAX_THREADS).filter_map(|_| ThreadPermit::take(&THREADS)).collect();
        assert_eq!(taken.len(), MAX_THREADS);
        assert!(ThreadPermit::take(&THREADS).is_none());
        drop(taken);
        assert!(ThreadPermit::take(&THREADS).is_some(), "each is given back");
    }

    #[test]
    fn some_names_have_a_local_form() {
        for local in ["localhost", "nas.local", "router", "router.", "127.1", "0x7f000001", "10.0.1", "a.0x1"] {
            assert!(has_local_form(local), "{local}");
        }
        for public in ["tracker.example", "tracker.example.", "1.example", "xn--a.xn--b"] {
            assert!(!has_local_form(public), "{public}");
        }
    }

    #[test]
    fn some_names_are_local_ones() {
        for local in ["localhost", "LocalHost.", "x.localhost", "nas.local", "tracker.home.arpa", "a.b.internal"] {
            assert!(is_local(local), "{local}");
        }
        for public in ["tracker.example", "notlocalhost", "mylocal", "local.example", ""] {
            assert!(!is_local(public), "{public}");
        }
    }
}
