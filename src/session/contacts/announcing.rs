//! Announces: which tracker is due is up to `Tiers`; each request runs on a short-lived thread of its own, because blocking I/O
//! cannot be interrupted and the main thread must not wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Contacts;
use crate::peer::{Report, Shared};
use crate::random;
use crate::session::events::Event;
use crate::session::goodbye::{self, Farewell};
use crate::session::search::TrackerState;
use crate::session::{Config, tell};
use crate::sources::announce::{Announce, Answer, TrackerError};
use crate::sources::client::TrackerClient;
use crate::sources::redact::public_name;
use crate::sources::tiers::{Job, Tiers};

/// A tracker has so long for everything.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);
/// Peers asked for in an announce: as a downloader, and where all that is wanted is there. A seed is mostly found by others.
const NUMWANT: u32 = 200;
const NUMWANT_SEED: u32 = 30;

/// The trackers of a session, and the requests that are under way.
pub struct Announcer {
    tiers: Tiers,
    client: TrackerClient,
    key: u32,
    /// By URL.
    under_way: Vec<(String, JoinHandle<()>)>,
    unsupported: Vec<String>,
}

impl Announcer {
    /// Nobody has been asked yet. The torrent's `tiers` come first, then the configuration's, each of those a tier of its own;
    /// those that the configuration excludes are left out.
    pub fn new(tiers: &[Vec<String>], config: &Config) -> Announcer {
        let excluded = |url: &String| config.exclude_trackers.iter().any(|not| not == "*" || not == url);
        let own = tiers.iter().map(|tier| tier.iter().filter(|url| !excluded(url)).cloned().collect());
        let all = own.chain(config.trackers.iter().map(|url| vec![url.clone()]));
        let tiers = Tiers::new(all.collect(), &mut random::cheap());
        let unsupported = tiers.unsupported().iter().map(|url| public_name(url)).collect();
        let client = TrackerClient::new(config.bind.clone(), config.trackers.iter().cloned());
        Announcer { tiers, client, key: random::u32(), under_way: Vec::new(), unsupported }
    }

    /// Trackers of kinds that we do not speak, fit for a person.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// Whether there is no tracker to ask.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// Whether requests are under way.
    pub fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether somebody has yet to hear that the download is complete.
    pub fn owes_completed(&self) -> bool {
        self.tiers.owes_completed()
    }

    /// The torrent has just become whole.
    pub fn completed(&mut self) {
        self.tiers.completed();
    }

    /// When the next request is due.
    pub fn next_due(&self, now: Duration) -> Duration {
        self.tiers.next_due().max(now)
    }

    /// Sends an announce on its way where one is due; `hungry` makes that sooner.
    pub fn begin(&mut self, shared: &Arc<Shared>, now: Duration, hungry: bool) {
        if hungry && !self.is_busy() {
            self.tiers.want_peers(now);
        }
        let Some(job) = self.tiers.begin(now) else { return };
        let (ours, client, key, url) = (shared.clone(), self.client.clone(), self.key, job.url.clone());
        let thread = std::thread::Builder::new().name("announce".into()).spawn(move || {
            let call = AssertUnwindSafe(|| send(&ours, &client, key, &job, ANNOUNCE_DEADLINE));
            let result = catch_unwind(call).unwrap_or_else(|_| Err(TrackerError::Other("a fault of ours".into())));
            ours.report_always(Report::Announced { url: job.url, result: Box::new(result) });
        });
        match thread {
            Ok(thread) => self.under_way.push((url, thread)),
            Err(error) => {
                log::warn!("cannot start a thread for the tracker: {error}");
                self.tiers.failed(now, &url);
            }
        }
    }

    /// Tells those trackers that we leave who know that we are here.
    pub fn farewell(&mut self, shared: &Arc<Shared>, deadline: Instant) -> Farewell {
        goodbye::to_trackers(shared, &self.client, self.key, self.tiers.stop_jobs(), deadline)
    }
}

impl Contacts<'_> {
    /// A tracker answered, or did not.
    pub(super) fn announced(&mut self, now: Duration, url: &str, result: Result<Answer, TrackerError>) {
        let under_way = &mut self.announcer.under_way;
        if let Some(at) = under_way.iter().position(|(asked, _)| asked == url) {
            let _ = under_way.swap_remove(at).1.join();
        }
        let tracker = public_name(url);
        let tiers = &mut self.announcer.tiers;
        match result {
            Ok(answer) => {
                tiers.answered(now, url, answer.interval, answer.min_interval, answer.tracker_id);
                if let Some(ip) = answer.external_ip {
                    self.book.set_ours(std::net::SocketAddr::new(ip, self.port()));
                }
                let new = self.named(&answer.peers);
                log::debug!("{tracker}: {} peers, {new} of them new", answer.peers.len());
                self.inner.known.store(self.book.len(), Ordering::Relaxed);
                self.next_call = now;
                let (peers, interval, warning) = (answer.peers.len(), answer.interval, answer.warning);
                self.inner.search.lock().tracker(&tracker, TrackerState::Answered { peers });
                tell(&self.events, Event::Announced { tracker, peers, interval, warning });
            }
            Err(error) => {
                tiers.failed(now, url);
                let retry = tiers.next_due().saturating_sub(now);
                let others = retry.is_zero() || self.announcer.is_busy();
                let retry = (!others).then_some(retry);
                let reason = error.to_string();
                self.inner.search.lock().tracker(&tracker, TrackerState::Failed { reason: reason.clone() });
                tell(&self.events, Event::AnnounceFailed { tracker, reason, retry });
            }
        }
    }
}

/// Announces to one tracker and waits for its answer.
pub fn send(
    shared: &Shared,
    client: &TrackerClient,
    key: u32,
    job: &Job,
    deadline: Duration,
) -> Result<Answer, TrackerError> {
    let announce = Announce {
        info_hash: shared.info_hash,
        peer_id: shared.peer_id,
        port: shared.port.load(Ordering::Relaxed),
        uploaded: shared.uploaded.load(Ordering::Relaxed),
        downloaded: shared.downloaded.load(Ordering::Relaxed),
        left: shared.left(),
        key,
        numwant: if shared.wants_info || !shared.pieces.is_complete() { NUMWANT } else { NUMWANT_SEED },
        event: shared.event(job.event),
        tracker_id: job.tracker_id.as_deref(),
    };
    client.announce(&job.url, &announce, deadline)
}
