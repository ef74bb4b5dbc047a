//! One exchange with one address of a UDP tracker (BEP 15) as a state machine: obtains a connection id if none is known, then
//! sends the request. It repeats each datagram after 3 s, because packets get lost, and then after 15·2ⁿ s. Pure: times are
//! durations since a start that the caller chooses.
//!
//! In a loop, the caller sends the datagram from [`Exchange::next_datagram`], passes received ones to [`Exchange::receive`], and
//! sleeps until [`Exchange::due`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::tracker::announce::{self, Announce, AnnounceResponse, ScrapeCounts};
use crate::discovery::tracker::error::TrackerError;
use crate::discovery::tracker::udp::packet::{self, UdpResponse};
use crate::types::InfoHash;
use crate::util::random::Random;
use crate::wire::compact;

/// The lifetime of a connection id.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// The delay before the first repetition is short, because the usual cause is a lost packet, not a slow tracker.
const EARLY_WAIT: Duration = Duration::from_secs(3);
/// The delay before the second repetition; doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// The number of times the delay doubles.
const MAX_DOUBLINGS: u32 = 8;

/// A connection id from a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The id.
    pub id: u64,
    /// When it was received.
    pub since: Duration,
}

impl ConnectionId {
    /// Whether it is still valid.
    pub fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) < CONNECTION_LIFE
    }
}

/// A request to a tracker.
#[derive(Clone, Copy, Debug)]
pub enum TrackerQuery<'a> {
    /// An announce, and the URL's path and query.
    Announce(&'a Announce<'a>, &'a str),
    /// A scrape of these torrents.
    Scrape(&'a [InfoHash]),
}

/// A tracker's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The response to an announce.
    Announced(AnnounceResponse),
    /// The response to a scrape, in the order of the request.
    Scraped(Vec<ScrapeCounts>),
}

impl Reply {
    /// Drops private addresses from the reply of a tracker with a public address.
    pub fn without_private_peers(self) -> Reply {
        match self {
            Reply::Announced(answer) => Reply::Announced(answer.without_private_peers()),
            scraped @ Reply::Scraped(_) => scraped,
        }
    }
}

/// An exchange in progress.
#[derive(Debug)]
pub struct Exchange<'a> {
    to: SocketAddr,
    query: TrackerQuery<'a>,
    random: Random,
    connection: Option<ConnectionId>,
    /// Whether the connection id is from an earlier exchange, so that the tracker may have forgotten it.
    is_old: bool,
    /// Whether a new connection id was requested because the tracker refused one.
    has_renewed_id: bool,
    /// The transaction id of the current request; all its repetitions share it.
    transaction: u32,
    /// Whether the current request is the query itself rather than a connect request.
    is_asking: bool,
    send_at: Duration,
    sent: u32,
    deadline: Duration,
}

impl<'a> Exchange<'a> {
    /// Starts an exchange with the tracker at `to` that ends at `deadline`. `old` is a connection id from an earlier exchange.
    pub fn begin(
        now: Duration,
        to: SocketAddr,
        query: TrackerQuery<'a>,
        old: Option<ConnectionId>,
        deadline: Duration,
        mut random: Random,
    ) -> Exchange<'a> {
        let connection = old.filter(|c| c.is_fresh(now));
        let (is_old, transaction) = (connection.is_some(), random.u32());
        Exchange {
            to,
            query,
            random,
            connection,
            is_old,
            has_renewed_id: false,
            transaction,
            is_asking: is_old,
            send_at: now,
            sent: 0,
            deadline,
        }
    }

    /// When the caller must act next: a datagram is due, or the deadline has passed.
    pub fn due(&self) -> Duration {
        self.send_at.min(self.deadline)
    }

    /// Whether the deadline has passed.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.deadline
    }

    /// The connection id, to keep for the next exchange.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// The next datagram, if one is due.
    pub fn next_datagram(&mut self, now: Duration) -> Option<Vec<u8>> {
        if now < self.send_at || self.is_over(now) {
            return None;
        }
        // If the tracker does not respond to an old id, it may have forgotten it.
        let forgotten = self.is_old && self.sent > 0;
        self.connection = self.connection.filter(|c| c.is_fresh(now) && !forgotten);
        if self.is_asking && self.connection.is_none() {
            self.start_request(now, false);
        }
        let wait = match self.sent.checked_sub(1) {
            None => EARLY_WAIT,
            Some(repetitions) => FIRST_WAIT.saturating_mul(1 << repetitions.min(MAX_DOUBLINGS)),
        };
        self.send_at = now.saturating_add(wait);
        self.sent = self.sent.saturating_add(1);
        Some(match (self.connection, self.query) {
            (None, _) => packet::connect_request(self.transaction),
            (Some(c), TrackerQuery::Announce(a, data)) => packet::announce_request(c.id, self.transaction, a, data),
            (Some(c), TrackerQuery::Scrape(swarms)) => packet::scrape_request(c.id, self.transaction, swarms),
        })
    }

    /// Handles a datagram that a proxy carried. The tracker's address is not known before, so the transaction id alone shows that it
    /// is the tracker's.
    pub fn receive_through_proxy(
        &mut self,
        now: Duration,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Result<Reply, TrackerError>> {
        if packet::transaction(bytes) == Some(self.transaction) {
            self.to = from;
        }
        self.receive(now, from, bytes)
    }

    /// Handles a received datagram. `None` if it does not belong to the current request, or if there is more to send.
    pub fn receive(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> Option<Result<Reply, TrackerError>> {
        // Anyone can send us datagrams, but only a host that sees ours knows the transaction id.
        let is_theirs = from.ip() == self.to.ip() && from.port() == self.to.port();
        if !is_theirs || packet::transaction(bytes) != Some(self.transaction) || self.sent == 0 {
            return None;
        }
        let reply = match (packet::parse_response(bytes), self.is_asking, self.query) {
            (Some(UdpResponse::Connected(id)), false, _) => {
                self.connection = Some(ConnectionId { id, since: now });
                self.start_request(now, true);
                self.sent = 0;
                return None;
            }
            (Some(UdpResponse::Error(words)), true, _) if self.refuses_id(words) => {
                (self.connection, self.has_renewed_id) = (None, true);
                self.start_request(now, false);
                self.sent = 0;
                return None;
            }
            (Some(UdpResponse::Error(words)), _, _) => Err(TrackerError::Refused(announce::text(words))),
            (Some(UdpResponse::Announced { interval, leechers, seeders, peers }), true, TrackerQuery::Announce(..)) => {
                Ok(Reply::Announced(self.answer(interval, leechers, seeders, peers)))
            }
            (Some(UdpResponse::Scraped(figures)), true, TrackerQuery::Scrape(swarms)) => {
                Ok(Reply::Scraped(packet::figures(figures).take(swarms.len()).collect()))
            }
            _ => Err(TrackerError::Malformed("it does not answer the request".into())),
        };
        Some(reply)
    }

    /// Whether an error is about the connection id: any error for an old id, and once any error that mentions the id.
    fn refuses_id(&self, words: &[u8]) -> bool {
        let names_it = String::from_utf8_lossy(words).to_ascii_lowercase().contains("connection");
        !self.has_renewed_id && (self.is_old || names_it)
    }

    /// Starts another request, due now, with a new transaction id.
    fn start_request(&mut self, now: Duration, is_asking: bool) {
        self.is_old = false;
        self.is_asking = is_asking;
        self.transaction = self.random.u32();
        self.send_at = now;
    }

    /// Converts a response to an announce; the tracker's address determines the family of the peers' addresses.
    fn answer(&self, interval: u32, leechers: u32, seeders: u32, peers: &[u8]) -> AnnounceResponse {
        let peers = if self.to.is_ipv4() {
            announce::usable(compact::parse_v4(peers))
        } else {
            announce::usable(compact::parse_v6(peers))
        };
        AnnounceResponse {
            peers,
            private_dropped: 0,
            names: Vec::new(),
            interval: announce::seconds(interval.into()).unwrap_or(announce::DEFAULT_INTERVAL),
            min_interval: None,
            complete: Some(seeders),
            incomplete: Some(leechers),
            warning: None,
            tracker_id: None,
            external_ip: None,
        }
    }
}

#[cfg(test)]
mod tests;
