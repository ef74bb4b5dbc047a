//! Announces: which tracker is due is up to `Schedule`; each request runs on a short-lived thread of its own, because blocking I/O
//! cannot be interrupted and the main thread must not wait for it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::discovery::tracker::announce::{Announce, Answer, TrackerError};
use crate::discovery::tracker::client::TrackerClient;
use crate::discovery::tracker::redact::public_name;
use crate::discovery::tracker::schedule::Schedule;
use crate::discovery::tracker::tiers::{Job, Terms};
use crate::peer::{Report, Shared};
use crate::torrent::events::Event;
use crate::torrent::final_announce;
use crate::torrent::final_announce::Farewell;
use crate::torrent::peer_manager::Contacts;
use crate::torrent::peer_search::TrackerState;
use crate::torrent::{Config, tell};
use crate::types::count;
use crate::util::random;

/// A tracker has so long for everything.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);
/// Peers asked for in an announce: as a downloader, and where all that is wanted is there. A seed is mostly found by others.
const NUMWANT: u32 = 200;
const NUMWANT_SEED: u32 = 30;

/// The trackers of a session, and the requests that are under way.
pub struct Announcer {
    schedule: Schedule,
    client: TrackerClient,
    key: u32,
    /// A private torrent's trackers are asked with more restraint.
    is_private: bool,
    /// By URL.
    under_way: Vec<(String, JoinHandle<()>)>,
    unsupported: Vec<String>,
}

/// In place of a tracker whose address cannot be shown, as nobody knows which part of it is a key.
const NO_SCHEME: &str = "an address without http://, https:// or udp:// in front";

impl Announcer {
    /// Nobody has been asked yet. The torrent's `tiers` lack those that the configuration excludes; the configuration's own trackers are
    /// always asked.
    pub fn new(tiers: &[Vec<String>], config: &Config) -> Announcer {
        let excluded = |url: &String| config.exclude_trackers.iter().any(|not| not == "*" || not == url);
        let wanted = tiers.iter().map(|tier| tier.iter().filter(|url| !excluded(url)).cloned().collect());
        let schedule = Schedule::new(wanted.collect(), &config.trackers, &mut random::cheap());
        let name = |url: &String| if url.contains("://") { public_name(url) } else { NO_SCHEME.to_owned() };
        let unsupported = schedule.unsupported().map(name).collect();
        let client =
            TrackerClient::new(config.bind.clone(), config.user_agent.as_deref(), config.trackers.iter().cloned());
        Announcer { schedule, client, key: random::u32(), is_private: false, under_way: Vec::new(), unsupported }
    }

    /// The torrent is private: of its own trackers one is asked at a time.
    pub fn ask_one_at_a_time(&mut self) {
        self.is_private = true;
        self.schedule.ask_one_at_a_time();
    }

    /// Trackers of kinds that we do not speak, fit for a person.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// Whether there is no tracker to ask.
    pub fn is_empty(&self) -> bool {
        self.schedule.is_empty()
    }

    /// Whether requests are under way.
    pub fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether somebody has yet to hear that the download is complete.
    pub fn owes_completed(&self) -> bool {
        self.schedule.owes_completed()
    }

    /// The torrent has just become whole.
    pub fn completed(&mut self) {
        self.schedule.completed();
    }

    /// When the next request is due.
    pub fn next_due(&self, now: Duration) -> Duration {
        self.schedule.next_due().max(now)
    }

    /// Sends the announces that are due on their way. They come sooner where peers are needed (`hungry`), and still sooner where there
    /// is `nobody_left` to connect to.
    pub fn begin(&mut self, shared: &Arc<Shared>, now: Duration, hungry: bool, nobody_left: bool) {
        self.schedule.want_peers(now, hungry, nobody_left);
        while let Some(job) = self.schedule.begin(now) {
            self.send(shared, now, job);
        }
    }

    /// Announces on a thread of its own, which reports what came of it.
    fn send(&mut self, shared: &Arc<Shared>, now: Duration, job: Job) {
        let (ours, client, identity, url) = (shared.clone(), self.client.clone(), self.identity(), job.url.clone());
        let thread = std::thread::Builder::new().name("announce".into()).spawn(move || {
            let call = AssertUnwindSafe(|| send(&ours, &client, identity, &job, ANNOUNCE_DEADLINE));
            let result = catch_unwind(call).unwrap_or_else(|_| Err(TrackerError::Other("a fault of ours".into())));
            ours.report_always(Report::Announced { url: job.url, result: Box::new(result) });
        });
        match thread {
            Ok(thread) => self.under_way.push((url, thread)),
            Err(error) => {
                log::warn!("cannot start a thread for the tracker: {error}");
                self.schedule.failed(now, &url, None);
            }
        }
    }

    fn identity(&self) -> Identity {
        Identity { key: self.key, is_private: self.is_private }
    }

    /// Tells those trackers that we leave who know that we are here.
    pub fn farewell(&mut self, shared: &Arc<Shared>, deadline: Instant) -> Farewell {
        final_announce::to_trackers(shared, &self.client, self.identity(), self.schedule.stop_jobs(), deadline)
    }
}

impl Contacts<'_> {
    /// A tracker named more peers, over its second family of addresses.
    pub(crate) fn also_named(&mut self, now: Duration, peers: &[SocketAddr]) {
        let new = self.named(peers);
        log::debug!("a tracker's other family: {} peers, {new} of them new", peers.len());
        self.inner.known.store(self.book.len(), Ordering::Relaxed);
        self.next_call = now;
    }

    /// A tracker answered, or did not.
    pub(crate) fn announced(&mut self, now: Duration, url: &str, result: Result<Answer, TrackerError>) {
        let under_way = &mut self.announcer.under_way;
        if let Some(at) = under_way.iter().position(|(asked, _)| asked == url) {
            let _ = under_way.swap_remove(at).1.join();
        }
        let tracker = public_name(url);
        match result {
            Ok(answer) => {
                if let Some(ip) = answer.external_ip {
                    self.book.set_ours(SocketAddr::new(ip, self.port()));
                }
                let new = self.named(&answer.peers);
                let terms = Terms {
                    interval: answer.interval,
                    min_interval: answer.min_interval,
                    tracker_id: answer.tracker_id,
                };
                self.announcer.schedule.answered(now, url, &terms, new > 0);
                log::debug!("{tracker}: {} peers, {new} of them new", answer.peers.len());
                note_left_out(&tracker, answer.left_out);
                self.next_call = now;
                let (peers, interval, warning) = (answer.peers.len(), answer.interval, answer.warning);
                self.inner.search.lock().tracker(&tracker, TrackerState::Answered { peers });
                tell(&self.events, Event::Announced { tracker, peers, interval, warning });
            }
            Err(error) => {
                let schedule = &mut self.announcer.schedule;
                schedule.failed(now, url, error.retry());
                let retry = schedule.next_due().saturating_sub(now);
                let others = retry.is_zero() || self.announcer.is_busy();
                let retry = (!others).then_some(retry);
                let reason = error.to_string();
                self.inner.search.lock().tracker(&tracker, TrackerState::Failed { reason: reason.clone() });
                tell(&self.events, Event::AnnounceFailed { tracker, reason, retry });
            }
        }
    }
}

/// Tells of peers that a tracker on the internet named in private networks.
fn note_left_out(tracker: &str, peers: usize) {
    if peers > 0 {
        log::info!(
            "{tracker}: {} with addresses of private networks left out, as the tracker is public",
            count(peers, "peer")
        );
    }
}

/// The identity under which a session announces.
#[derive(Clone, Copy)]
pub struct Identity {
    /// Its key with trackers.
    key: u32,
    /// Whether its torrent is private.
    is_private: bool,
}

/// Announces to one tracker and waits for its answer. What comes later over its second family of addresses is reported.
pub fn send(
    shared: &Arc<Shared>,
    client: &TrackerClient,
    identity: Identity,
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
        key: identity.key,
        numwant: if shared.wants_info || !shared.pieces.is_complete() { NUMWANT } else { NUMWANT_SEED },
        event: shared.event(job.event),
        tracker_id: job.tracker_id.as_deref(),
    };
    let ours = shared.clone();
    let more = move |answer: Answer| ours.report(Report::AlsoNamed { peers: answer.peers });
    client.announce(&job.url, &announce, identity.is_private, deadline, more)
}
