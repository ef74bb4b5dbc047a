//! Stopping: tells the trackers, shuts the peers' sockets down and joins the threads. A slow tracker delays this by at most
//! [`FINAL_ANNOUNCE_TIMEOUT`].

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::discovery::tracker::client::TrackerClient;
use crate::discovery::tracker::tiers::AnnounceJob;
use crate::peer::{Connection, TorrentContext};
use crate::torrent::announce::{AnnounceParameters, send};

/// The time limit for all final announces together.
pub const FINAL_ANNOUNCE_TIMEOUT: Duration = Duration::from_millis(1800);
/// How often to check threads that have not ended yet.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Final announces in progress.
pub struct FinalAnnounces {
    threads: Vec<JoinHandle<()>>,
    done: Receiver<()>,
    deadline: Instant,
}

/// Sends the final announces on one thread for each tracker, `completed` before `stopped` if both are due.
pub fn announce_stopped(
    context: &Arc<TorrentContext>,
    tracker: &TrackerClient,
    identity: AnnounceParameters,
    jobs: Vec<AnnounceJob>,
    deadline: Instant,
) -> FinalAnnounces {
    let (done_sender, done) = bounded(jobs.len());
    let mut by_tracker: Vec<Vec<AnnounceJob>> = Vec::new();
    for job in jobs {
        match by_tracker.iter_mut().find(|jobs| jobs[0].url == job.url) {
            Some(jobs) => jobs.push(job),
            None => by_tracker.push(vec![job]),
        }
    }
    let mut threads = Vec::new();
    for jobs in by_tracker {
        let (context, tracker, done_sender) = (context.clone(), tracker.clone(), done_sender.clone());
        let thread = thread::Builder::new().name("final-announce".into()).spawn(move || {
            for job in &jobs {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                if let Err(error) = send(&context, &tracker, identity, job, left) {
                    log::debug!("last announce: {error}");
                }
            }
            let _ = done_sender.send(());
        });
        threads.extend(thread);
    }
    FinalAnnounces { threads, done, deadline }
}

impl FinalAnnounces {
    /// Waits for the trackers until the deadline. A thread whose tracker has not answered by then is left behind; it holds
    /// nothing but its socket.
    pub fn wait(self) {
        for _ in &self.threads {
            if self.done.recv_deadline(self.deadline).is_err() {
                log::debug!("a tracker did not answer the last announce in time");
                return;
            }
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Shuts every connection down and joins its threads.
pub fn close_connections(connections: Vec<Connection>) {
    for connection in &connections {
        connection.close();
    }
    for connection in connections {
        // A dial that had not quite started when its socket was shut down starts all the same, so it is shut down again.
        while !connection.is_finished() {
            thread::sleep(JOIN_POLL_INTERVAL);
            connection.close();
        }
        connection.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::service::RESOLVER_STOP_TIMEOUT;

    /// With several torrents, the DHT stops after the last final announce.
    #[test]
    fn the_waits_at_the_end_take_less_than_two_seconds_together() {
        assert!(FINAL_ANNOUNCE_TIMEOUT + RESOLVER_STOP_TIMEOUT <= Duration::from_millis(1850));
    }
}
