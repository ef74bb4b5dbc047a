//! One exchange with one address of a UDP tracker (BEP 15) as a state machine: a connection id first, where none is known, then
//! the question itself, each sent again after 3 s, as a packet may be lost, and then after 15·2ⁿ s. Pure: times are durations since a start that the caller keeps.
//!
//! The caller loops: send what [`Exchange::next_datagram`] gives, hand what comes to [`Exchange::receive`], sleep until
//! [`Exchange::due`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::discovery::tracker::announce::{self, Announce, AnnounceResponse, Scraped, TrackerError};
use crate::discovery::tracker::udp::packet::{self, UdpResponse};
use crate::types::InfoHash;
use crate::util::random::Random;
use crate::wire::compact;

/// A connection id serves for so long after it came.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// The first repetition comes early: most often a packet was lost, and the tracker is well.
const EARLY_WAIT: Duration = Duration::from_secs(3);
/// The wait after that; doubled with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// The wait grows no further after so many.
const MAX_DOUBLINGS: u32 = 8;

/// A connection id that a tracker gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The id.
    pub id: u64,
    /// When it came.
    pub since: Duration,
}

impl ConnectionId {
    /// Whether it still serves.
    pub fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) < CONNECTION_LIFE
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum TrackerQuery<'a> {
    /// An announce, and the URL's path and query.
    Announce(&'a Announce<'a>, &'a str),
    /// The figures of some swarms.
    Scrape(&'a [InfoHash]),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To an announce.
    Announced(AnnounceResponse),
    /// To a scrape, in its order.
    Scraped(Vec<Scraped>),
}

impl Reply {
    /// What counts of it if the tracker has a public address.
    pub fn without_private_peers(self) -> Reply {
        match self {
            Reply::Announced(answer) => Reply::Announced(answer.without_private_peers()),
            scraped @ Reply::Scraped(_) => scraped,
        }
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange<'a> {
    to: SocketAddr,
    ask: TrackerQuery<'a>,
    random: Random,
    connection: Option<ConnectionId>,
    /// The connection id was there before, so that the tracker may have forgotten it.
    is_old: bool,
    /// A new connection id was asked for, as the tracker refused one.
    renewed: bool,
    /// The transaction id of the request under way, which is the same for all its repetitions.
    transaction: u32,
    /// Whether the question was sent, with this transaction id, rather than a connect request.
    asking: bool,
    send_at: Duration,
    sent: u32,
    deadline: Duration,
}

impl<'a> Exchange<'a> {
    /// An exchange with the tracker at `to`, with an old connection id if there is one, that ends at `deadline`.
    pub fn begin(
        now: Duration,
        to: SocketAddr,
        ask: TrackerQuery<'a>,
        old: Option<ConnectionId>,
        deadline: Duration,
        mut random: Random,
    ) -> Exchange<'a> {
        let connection = old.filter(|c| c.is_fresh(now));
        let (is_old, transaction) = (connection.is_some(), random.u32());
        Exchange {
            to,
            ask,
            random,
            connection,
            is_old,
            renewed: false,
            transaction,
            asking: is_old,
            send_at: now,
            sent: 0,
            deadline,
        }
    }

    /// When to look again: something is to be sent, or the time is over.
    pub fn due(&self) -> Duration {
        self.send_at.min(self.deadline)
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.deadline
    }

    /// The connection id, to be kept for the next exchange.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// The datagram to send now, if one is due.
    pub fn next_datagram(&mut self, now: Duration) -> Option<Vec<u8>> {
        if now < self.send_at || self.is_over(now) {
            return None;
        }
        // An old id that gets no answer may be one that the tracker has forgotten.
        let forgotten = self.is_old && self.sent > 0;
        self.connection = self.connection.filter(|c| c.is_fresh(now) && !forgotten);
        if self.asking && self.connection.is_none() {
            self.turn(now, false);
        }
        let wait = match self.sent.checked_sub(1) {
            None => EARLY_WAIT,
            Some(repetitions) => FIRST_WAIT.saturating_mul(1 << repetitions.min(MAX_DOUBLINGS)),
        };
        self.send_at = now.saturating_add(wait);
        self.sent = self.sent.saturating_add(1);
        Some(match (self.connection, self.ask) {
            (None, _) => packet::connect_request(self.transaction),
            (Some(c), TrackerQuery::Announce(a, data)) => packet::announce_request(c.id, self.transaction, a, data),
            (Some(c), TrackerQuery::Scrape(swarms)) => packet::scrape_request(c.id, self.transaction, swarms),
        })
    }

    /// A datagram came. `None` where it is not the awaited one, or there is more to send.
    pub fn receive(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> Option<Result<Reply, TrackerError>> {
        // Anyone can send to us; who cannot see our packets does not know the transaction id.
        let is_theirs = from.ip() == self.to.ip() && from.port() == self.to.port();
        if !is_theirs || packet::transaction(bytes) != Some(self.transaction) || self.sent == 0 {
            return None;
        }
        let reply = match (packet::parse_response(bytes), self.asking, self.ask) {
            (Some(UdpResponse::Connected(id)), false, _) => {
                self.connection = Some(ConnectionId { id, since: now });
                self.turn(now, true);
                self.sent = 0;
                return None;
            }
            (Some(UdpResponse::Error(words)), true, _) if self.refuses_id(words) => {
                (self.connection, self.renewed) = (None, true);
                self.turn(now, false);
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
            _ => Err(TrackerError::Malformed("it is no answer to what was asked".into())),
        };
        Some(reply)
    }

    /// Whether an error is about the connection id: anything said of an old one, and once what names it.
    fn refuses_id(&self, words: &[u8]) -> bool {
        let names_it = String::from_utf8_lossy(words).to_ascii_lowercase().contains("connection");
        !self.renewed && (self.is_old || names_it)
    }

    /// Another request, at once, under another transaction id.
    fn turn(&mut self, now: Duration, asking: bool) {
        self.is_old = false;
        self.asking = asking;
        self.transaction = self.random.u32();
        self.send_at = now;
    }

    /// The addresses are of the family in which the tracker was asked.
    fn answer(&self, interval: u32, leechers: u32, seeders: u32, peers: &[u8]) -> AnnounceResponse {
        let peers = if self.to.is_ipv4() {
            announce::usable(compact::four(peers))
        } else {
            announce::usable(compact::six(peers))
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
