//! Announces: which tracker is due is up to `TrackerSchedule`; each request runs on a short-lived thread of its own, because blocking I/O
//! cannot be interrupted and the main thread must not wait for it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::discovery::tracker::announce::{Announce, AnnounceResponse, TrackerError};
use crate::discovery::tracker::client::TrackerClient;
use crate::discovery::tracker::redact::public_name;
use crate::discovery::tracker::schedule::TrackerSchedule;
use crate::discovery::tracker::tiers::{AnnounceJob, AnnounceTerms};
use crate::peer::{PeerEvent, TorrentContext};
use crate::torrent::events::Event;
use crate::torrent::final_announce;
use crate::torrent::final_announce::FinalAnnounces;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::peer_search::TrackerState;
use crate::torrent::{Config, send_event};
use crate::types::count;
use crate::util::random;

/// A tracker has so long for everything.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);
/// Peers asked for in an announce: as a downloader, and where all that is wanted is there. A seed is mostly found by others.
const NUMWANT: u32 = 200;
const NUMWANT_SEED: u32 = 30;

/// The trackers of a session, and the requests that are under way.
pub struct Announcer {
    schedule: TrackerSchedule,
    client: TrackerClient,
    key: u32,
    /// A private torrent's trackers are asked with more restraint.
    is_private: bool,
    /// By URL.
    in_flight: Vec<(String, JoinHandle<()>)>,
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
        let schedule = TrackerSchedule::new(wanted.collect(), &config.trackers, &mut random::cheap());
        let name = |url: &String| if url.contains("://") { public_name(url) } else { NO_SCHEME.to_owned() };
        let unsupported = schedule.unsupported().map(name).collect();
        let client =
            TrackerClient::new(config.bind.clone(), config.user_agent.as_deref(), config.trackers.iter().cloned());
        Announcer { schedule, client, key: random::u32(), is_private: false, in_flight: Vec::new(), unsupported }
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
        !self.in_flight.is_empty()
    }

    /// Whether somebody has yet to hear that the download is complete.
    pub fn has_unsent_completed(&self) -> bool {
        self.schedule.has_unsent_completed()
    }

    /// The torrent has just become whole.
    pub fn completed(&mut self) {
        self.schedule.completed();
    }

    /// When the next request is due.
    pub fn next_due(&self, now: Duration) -> Duration {
        self.schedule.next_due().max(now)
    }

    /// Sends the announces that are due on their way. They come sooner where peers are needed (`needs_peers`), and still sooner where there
    /// is `no_candidates` to connect to.
    pub fn begin(&mut self, shared: &Arc<TorrentContext>, now: Duration, needs_peers: bool, no_candidates: bool) {
        self.schedule.want_peers(now, needs_peers, no_candidates);
        while let Some(job) = self.schedule.begin(now) {
            self.send(shared, now, job);
        }
    }

    /// Announces on a thread of its own, which reports what came of it.
    fn send(&mut self, shared: &Arc<TorrentContext>, now: Duration, job: AnnounceJob) {
        let (ours, client, identity, url) = (shared.clone(), self.client.clone(), self.identity(), job.url.clone());
        let thread = std::thread::Builder::new().name("announce".into()).spawn(move || {
            let call = AssertUnwindSafe(|| send(&ours, &client, identity, &job, ANNOUNCE_DEADLINE));
            let result = catch_unwind(call).unwrap_or_else(|_| Err(TrackerError::Other("a fault of ours".into())));
            ours.report_always(PeerEvent::Announced { url: job.url, result: Box::new(result) });
        });
        match thread {
            Ok(thread) => self.in_flight.push((url, thread)),
            Err(error) => {
                log::warn!("cannot start a thread for the tracker: {error}");
                self.schedule.failed(now, &url, None);
            }
        }
    }

    fn identity(&self) -> AnnounceIdentity {
        AnnounceIdentity { key: self.key, is_private: self.is_private }
    }

    /// Tells those trackers that we leave who know that we are here.
    pub fn final_announces(&mut self, shared: &Arc<TorrentContext>, deadline: Instant) -> FinalAnnounces {
        final_announce::announce_stopped(shared, &self.client, self.identity(), self.schedule.stop_jobs(), deadline)
    }
}

impl PeerManager<'_> {
    /// A tracker named more peers, over its second family of addresses.
    pub(crate) fn add_second_family_peers(&mut self, now: Duration, peers: &[SocketAddr]) {
        let new = self.named(peers);
        log::debug!("a tracker's other family: {} peers, {new} of them new", peers.len());
        self.inner.known.store(self.peer_list.len(), Ordering::Relaxed);
        self.next_dial = now;
    }

    /// A tracker answered, or did not.
    pub(crate) fn announced(&mut self, now: Duration, url: &str, result: Result<AnnounceResponse, TrackerError>) {
        let in_flight = &mut self.announcer.in_flight;
        if let Some(at) = in_flight.iter().position(|(asked, _)| asked == url) {
            let _ = in_flight.swap_remove(at).1.join();
        }
        let tracker = public_name(url);
        match result {
            Ok(answer) => {
                if let Some(ip) = answer.external_ip {
                    self.peer_list.set_ours(SocketAddr::new(ip, self.port()));
                }
                let new = self.named(&answer.peers);
                let terms = AnnounceTerms {
                    interval: answer.interval,
                    min_interval: answer.min_interval,
                    tracker_id: answer.tracker_id,
                };
                self.announcer.schedule.answered(now, url, &terms, new > 0);
                log::debug!("{tracker}: {} peers, {new} of them new", answer.peers.len());
                log_left_out(&tracker, answer.private_dropped);
                self.next_dial = now;
                let (peers, interval, warning) = (answer.peers.len(), answer.interval, answer.warning);
                self.inner.search.lock().tracker(&tracker, TrackerState::Answered { peers });
                send_event(&self.events, Event::Announced { tracker, peers, interval, warning });
            }
            Err(error) => {
                let schedule = &mut self.announcer.schedule;
                schedule.failed(now, url, error.retry());
                let retry = schedule.next_due().saturating_sub(now);
                let others = retry.is_zero() || self.announcer.is_busy();
                let retry = (!others).then_some(retry);
                let reason = error.to_string();
                self.inner.search.lock().tracker(&tracker, TrackerState::Failed { reason: reason.clone() });
                send_event(&self.events, Event::AnnounceFailed { tracker, reason, retry });
            }
        }
    }
}

/// Tells of peers that a tracker on the internet named in private networks.
fn log_left_out(tracker: &str, peers: usize) {
    if peers > 0 {
        log::info!(
            "{tracker}: {} with addresses of private networks left out, as the tracker is public",
            count(peers, "peer")
        );
    }
}

/// The identity under which a session announces.
#[derive(Clone, Copy)]
pub struct AnnounceIdentity {
    /// Its key with trackers.
    key: u32,
    /// Whether its torrent is private.
    is_private: bool,
}

/// Announces to one tracker and waits for its answer. What comes later over its second family of addresses is reported.
pub fn send(
    shared: &Arc<TorrentContext>,
    client: &TrackerClient,
    identity: AnnounceIdentity,
    job: &AnnounceJob,
    deadline: Duration,
) -> Result<AnnounceResponse, TrackerError> {
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
    let more = move |answer: AnnounceResponse| ours.report(PeerEvent::SecondFamilyPeers { peers: answer.peers });
    client.announce(&job.url, &announce, identity.is_private, deadline, more)
}
