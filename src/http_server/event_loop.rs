//! The thread of a server: it serves all connections with epoll. A waiting connection costs one descriptor and little memory, and
//! never delays another.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::http_server::connection::{HttpConnection, MIN_BUSY_PRIORITY, Step};
use crate::http_server::context::ServerContext;
use crate::http_server::listener::HttpListener;
use crate::http_server::mailbox::ConnectionMessage;
use crate::http_server::request::ClientAddress;
use crate::http_server::response::Response;
use crate::http_server::table::ConnectionTable;
use crate::util::atomics::Amount;

/// The keys of epoll events; connections have keys from `FIRST` on.
const MAILBOX: u64 = 0;
const LISTENERS: u64 = 1;
const FIRST: u64 = 1 << 16;
/// The most events fetched at once.
const EVENTS: usize = 128;
/// The most connections accepted before open connections are served.
const MAX_ACCEPTS_PER_TURN: usize = 64;
/// The pause when no file descriptor is available, although a connection was closed for it.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A connection in the table.
struct OpenConnection {
    connection: HttpConnection,
    /// What epoll waits for.
    interest: EventFlags,
    /// The unsent bytes that the total contains.
    unsent: usize,
}

/// The thread's connections, and what epoll waits for.
pub(super) struct EventLoop {
    name: String,
    context: ServerContext,
    listeners: Vec<HttpListener>,
    epoll: OwnedFd,
    open: ConnectionTable<OpenConnection>,
    next_key: u64,
    /// Connections that can proceed without waiting.
    ready: VecDeque<u64>,
    /// The bytes that wait to be sent, of all connections in the table.
    unsent: usize,
    /// When connections are accepted again after a shortage of file descriptors.
    accepts_at: Option<Duration>,
    /// Whether a connection was closed to free a descriptor for the next one.
    has_made_room: bool,
    started: Instant,
}

impl EventLoop {
    pub(super) fn new(name: &str, listeners: Vec<HttpListener>, context: ServerContext) -> io::Result<EventLoop> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*context.mailbox, EventData::new_u64(MAILBOX), EventFlags::IN)?;
        for (key, listener) in (LISTENERS..FIRST).zip(&listeners) {
            epoll::add(&epoll, listener, EventData::new_u64(key), EventFlags::IN)?;
        }
        Ok(EventLoop {
            name: name.into(),
            context,
            listeners,
            epoll,
            open: ConnectionTable::new(),
            next_key: FIRST,
            ready: VecDeque::new(),
            unsent: 0,
            accepts_at: None,
            has_made_room: false,
            started: Instant::now(),
        })
    }

    /// Serves until the mailbox says to stop, and then until the last responses are sent.
    pub(super) fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut stop_at = None;
        while stop_at.is_none_or(|end| self.context.now < end && self.open.len() > 0) {
            let timeout = self.timeout(stop_at);
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return log::error!("{} stops: {error}", self.name),
            }
            self.context.now = self.started.elapsed();
            if self.accepts_at.is_some_and(|at| at <= self.context.now) {
                self.accepts_at = None;
                self.watch_listeners(EventFlags::IN);
            }
            for event in &events {
                match event.data.u64() {
                    MAILBOX => self.read_messages(),
                    key if key < FIRST => self.accept((key - LISTENERS) as usize),
                    key => self.step(key, |connection, context| connection.on_event(event.flags, context)),
                }
            }
            for _ in 0..self.ready.len() {
                if let Some(key) = self.ready.pop_front() {
                    self.step(key, HttpConnection::advance);
                }
            }
            while let Some(key) = self.open.expired(self.context.now) {
                self.step(key, HttpConnection::expire);
            }
            if stop_at.is_none() && self.context.mailbox.is_stopping() {
                stop_at = Some(self.context.now + self.context.limits.stop_grace);
                self.begin_to_stop();
            }
        }
    }

    /// How long to wait for events.
    fn timeout(&self, stop_at: Option<Duration>) -> Option<Timespec> {
        if !self.ready.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let due = self.open.next_deadline().into_iter().chain(stop_at).chain(self.accepts_at).min()?;
        Timespec::try_from(due.saturating_sub(self.started.elapsed())).ok()
    }

    /// Closes the listeners, and all connections but those that are about to get a response.
    fn begin_to_stop(&mut self) {
        self.context.is_stopping = true;
        self.accepts_at = None;
        for listener in self.listeners.drain(..) {
            let _ = epoll::delete(&self.epoll, &listener);
        }
        let is_over = |(key, open): (u64, &OpenConnection)| (!open.connection.is_answering()).then_some(key);
        let over: Vec<u64> = self.open.iter().filter_map(is_over).collect();
        for key in over {
            self.close(key);
        }
    }

    fn read_messages(&mut self) {
        for message in self.context.mailbox.take() {
            match message {
                ConnectionMessage::Answered(key, response) => {
                    self.make_room_for_stream(key, &response);
                    self.step(key, |connection, context| connection.answered(response, context));
                }
                ConnectionMessage::Pulled(key, source, pulled) => {
                    self.step(key, |connection, context| connection.pulled(source, pulled, context));
                }
                ConnectionMessage::Woken(key) => self.step(key, HttpConnection::woken),
            }
        }
    }

    /// Accepts waiting connections.
    fn accept(&mut self, listener: usize) {
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(listener) else { return };
            match listener.accept() {
                Ok((socket, client)) => {
                    self.has_made_room = false;
                    self.add_connection(socket, client);
                }
                Err(Errno::AGAIN) => return,
                Err(error @ (Errno::MFILE | Errno::NFILE)) => return self.on_shortage(error),
                Err(error) => log::debug!("{}: accept: {error}", self.name),
            }
        }
    }

    /// No descriptor is free for a connection that waits. Closes one connection at most, then lets the others proceed: another
    /// thread or program may take the descriptor that it had.
    fn on_shortage(&mut self, error: Errno) {
        log::debug!("{}: accept: {error}", self.name);
        // If the whole system has none, those of this server make little difference: it does not interrupt anybody.
        let may_close = |priority: u8| error == Errno::MFILE || priority < MIN_BUSY_PRIORITY;
        let candidate =
            self.open.to_evict_among(|open| Some(open.connection.keep_priority()).filter(|it| may_close(*it)));
        if let Some(key) = candidate.filter(|_| !self.has_made_room) {
            self.has_made_room = true;
            self.close(key);
        } else {
            self.has_made_room = false;
            self.accepts_at = Some(self.context.now + ACCEPT_RETRY_DELAY);
            self.watch_listeners(EventFlags::empty());
        }
    }

    /// Sets for which events of the listeners epoll wakes the loop.
    fn watch_listeners(&self, interest: EventFlags) {
        for (key, listener) in (LISTENERS..FIRST).zip(&self.listeners) {
            if let Err(error) = epoll::modify(&self.epoll, listener, EventData::new_u64(key), interest) {
                log::debug!("{}: {error}", self.name);
            }
        }
    }

    fn add_connection(&mut self, socket: OwnedFd, client: ClientAddress) {
        let key = self.next_key;
        self.next_key += 1;
        let mut connection = HttpConnection::new(socket, key, client, self.context.now);
        // Most requests have already arrived.
        let step = connection.advance(&mut self.context);
        if step == Step::Over {
            return;
        }
        let ip = match client {
            ClientAddress::Tcp(addr) => Some(addr.ip()),
            ClientAddress::Unix => None,
        };
        if self.open.count(ip) >= self.context.limits.max_connections_per_client
            && let Some(key) = self.open.to_evict_of(ip, |open| open.connection.keep_priority())
        {
            self.close(key);
        }
        if self.open.len() >= self.context.limits.max_connections {
            self.evict();
        }
        let interest = interest_of(step);
        match epoll::add(&self.epoll, &connection, EventData::new_u64(key), interest) {
            Ok(()) => {
                self.open.add(key, ip, OpenConnection { connection, interest, unsent: 0 });
                self.settle(key, step);
            }
            Err(error) => log::debug!("client {client}: {error}"),
        }
    }

    /// Lets a connection proceed, unless it has been closed meanwhile.
    fn step(&mut self, key: u64, work: impl FnOnce(&mut HttpConnection, &mut ServerContext) -> Step) {
        let Some(open) = self.open.get_mut(key) else { return };
        let step = work(&mut open.connection, &mut self.context);
        self.settle(key, step);
    }

    /// Notes what a connection needs after it has proceeded, and keeps the totals within their limits.
    fn settle(&mut self, key: u64, step: Step) {
        self.note(key, step);
        self.limit_bodies();
        self.limit_unsent(key);
    }

    /// Notes what a connection needs after it has proceeded.
    fn note(&mut self, key: u64, step: Step) {
        let Some(open) = self.open.get_mut(key) else { return };
        let interest = interest_of(step);
        let is_over = step == Step::Over
            || (interest != open.interest
                && epoll::modify(&self.epoll, &open.connection, EventData::new_u64(key), interest).is_err());
        if is_over {
            return self.close(key);
        }
        if step == Step::Again {
            self.ready.push_back(key);
        }
        open.interest = interest;
        self.unsent = self.unsent - open.unsent + open.connection.unsent();
        open.unsent = open.connection.unsent();
        let deadline = open.connection.deadline(&self.context);
        self.open.set_deadline(key, deadline);
    }

    /// Refuses the largest bodies while all of them together are too large.
    fn limit_bodies(&mut self) {
        let most = self.context.limits.max_body_bytes;
        self.limit_amount(&Arc::clone(&self.context.bodies.full), most);
        self.limit_amount(&Arc::clone(&self.context.bodies.limited), most / 2);
    }

    fn limit_amount(&mut self, amount: &Arc<Amount>, most: usize) {
        while amount.get() > most {
            let Some(heaviest) = self.open.heaviest(|open| open.connection.body_bytes(amount)) else { return };
            let Some(open) = self.open.get_mut(heaviest) else { return };
            let step = open.connection.refuse_body(&mut self.context);
            self.note(heaviest, step);
        }
    }

    /// Closes the slowest readers while too many bytes wait for all of them together, but not the connection `key`.
    fn limit_unsent(&mut self, key: u64) {
        while self.unsent > self.context.limits.max_unsent_bytes {
            let waiting = self.open.iter().filter(|(other, open)| *other != key && open.unsent > 0);
            let Some((_, slowest)) = waiting.map(|(key, open)| (open.connection.since(), key)).min() else { break };
            self.close(slowest);
        }
    }

    /// Closes a stream if the response would be one too many.
    fn make_room_for_stream(&mut self, key: u64, response: &Response) {
        let is_one_more = self.open.get_mut(key).is_some_and(|open| open.connection.becomes_stream(response));
        if is_one_more
            && self.context.streams.get() >= self.context.limits.max_streams
            && let Some(key) = self.open.to_evict_among(|open| open.connection.stream_keep_priority())
        {
            self.close(key);
        }
    }

    fn evict(&mut self) {
        if let Some(key) = self.open.to_evict(|open| open.connection.keep_priority()) {
            self.close(key);
        }
    }

    fn close(&mut self, key: u64) {
        if let Some(open) = self.open.remove(key) {
            self.unsent -= open.unsent;
            open.connection.abort();
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // First the connections, so that no client waits for workers.
        self.open = ConnectionTable::new();
        self.listeners.clear();
        self.context.pool.finish();
        drop(self.context.mailbox.take());
    }
}

fn interest_of(step: Step) -> EventFlags {
    if let Step::Wait(flags) = step { flags } else { EventFlags::empty() }
}
