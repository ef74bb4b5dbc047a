//! Fetches torrent files by URL on threads of their own, so that a slow server keeps neither the page nor the end of the service
//! waiting.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::discovery::tracker::http::{FetchedUrl, UrlFetcher};
use crate::metainfo::torrent::TORRENT_FILE_MAX;
use crate::service::model::ControlError;
use crate::util::atomics::Amount;

/// How long a URL may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// The most fetches at a time. Each keeps a worker of the HTTP server waiting, and half of these stay for others.
const MAX_FETCHES: usize = 2;

/// Counts the fetches of a service.
#[derive(Default)]
pub struct TorrentFetcher(Arc<Amount>);

/// Counts a fetch until its thread ends.
struct Permit(Arc<Amount>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl TorrentFetcher {
    /// Fetches a torrent file, or the link that a URL leads to. Its server gets the cookies.
    ///
    /// # Errors
    /// If it cannot be fetched, others are just being fetched, or the service ends. The thread is left behind then.
    pub fn fetch(
        &self,
        fetcher: UrlFetcher,
        url: &str,
        cookies: &str,
        ended: &Receiver<Infallible>,
    ) -> Result<FetchedUrl, ControlError> {
        let (url, cookies) = (url.to_owned(), cookies.to_owned());
        self.run(ended, move || {
            let fetcher = fetcher.with_cookies(&url, &cookies);
            fetcher.fetch(&url, TORRENT_FILE_MAX as u64, DEADLINE).map_err(|error| error.to_string())
        })
    }

    fn run<T: Send + 'static>(
        &self,
        ended: &Receiver<Infallible>,
        get: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, ControlError> {
        let failed = |why: &str| ControlError::NotFetched(format!("Couldn't fetch torrent: {why}"));
        if !self.0.add_one_below(MAX_FETCHES) {
            return Err(failed("others are just being fetched; try again later"));
        }
        let permit = Permit(self.0.clone());
        let (sender, result) = bounded(1);
        let work = move || {
            let _permit = permit;
            let _ = sender.send(get());
        };
        thread::Builder::new().name("fetch".to_owned()).spawn(work).map_err(|error| failed(&error.to_string()))?;
        select! {
            recv(result) -> result => match result {
                Ok(result) => result.map_err(|why| failed(&why)),
                Err(_) => Err(failed("its thread panicked")),
            },
            recv(ended) -> _ => Err(failed("the service ends")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slow_servers_keep_nobody_else_waiting_and_not_the_end_either() {
        let fetches = TorrentFetcher::default();
        let (alive, ended) = bounded::<Infallible>(0);
        let (slow, server) = bounded::<()>(0);
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..MAX_FETCHES)
                .map(|_| {
                    let server = server.clone();
                    let (fetches, ended) = (&fetches, &ended);
                    scope.spawn(move || fetches.run(ended, move || server.recv().map_err(|_| "gone".to_owned())))
                })
                .collect();
            while fetches.0.get() < MAX_FETCHES {
                thread::yield_now();
            }
            assert!(matches!(fetches.run(&ended, || Ok(())), Err(ControlError::NotFetched(_))), "no third one");
            drop(alive);
            for fetch in waiting {
                assert!(matches!(fetch.join().expect("no panic"), Err(ControlError::NotFetched(_))));
            }
        });
        drop(slow);
        while fetches.0.get() > 0 {
            thread::yield_now();
        }
    }
}
