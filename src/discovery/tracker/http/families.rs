//! Announces over both address families of an HTTP tracker (BEP 7). A tracker sees our address of one family, and most trackers
//! return only peers of that family. Therefore btsync announces once over IPv4 and once over IPv6, with the same peer id and key.
//! The first response counts, the other one only adds peers, so that a broken family causes no delay.
//!
//! A private tracker does accounting per user. Its second family is used only if the first one returned no peers.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::discovery::tracker::http::{Announce, AnnounceEvent, AnnounceResponse, HttpClient, TrackerError, url};
use crate::net::bind::Bind;
use crate::net::networks::is_private;
use crate::util::atomics::Flag;
use crate::util::os_error::reason;

/// How long a family is not used after it failed.
const FAMILY_RETRY_DELAY: Duration = Duration::from_secs(10 * 60);
/// The time limit for the first family of a private tracker that has both.
const FIRST_FAMILY_TIMEOUT: Duration = Duration::from_secs(8);
/// The most entries kept about trackers' families; beyond this, all are dropped.
const MAX_KNOWN: usize = 500;

/// An IP address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub(crate) fn has(self, ip: IpAddr) -> bool {
        ip.to_canonical().is_ipv4() == (self == IpFamily::V4)
    }

    fn other(self) -> IpFamily {
        if self == IpFamily::V4 { IpFamily::V6 } else { IpFamily::V4 }
    }
}

/// What earlier announces revealed about trackers' families, by URL.
#[derive(Debug, Default)]
pub(crate) struct KnownFamilies {
    /// Families not to use before this time; `None` for not while this client exists.
    disabled_until: HashMap<(String, IpFamily), Option<Instant>>,
    /// Families that have accepted an announce.
    accepted: HashSet<(String, IpFamily)>,
}

impl KnownFamilies {
    /// The families over which to send an event: for `stopped` and `completed`, those that accepted an announce, if there are
    /// any.
    fn families_for(&mut self, url: &str, event: Option<AnnounceEvent>) -> Vec<IpFamily> {
        let now = Instant::now();
        self.disabled_until.retain(|_, until| until.is_none_or(|until| until > now));
        let both = [IpFamily::V4, IpFamily::V6];
        let key = |family: &IpFamily| (url.to_owned(), *family);
        let accepted: Vec<IpFamily> = both.into_iter().filter(|family| self.accepted.contains(&key(family))).collect();
        if matches!(event, Some(AnnounceEvent::Stopped | AnnounceEvent::Completed)) && !accepted.is_empty() {
            return accepted;
        }
        both.into_iter().filter(|family| !self.disabled_until.contains_key(&key(family))).collect()
    }

    /// Allows broken families again.
    fn retry_all_families(&mut self, url: &str) {
        self.disabled_until.retain(|(of, _), until| of != url || until.is_none());
    }

    /// Records the result of an announce over one family; `has_other` says whether the other family works.
    fn note(&mut self, url: &str, family: IpFamily, result: &Result<AnnounceResponse, TrackerError>, has_other: bool) {
        if self.disabled_until.len() + self.accepted.len() > MAX_KNOWN {
            (self.disabled_until, self.accepted) = Default::default();
        }
        let key = (url.to_owned(), family);
        match result {
            Ok(_) => {
                self.disabled_until.remove(&key);
                self.accepted.insert(key);
            }
            // If the other family does not work either, disabling this one does not help.
            Err(_) if !has_other => {}
            Err(TrackerError::Refused(_) | TrackerError::Later { .. }) => drop(self.disabled_until.insert(key, None)),
            Err(_) => drop(self.disabled_until.insert(key, Some(Instant::now() + FAMILY_RETRY_DELAY))),
        }
    }
}

/// The state that the threads of both families share.
struct Race<F> {
    tracker: HttpClient,
    url: String,
    won: Flag,
    more: F,
}

impl HttpClient {
    /// Announces over both families if the tracker may have both, and returns the first response. Passes the other one, if it
    /// arrives later, to `more`. A private tracker's families are used one after the other.
    ///
    /// # Errors
    /// Those of [`HttpClient::announce`], if neither family gets a response.
    pub fn announce_in_both<F: Fn(AnnounceResponse) + Send + Sync + 'static>(
        &self,
        url: &str,
        a: &Announce,
        is_private: bool,
        deadline: Duration,
        more: F,
    ) -> Result<AnnounceResponse, TrackerError> {
        let end = Instant::now() + deadline;
        if self.is_proxied(url) {
            return self.announce(url, a, deadline);
        }
        if let Some(ip) = url::literal_ip(url) {
            let family = if IpFamily::V4.has(ip) { IpFamily::V4 } else { IpFamily::V6 };
            return self.announce_over(family, url, &self.announce_url(family, url, a)?, end);
        }
        let families = self.known.lock().families_for(url, a.event);
        let urls: Result<Vec<_>, _> =
            families.iter().map(|family| Ok((*family, self.announce_url(*family, url, a)?))).collect();
        match urls?.as_slice() {
            // Both families failed recently: try again without waiting.
            [] => {
                self.known.lock().retry_all_families(url);
                self.announce(url, a, deadline)
            }
            [(family, full)] => {
                let result = self.announce_over(*family, url, full, end);
                let mut known = self.known.lock();
                if result.is_err() {
                    known.retry_all_families(url); // the other one may work again
                }
                known.note(url, *family, &result, false);
                drop(known);
                result.map_err(|error| without_family(error, url))
            }
            [first, second, ..] if is_private => self.announce_in_turn(url, first, second, end),
            both => self.race(url, both, a.event == Some(AnnounceEvent::Stopped), end, more),
        }
    }

    /// Announces to a private tracker: over the second family only if the first one failed or returned no peers.
    fn announce_in_turn(
        &self,
        url: &str,
        (first, first_url): &(IpFamily, String),
        (second, second_url): &(IpFamily, String),
        end: Instant,
    ) -> Result<AnnounceResponse, TrackerError> {
        let answer = self.announce_over(*first, url, first_url, end.min(Instant::now() + FIRST_FAMILY_TIMEOUT));
        match &answer {
            Ok(answer) if !answer.peers.is_empty() => {
                self.known.lock().note(url, *first, &Ok(answer.clone()), true);
                return Ok(answer.clone());
            }
            // A refusal applies to both families.
            Err(TrackerError::Refused(_) | TrackerError::Later { .. }) => return answer,
            _ => {}
        }
        let other = self.announce_over(*second, url, second_url, end);
        let mut known = self.known.lock();
        known.note(url, *first, &answer, other.is_ok());
        known.note(url, *second, &other, answer.is_ok());
        drop(known);
        match (answer, other) {
            (Ok(answer), Ok(other)) => Ok(answer.merged(other)),
            (Ok(answer), Err(_)) | (Err(_), Ok(answer)) => Ok(answer),
            (Err(_), Err(refused @ TrackerError::Refused(_))) => Err(refused),
            (Err(TrackerError::NoFamily), Err(error)) | (Err(error), Err(_)) => Err(without_family(error, url)),
        }
    }

    /// Announces over both families at once. `awaits_both` waits for both responses, for a caller that cannot receive one later.
    fn race<F: Fn(AnnounceResponse) + Send + Sync + 'static>(
        &self,
        url: &str,
        urls: &[(IpFamily, String)],
        awaits_both: bool,
        end: Instant,
        more: F,
    ) -> Result<AnnounceResponse, TrackerError> {
        let race = Arc::new(Race { tracker: self.clone(), url: url.to_owned(), won: Flag::default(), more });
        let (sender, receiver) = bounded(urls.len());
        for (family, full) in urls {
            let (race, family, full, sender) = (race.clone(), *family, full.clone(), sender.clone());
            let run = move || {
                let result = race.tracker.announce_over(family, &race.url, &full, end);
                let is_late = if result.is_ok() { race.won.swap(true) } else { race.won.is_set() };
                if is_late && !awaits_both {
                    race.tracker.known.lock().note(&race.url, family, &result, true);
                    result.into_iter().for_each(&race.more);
                } else {
                    let _ = sender.send((family, result)); // fails if the other family's response has just arrived
                }
            };
            let thread = thread::Builder::new().name("announce".into()).spawn(run);
            thread.map_err(|error| {
                TrackerError::Other(format!("cannot start a thread for the announce: {}", reason(&error)))
            })?;
        }
        drop((sender, race));
        let (mut best, mut failures) = (None, Vec::new());
        // The channel disconnects when both threads are done.
        while let Ok((family, result)) = receiver.recv_deadline(end) {
            self.known.lock().note(url, family, &result, best.is_some());
            match result {
                Ok(answer) => best = Some(answer),
                Err(error) => failures.push((family, error)),
            }
            if best.is_some() && !awaits_both {
                break;
            }
        }
        match best {
            Some(answer) => {
                let mut known = self.known.lock();
                for (family, error) in failures {
                    known.note(url, family, &Err(error), true);
                }
                Ok(answer)
            }
            // Prefer an error from the tracker itself to a connection error.
            None => Err(failures
                .into_iter()
                .map(|(_, error)| error)
                .min_by_key(remoteness)
                .map_or(TrackerError::Timeout, |error| without_family(error, url))),
        }
    }

    /// The announce URL for one family, with our address of the other family (BEP 7) unless sockets are bound, a proxy is in
    /// use, or the route is anonymous.
    fn announce_url(&self, family: IpFamily, url: &str, a: &Announce) -> Result<String, TrackerError> {
        let mut full = url::announce_url(url, a)?;
        if self.names_both_addresses
            && let Some(ip) = own_address(family.other())
        {
            let name = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
            url::add_parameter(&mut full, name, &ip.to_string());
        }
        Ok(full)
    }
}

/// How far from the tracker an error occurred; 0 is the tracker's own response.
fn remoteness(error: &TrackerError) -> u8 {
    match error {
        TrackerError::Refused(_) | TrackerError::Later { .. } => 0,
        TrackerError::Http(_) | TrackerError::Malformed(_) => 1,
        TrackerError::Timeout => 3,
        TrackerError::NoFamily => 4,
        _ => 2,
    }
}

/// Converts "no address of this family" to "host not found", once both families have been tried.
fn without_family(error: TrackerError, url: &str) -> TrackerError {
    match error {
        TrackerError::NoFamily => TrackerError::NameLookup { host: url::host(url).to_owned() },
        error => error,
    }
}

/// Our public address of a family, if there is one: the source address of packets to the internet. Sends no packet.
fn own_address(family: IpFamily) -> Option<IpAddr> {
    let far = match family {
        IpFamily::V4 => (Ipv4Addr::new(192, 0, 32, 8), 9).into(),
        IpFamily::V6 => (Ipv6Addr::new(0x2620, 0, 0x2d0, 0x200, 0, 0, 0, 8), 9).into(),
    };
    // The route has no binding: see `names_both_addresses`.
    Bind::Any.address_towards(far).ok().filter(|ip| !is_private(*ip))
}

#[cfg(test)]
mod tests;
