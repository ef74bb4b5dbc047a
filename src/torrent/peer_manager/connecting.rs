//! Connections from the main thread's side: whom to call, whom to let in, and what is noted when one is over.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::peer::{Connection, Gone, Greeting, Shared};
use crate::strategy::dial_rate;
use crate::strategy::eviction::{Handshake, Merit, Occupant, evicted};
use crate::torrent::events::Event;
use crate::torrent::peer_manager::{Arrived, Contacts, Line};
use crate::torrent::tell;
use crate::types::PeerKey;

/// A connection that lasted so long was no failure.
const WORTHWHILE: Duration = Duration::from_secs(30);
/// The pause after a call that failed for want of a descriptor or a thread of ours.
const BREATHER: Duration = Duration::from_secs(5);
/// Connections that are over and whose addresses are remembered at most.
const MAX_LEFT: usize = 1000;
/// Connections that were ended to make room and whose threads have not ended yet, at most.
const MAX_GOING: usize = 24;

impl Contacts<'_> {
    /// There is no descriptor for a file: closes the connection that is of the least use, and makes no others for a while.
    pub fn give_up_one(&mut self, now: Duration) {
        self.short_until = now + BREATHER;
        self.next_call = self.next_call.max(self.short_until);
        if self.lines.len() < 2 {
            return; // without any peer nothing comes
        }
        let staying = self.lines.iter_mut().filter(|(_, line)| !line.going);
        let least = staying.min_by_key(|(key, line)| (line.ready.map(|_| line.seen[1].1), Reverse(**key)));
        if let Some((_, line)) = least {
            line.going = true;
            line.connection.close();
        }
    }

    /// Whether another peer can be called at all.
    pub(crate) fn may_call(&self) -> bool {
        self.lines.len() < self.seat.room() && self.half_open() < self.most_half_open()
    }

    fn most_half_open(&self) -> usize {
        // Where the table is small, some of it is for callers.
        self.seat.part(dial_rate::HALF_OPEN, dial_rate::LEAST_HALF_OPEN).min(self.seat.room().div_ceil(2))
    }

    fn half_open(&self) -> usize {
        self.lines.values().filter(|l| l.ready.is_none() && !l.incoming).count()
    }

    /// Calls those whose turn it is.
    pub(crate) fn call(&mut self, shared: &Arc<Shared>, now: Duration) {
        if now < self.next_call.max(self.short_until) || !self.may_call() {
            return;
        }
        let allowed = self.seat.dials_allowed();
        if allowed == 0 {
            return;
        }
        let half_open = self.most_half_open().saturating_sub(self.half_open());
        let room = self.seat.room().saturating_sub(self.lines.len()).min(half_open).min(allowed);
        let mut callable = self.book.callable(now, room + 1);
        let patience = dial_rate::connect_timeout(callable.len() > room);
        callable.truncate(room);
        let connected = shared.roster.all().into_iter().filter_map(|peer| Some((peer.callable_at()?, peer.key)));
        let connected: HashMap<_, _> = connected.collect();
        let mut own = None;
        for addr in callable {
            if let Some(key) = connected.get(&addr) {
                self.book.leads_to(addr, *key, now); // it called us
                continue;
            }
            if addr.port() == self.port() && own.get_or_insert_with(|| shared.bind.own_addresses()).contains(&addr.ip())
            {
                self.book.shun(addr);
                continue;
            }
            let key = shared.new_key();
            self.book.calling(addr, key);
            self.seat.note_dial();
            match Connection::dial(shared, key, addr, self.book.opening(&addr), patience) {
                Ok(connection) => self.enter(shared, key, connection, false),
                Err(error) => {
                    log::warn!("cannot call {addr}: {error}");
                    self.book.not_called(addr);
                    self.next_call = now + BREATHER;
                    return;
                }
            }
        }
        self.next_call = self.book.next_call().unwrap_or(Duration::MAX);
    }

    fn enter(&mut self, shared: &Shared, key: PeerKey, connection: Connection, incoming: bool) {
        let since = shared.now();
        let seen = [(since, 0, 0); 2];
        self.lines.insert(
            key,
            Line {
                connection,
                incoming,
                going: false,
                since,
                ready: None,
                peer: None,
                twin: None,
                seen,
                arrived: Arrived::default(),
                told: None,
            },
        );
        self.count(shared);
    }

    /// Those who must know learn how many connections there are.
    pub(crate) fn count(&mut self, shared: &Shared) {
        shared.lines.store(self.lines.len() as u32, Ordering::Relaxed);
        self.seat.count(self.lines.len());
    }

    /// Somebody calls us; `heard` is what it said to whoever had to find out whom it means.
    pub(crate) fn incoming(
        &mut self,
        shared: &Arc<Shared>,
        stream: TcpStream,
        addr: SocketAddr,
        heard: Option<Box<Greeting>>,
    ) {
        if shared.is_stopping()
            || shared.now() < self.short_until
            || self.book.refuses(&addr, shared.now())
            || !(self.has_room_for_callers() || self.make_room_for(shared, addr, self.seat.room()))
        {
            log::debug!("{addr}: turned away");
            return;
        }
        let key = shared.new_key();
        match Connection::accept(shared, key, stream, addr, heard) {
            Ok(connection) => self.enter(shared, key, connection, true),
            Err(error) => self.not_served(shared, addr, &error),
        }
    }

    /// There is no thread or descriptor for a caller. The table is as full as it can be: one of its connections ends, so that who
    /// holds all threads and does nothing keeps nobody out. Callers do not decide how much is logged.
    fn not_served(&mut self, shared: &Shared, addr: SocketAddr, error: &std::io::Error) {
        let now = shared.now();
        let level = if now < self.next_complaint { log::Level::Debug } else { log::Level::Warn };
        if level == log::Level::Warn {
            self.next_complaint = now + BREATHER;
        }
        log::log!(level, "cannot serve {addr}: {error}");
        self.make_room_for(shared, addr, self.lines.len());
    }

    /// A quarter of the room stays for those whom we call.
    fn has_room_for_callers(&self) -> bool {
        let staying = || self.lines.values().filter(|line| !line.going);
        let room = self.seat.room();
        let most = (room - room / 4).max(1);
        staying().filter(|line| line.incoming).count() < most && staying().count() < room
    }

    /// Hangs up on those who are too many since other sessions want their part: first who has not shaken hands, then who gave
    /// the least, of several the last to come.
    pub(crate) fn shed(&mut self) {
        let room = self.seat.room();
        if self.lines.len() <= room {
            return;
        }
        let surplus = self.lines.values().filter(|line| !line.going).count().saturating_sub(room);
        let staying = self.lines.iter_mut().filter(|(_, line)| !line.going);
        let mut staying: Vec<_> =
            staying.map(|(key, line)| (line.ready.map(|_| line.seen[1].1), Reverse(*key), line)).collect();
        staying.sort_unstable_by_key(|(given, key, _)| (*given, *key));
        for (_, _, line) in staying.into_iter().take(surplus) {
            log::debug!("{}: hung up on, as other torrents need the place", line.connection.addr);
            line.going = true;
            line.connection.close();
        }
    }

    /// Ends a connection of the fullest network that does the least, so that a caller from elsewhere finds a place of the `room`.
    fn make_room_for(&mut self, shared: &Shared, newcomer: SocketAddr, room: usize) -> bool {
        if self.lines.values().filter(|line| line.going).count() >= MAX_GOING {
            return false;
        }
        let full = self.lines.values().filter(|line| !line.going).count() >= room;
        // Where it is callers that are too many, one of them ends; else anybody whom the user did not name.
        let may_end = |line: &Line| {
            let called = full && line.ready.is_some() && !self.book.is_users(&line.connection.addr);
            !line.going && (line.incoming || called)
        };
        let (fair, now) = ((room / 4).max(1), shared.now());
        let lines = self.lines.iter().filter(|(_, line)| may_end(line));
        let occupants: Vec<_> = lines.map(|(key, line)| occupant(*key, line, now)).collect();
        let Some(gone) = evicted(newcomer.ip(), &occupants, fair, &self.churn, now) else { return false };
        log::debug!("{newcomer} gets the place of another");
        if let Some(bounded) = gone.bounded {
            self.churn.note(bounded, now);
        }
        self.drop_line(gone.key);
        true
    }

    /// Ends a connection that is of little use to make room; the peer is not to be called back at once.
    pub fn drop_line(&mut self, key: PeerKey) {
        if let Some(line) = self.lines.get_mut(&key) {
            log::debug!("{}: dropped to make room for another", line.connection.addr);
            line.going = true;
            line.connection.close();
        }
    }

    /// A handshake succeeded.
    pub(crate) fn ready(&mut self, shared: &Shared, key: PeerKey, addr: SocketAddr, incoming: bool) {
        // Late news of a connection that has been ended: nobody would be told of its end again.
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.peer = shared.roster.get(key);
        if line.ready.is_some() {
            return; // the download goes on with a connection of the metadata stage
        }
        line.ready = Some(shared.now());
        self.inner.search.lock().reached(incoming);
        if incoming {
            self.seat.note_reached();
        }
        self.book.reached(addr, shared.now());
        tell(&self.events, Event::PeerConnected { addr, incoming });
    }

    /// A connection is over.
    pub fn gone(&mut self, shared: &Shared, key: PeerKey, addr: SocketAddr, why: &Gone) {
        let Some(line) = self.lines.remove(&key) else { return };
        self.count(shared);
        let twin = self.twin_of(&line, why);
        line.connection.join();
        if line.incoming && matches!(why, Gone::NoThread(_)) {
            self.make_room_for(shared, addr, self.lines.len()); // for when it calls again
        }
        let encrypted = line.peer.as_ref().filter(|peer| peer.incoming && peer.encrypted.load(Ordering::Relaxed));
        if let Some(addr) = encrypted.and_then(|peer| peer.callable_at()) {
            self.book.was_encrypted(addr);
        }
        if line.ready.is_some() {
            self.remember(key, addr, line.incoming);
        } else if !line.incoming {
            self.inner.search.lock().in_vain(why);
        }
        // A caller's port means nothing; where two have everything there is nothing to call for, now or later.
        if !line.incoming && matches!(why, Gone::Ourselves | Gone::BothWhole) {
            self.book.shun(addr);
        }
        let now = shared.now();
        let received = line.peer.as_ref().map_or(0, |peer| peer.downloaded.load(Ordering::Relaxed));
        if let (Some(record), Some(since)) = (self.book.record(addr), line.ready) {
            record.gave(now, received, received / now.saturating_sub(since).as_secs().max(1));
        }
        let worked = line.ready.is_some_and(|since| now >= since + WORTHWHILE) || received > 0;
        if let Some(stays) = twin {
            self.book.merged(key, stays, now);
        } else if !(*why == Gone::Unanswered && self.book.unanswered(addr, key)) {
            self.book.lost(addr, key, now, worked);
        }
        if let Some(record) = self.book.record(addr).filter(|_| !line.incoming) {
            if line.going {
                record.dropped();
            }
            if why.is_offence() {
                record.offended(now);
            }
        }
        self.next_call = self.next_call.min(self.book.next_call().unwrap_or(Duration::MAX));
        log::debug!("{addr}: {why}");
        let reason = why.to_string();
        let was_connected = line.ready.is_some();
        tell(
            &self.events,
            if was_connected { Event::PeerGone { addr, reason } } else { Event::PeerFailed { addr, reason } },
        );
    }

    /// Tells of the end of connections that are ended without a report of their own.
    pub(crate) fn tell_gone<'l>(&self, lines: impl Iterator<Item = &'l Line>, reason: &str) {
        for line in lines.filter(|line| line.ready.is_some()) {
            tell(&self.events, Event::PeerGone { addr: line.connection.addr, reason: reason.to_owned() });
        }
    }

    /// The connection that leads to the same peer as one that is over.
    fn twin_of(&self, line: &Line, why: &Gone) -> Option<PeerKey> {
        let named = if let Gone::Duplicate(stays) = why { Some(*stays) } else { line.twin };
        let id = line.peer.as_ref().map(|peer| peer.id);
        let same = |other: &Line| id.is_some() && other.peer.as_ref().map(|peer| peer.id) == id;
        let connected = |key: &PeerKey| self.lines.get(key).is_some_and(|line| !line.going);
        named.filter(connected).or_else(|| self.lines.iter().find(|(_, line)| same(line)).map(|(key, _)| *key))
    }

    /// Ends a connection, as `stays` leads to the same peer.
    pub fn end_twin(&mut self, key: PeerKey, stays: PeerKey) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.twin = Some(stays);
            line.connection.close();
        }
    }

    /// The other end of a connection, also of one that is over, and whether it called us.
    pub fn whereabouts(&self, key: PeerKey) -> Option<(SocketAddr, bool)> {
        let there = self.lines.get(&key).map(|line| (line.connection.addr, line.incoming));
        there.or_else(|| self.left.iter().find(|left| left.0 == key).map(|&(_, addr, incoming)| (addr, incoming)))
    }

    /// A connection is over; should it be found to have lied, its address must be known.
    fn remember(&mut self, key: PeerKey, addr: SocketAddr, incoming: bool) {
        if self.left.len() >= MAX_LEFT {
            self.left.pop_front();
        }
        self.left.push_back((key, addr, incoming));
    }

    /// Leaves this peer alone for a while, and hangs up on all that the ban covers.
    pub fn ban(&mut self, addr: SocketAddr, incoming: bool, now: Duration) {
        self.book.ban(addr, incoming, now);
        // It may have come back under another key.
        let covered = |a| a == addr || self.book.is_banned(&a, now);
        self.lines.values().map(|line| &line.connection).filter(|c| covered(c.addr)).for_each(Connection::close);
    }
}

/// A connection as a full table sees it.
fn occupant(key: PeerKey, line: &Line, now: Duration) -> Occupant {
    let traffic = line.peer.as_ref().map(|peer| peer.traffic()).unwrap_or_default();
    let merit = match &line.peer {
        Some(_) if line.arrived.is_stuck(now) => Merit::Stuck,
        Some(_) if traffic.last_block().is_some() => Merit::Moved,
        Some(peer) if peer.idled.load(Ordering::Relaxed) => Merit::Idled,
        _ => Merit::Unknown,
    };
    Occupant {
        key,
        host: line.connection.addr.ip(),
        handshake: match line.ready {
            Some(_) => Handshake::Done,
            None if line.connection.has_heard() => Handshake::Begun,
            None => Handshake::Silent,
        },
        since: line.since,
        moved: traffic.last_block().unwrap_or_default().max(line.since),
        merit,
        total: traffic.total(),
        lately: traffic.lately(now),
    }
}
