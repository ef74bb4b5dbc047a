//! Sends announces. `TrackerSchedule` decides which tracker is due. Each request runs on a short-lived thread, because blocking
//! I/O cannot be interrupted and main must not wait for it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::discovery::tracker::announce::{AnnounceResponse, AnnouncedPayload, RegisteredTracker};
use crate::discovery::tracker::client::TrackerClient;
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::http::host_limit::limit_hosts;
use crate::discovery::tracker::schedule::TrackerSchedule;
use crate::discovery::tracker::tiers::{AnnounceJob, AnnounceTerms};
use crate::peer::{TorrentContext, TrackerEvent};
use crate::torrent::announce::{AnnounceParameters, send};
use crate::torrent::events::Event;
use crate::torrent::final_announce;
use crate::torrent::final_announce::FinalAnnounces;
use crate::torrent::peer_manager::PeerManager;
use crate::torrent::peer_manager::tracker_views::TrackerResults;
use crate::torrent::peer_search::TrackerState;
use crate::torrent::views::TrackerView;
use crate::torrent::{TorrentConfig, send_event};
use crate::util::random;
use crate::util::redact::public_name;
use crate::util::units::count;

/// The time limit for a whole announce.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);

/// The trackers of a torrent, and the requests in progress.
pub struct Announcer {
    schedule: TrackerSchedule,
    client: TrackerClient,
    key: u32,
    /// Payload under the same identity before this run.
    before: AnnouncedPayload,
    /// Whether the torrent is private; its trackers are contacted with more restraint.
    is_private: bool,
    /// Requests in progress, by URL.
    in_flight: Vec<(String, JoinHandle<()>)>,
    unsupported: Vec<String>,
    /// The torrent's own trackers, of which the user has named none.
    of_torrent: HashSet<String>,
    results: TrackerResults,
    /// Whether anything has changed that programs see, and when the next announce was due when they were told.
    has_news: bool,
    published_due: Duration,
}

/// Shown instead of a tracker URL without a scheme, as any part of it may be a passkey.
const NO_SCHEME: &str = "an address that does not begin with http://, https:// or udp://";

impl Announcer {
    /// An announcer that has contacted no tracker yet. Leaves out those trackers of `tiers` that the configuration excludes, or of
    /// whose host there are too many; the configuration's own trackers are always used. `replaced` are the trackers that a program wants in place of all these.
    pub fn new(tiers: &[Vec<String>], config: &TorrentConfig, replaced: Option<Vec<Vec<String>>>) -> Announcer {
        let excluded = |url: &String| config.search.exclude_trackers.iter().any(|not| not == "*" || not == url);
        let wanted: Vec<Vec<String>> =
            tiers.iter().map(|tier| tier.iter().filter(|url| !excluded(url)).cloned().collect()).collect();
        let schedule = TrackerSchedule::new(limit_hosts(wanted), &config.search.trackers, &mut random::fast_rng());
        let mut announcer = Announcer {
            unsupported: unsupported(&schedule),
            schedule,
            client: client(config, config.search.trackers.iter().cloned()),
            key: config.connections.identity.map_or_else(random::u32, |identity| identity.key),
            before: config.connections.announced.payload,
            is_private: false,
            in_flight: Vec::new(),
            of_torrent: tiers.iter().flatten().map(|url| url.trim().to_owned()).collect(),
            results: TrackerResults::default(),
            has_news: true,
            published_due: Duration::ZERO,
        };
        if let Some(tiers) = replaced {
            announcer.replace(tiers, config, Duration::ZERO);
        }
        if let Some(RegisteredTracker { url, next_announce_in }) = &config.connections.announced.registered_at {
            announcer.schedule.resume(url, *next_announce_in);
        }
        announcer
    }

    /// Replaces all trackers.
    pub fn replace(&mut self, tiers: Vec<Vec<String>>, config: &TorrentConfig, now: Duration) {
        let urls = tiers.iter().flatten().map(|url| url.trim());
        let of_user = urls.filter(|url| !self.of_torrent.contains(*url)).map(str::to_owned);
        self.client = client(config, of_user);
        self.schedule.replace(tiers, now);
        self.unsupported = unsupported(&self.schedule);
        self.results.retain(&self.schedule);
        self.has_news = true;
    }

    /// Announces as soon as the trackers allow.
    pub fn reannounce(&mut self, now: Duration) {
        self.schedule.reannounce(now);
        self.has_news = true;
    }

    /// What programs see of the trackers, unless it is the same as at the last call.
    pub fn changed_views(&mut self, now: Duration) -> Option<Vec<TrackerView>> {
        let due = self.schedule.next_due();
        if !std::mem::take(&mut self.has_news) && due == self.published_due {
            return None;
        }
        self.published_due = due;
        Some(self.results.views(&self.schedule, now))
    }

    /// For private torrents: only one of the torrent's own trackers is used at a time.
    pub fn ask_one_at_a_time(&mut self) {
        self.is_private = true;
        self.schedule.ask_one_at_a_time();
    }

    /// The trackers with unsupported URLs, in printable form.
    pub fn unsupported(&self) -> &[String] {
        &self.unsupported
    }

    /// Whether there is no tracker.
    pub fn is_empty(&self) -> bool {
        self.schedule.is_empty()
    }

    /// Whether requests are in progress.
    pub fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether a tracker has not been told yet that the download is complete.
    pub fn has_unsent_completed(&self) -> bool {
        self.schedule.has_unsent_completed()
    }

    /// The torrent has just become a seed.
    pub fn completed(&mut self) {
        self.schedule.completed();
    }

    /// When the next request is due.
    pub fn next_due(&self, now: Duration) -> Duration {
        self.schedule.next_due().max(now)
    }

    /// Lets trackers of later tiers be asked, because no peer that others named can be reached.
    pub fn ask_further_trackers(&mut self, now: Duration) {
        self.schedule.ask_further_trackers(now);
    }

    /// Starts the announces that are due. They are due sooner if peers are needed (`needs_peers`), and even sooner if there are
    /// `lacks_candidates` to dial.
    pub fn start_due(
        &mut self,
        context: &Arc<TorrentContext>,
        now: Duration,
        needs_peers: bool,
        lacks_candidates: bool,
    ) {
        self.schedule.want_peers(now, needs_peers, lacks_candidates);
        while let Some(job) = self.schedule.next_job(now) {
            self.has_news = true;
            self.send(context, now, job);
        }
    }

    /// Announces on a new thread, which sends the result as an event.
    fn send(&mut self, context: &Arc<TorrentContext>, now: Duration, job: AnnounceJob) {
        let (ours, client, identity, url) = (context.clone(), self.client.clone(), self.identity(), job.url.clone());
        let thread = std::thread::Builder::new().name("announce".into()).spawn(move || {
            let call = AssertUnwindSafe(|| send(&ours, &client, identity, &job, ANNOUNCE_DEADLINE));
            let result = catch_unwind(call).unwrap_or_else(|_| Err(TrackerError::Other("internal error".into())));
            ours.send_to_main_always(TrackerEvent::Announced { url: job.url, result: Box::new(result) });
        });
        match thread {
            Ok(thread) => self.in_flight.push((url, thread)),
            Err(error) => {
                log::warn!("cannot start a thread for the tracker: {error}");
                self.schedule.failed(now, &url, None);
            }
        }
    }

    /// Records the result of an announce, unless the tracker has been removed.
    fn record(&mut self, url: &str, result: &Result<AnnounceResponse, TrackerError>) {
        if self.schedule.has(url) {
            self.results.record(url, result);
            self.has_news = true;
        }
    }

    fn identity(&self) -> AnnounceParameters {
        AnnounceParameters { key: self.key, is_private: self.is_private, before: self.before }
    }

    /// Tells the trackers that know of us that we stop.
    pub fn announce_stopped(&mut self, context: &Arc<TorrentContext>, deadline: Instant) -> FinalAnnounces {
        final_announce::announce_stopped(context, &self.client, self.identity(), self.schedule.stop_jobs(), deadline)
    }
}

/// The client for the trackers, of which `of_user` are the user's own.
fn client(config: &TorrentConfig, of_user: impl IntoIterator<Item = String>) -> TrackerClient {
    TrackerClient::on_route(&config.client.route, config.connections.user_agent.as_deref(), of_user)
}

/// The trackers with unsupported URLs, in printable form.
fn unsupported(schedule: &TrackerSchedule) -> Vec<String> {
    let name = |url: &String| if url.contains("://") { public_name(url) } else { NO_SCHEME.to_owned() };
    schedule.unsupported().map(name).collect()
}

impl PeerManager<'_> {
    /// A tracker returned more peers over its second address family.
    pub(crate) fn add_second_family_peers(&mut self, now: Duration, peers: &[SocketAddr]) {
        let new = self.add_tracker_peers(peers);
        log::debug!("a tracker's second address family: {} peers, {new} of them new", peers.len());
        self.inner.peers.known.set(self.peer_list.len());
        self.next.dial = now;
    }

    /// An announce has succeeded or failed.
    pub(crate) fn handle_announce_result(
        &mut self,
        now: Duration,
        url: &str,
        result: Result<AnnounceResponse, TrackerError>,
    ) {
        let in_flight = &mut self.announcer.in_flight;
        if let Some(at) = in_flight.iter().position(|(asked, _)| asked == url) {
            let _ = in_flight.swap_remove(at).1.join();
        }
        let tracker = public_name(url);
        self.announcer.record(url, &result);
        match result {
            Ok(answer) => {
                if let Some(ip) = answer.external_ip {
                    self.peer_list.set_ours(SocketAddr::new(ip, self.registration.port_for(ip)));
                }
                let new = self.add_tracker_peers(&answer.peers);
                let terms = AnnounceTerms {
                    interval: answer.interval,
                    min_interval: answer.min_interval,
                    tracker_id: answer.tracker_id,
                };
                self.announcer.schedule.answered(now, url, &terms, new > 0);
                log::debug!("{tracker}: {} peers, {new} of them new", answer.peers.len());
                log_left_out(&tracker, answer.private_dropped);
                self.next.dial = now;
                let (peers, interval, warning) = (answer.peers.len(), answer.interval, answer.warning);
                self.inner.peers.search.lock().tracker(&tracker, TrackerState::Answered { peers });
                send_event(&self.events, Event::Announced { tracker, peers, interval, warning });
            }
            Err(error) => {
                let schedule = &mut self.announcer.schedule;
                schedule.failed(now, url, error.retry());
                let retry = schedule.next_due().saturating_sub(now);
                let others = retry.is_zero() || self.announcer.is_busy();
                let retry = (!others).then_some(retry);
                self.inner.peers.search.lock().tracker(&tracker, TrackerState::Failed { error: error.clone() });
                send_event(&self.events, Event::AnnounceFailed { tracker, error, retry });
            }
        }
    }
}

/// Logs that a public tracker returned addresses in private networks, which are left out.
fn log_left_out(tracker: &str, peers: usize) {
    if peers > 0 {
        log::info!(
            "{tracker}: ignoring {} with private addresses, because the tracker is public",
            count(peers, "peer")
        );
    }
}
