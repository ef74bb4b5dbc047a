//! A connection from beginning to end: dial or accept, handshake, spawn the other two threads, read, join them.
//!
//! Whoever of the three fails first shuts the socket down; the reader then ends, tells the writer and the deadline thread, joins
//! them, takes the peer off the lists and reports it gone. The session owns the reader's thread and joins that.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::mse::Ciphers;
use crate::net::bind;
pub use crate::peer::disconnect_reason::Gone;
use crate::peer::encryption::{Line, Rest};
use crate::peer::kept::{Met, opening};
use crate::peer::outbox::{Inbox, Out, outbox};
use crate::peer::reader::Reader;
use crate::peer::roster::{Admission, feed_the_hungry};
use crate::peer::state::Peer;
use crate::peer::writer::{Ended, STALL, Writer};
use crate::peer::{Report, Shared, deadline};
use crate::types::{Opening, PeerKey};
use crate::util::os_error::reason;
use crate::wire::handshake::Handshake;

/// The stack of a connection's threads. Blocked threads touch a few KiB of it.
const STACK: usize = 256 * 1024;
/// The whole handshake, however its bytes drip in.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte for so long (keep-alives come every two minutes) the peer is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(180);

/// What was received of an incoming connection before it was clear which torrent it is for.
#[derive(Debug)]
pub struct Greeting {
    /// The plain form of its handshake, at least as far as the info-hash, and the ciphers for what follows.
    pub rest: Rest,
}

/// Who connected, with what has been read of an incoming connection; or a connection of the metadata stage that goes on.
enum Caller {
    Us { opening: Opening, patience: Duration },
    Them(Option<Box<Greeting>>),
    Known(Box<Met>),
}

/// The reader's thread; where the connection is not over, it gives back what there is to go on with.
type Thread = JoinHandle<Option<Box<Met>>>;

/// The session's end of a connection.
pub struct Connection {
    /// The other end.
    pub addr: SocketAddr,
    stream: Arc<TcpStream>,
    /// Whether anything has come from the other end.
    heard: Arc<AtomicBool>,
    /// Whether we have closed it; what it has sent and was not read is then left unread.
    dismissed: Arc<AtomicBool>,
    thread: Option<Thread>,
    /// What the metadata stage's reader left for [`Connection::go_on`].
    kept: Option<Box<Met>>,
}

impl Connection {
    /// Calls `addr` on a thread of its own, beginning with `opening`; what comes of it is reported under `key`. The system gets
    /// `patience` to connect.
    ///
    /// # Errors
    /// Where no socket or thread is to be had.
    pub fn dial(
        shared: &Arc<Shared>,
        key: PeerKey,
        addr: SocketAddr,
        opening: Opening,
        patience: Duration,
    ) -> io::Result<Connection> {
        let socket = shared.bind.caller(addr)?;
        Connection::spawn(shared, key, addr, socket.into(), Caller::Us { opening, patience })
    }

    /// Serves a caller on a thread of its own; `heard` is its handshake, where that has been read.
    ///
    /// # Errors
    /// Where no thread is to be had.
    pub fn accept(
        shared: &Arc<Shared>,
        key: PeerKey,
        stream: TcpStream,
        addr: SocketAddr,
        heard: Option<Box<Greeting>>,
    ) -> io::Result<Connection> {
        Connection::spawn(shared, key, addr, stream, Caller::Them(heard))
    }

    fn spawn(
        shared: &Arc<Shared>,
        key: PeerKey,
        addr: SocketAddr,
        stream: TcpStream,
        caller: Caller,
    ) -> io::Result<Connection> {
        let (stream, heard, dismissed) = (Arc::new(stream), Arc::default(), Arc::default());
        let mut connection = Connection { addr, stream, heard, dismissed, thread: None, kept: None };
        connection.start(shared, key, caller)?;
        Ok(connection)
    }

    /// Starts the reader's thread.
    fn start(&mut self, shared: &Arc<Shared>, key: PeerKey, caller: Caller) -> io::Result<()> {
        let (shared, addr) = (shared.clone(), self.addr);
        let (stream, noted, dismissed) = (self.stream.clone(), self.heard.clone(), self.dismissed.clone());
        let thread = Builder::new().name(format!("read {key:?}")).stack_size(STACK).spawn(move || {
            let life = AssertUnwindSafe(|| live(&shared, key, addr, &stream, &noted, dismissed, caller));
            let why = match catch_unwind(life).unwrap_or(Err(Gone::Bug)) {
                Ok(met) => return Some(met),
                Err(gone) => gone,
            };
            let _ = stream.shutdown(Shutdown::Both);
            shared.report(Report::Gone { key, addr, why });
            None
        })?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Joins the threads, which have ended; whether the connection is not over, so that it can go on.
    pub fn is_kept(&mut self) -> bool {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            self.kept = thread.join().unwrap_or_default();
        }
        self.kept.is_some()
    }

    /// Goes on with a connection that was kept.
    ///
    /// # Errors
    /// Where no thread is to be had.
    pub fn go_on(&mut self, shared: &Arc<Shared>, key: PeerKey) -> io::Result<()> {
        self.kept.take().map_or(Ok(()), |met| self.start(shared, key, Caller::Known(met)))
    }

    /// Whether anything has come from the other end.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ends the connection, also one that is still being made.
    pub fn close(&self) {
        self.dismissed.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits for the connection's threads; they are done once it was reported gone, or soon after `close`.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("{}: the connection's thread panicked", self.addr);
        }
    }

    /// Whether `join` would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(Thread::is_finished)
    }
}

/// The life of one connection; the reason for its end, or what the download goes on with.
fn live(
    shared: &Arc<Shared>,
    key: PeerKey,
    addr: SocketAddr,
    stream: &Arc<TcpStream>,
    heard: &AtomicBool,
    dismissed: Arc<AtomicBool>,
    caller: Caller,
) -> Result<Box<Met>, Gone> {
    let met = match caller {
        Caller::Known(met) => *met,
        caller => {
            let incoming = matches!(caller, Caller::Them(_));
            let (theirs, rest) = meet(shared, addr, stream, heard, caller)?;
            Met { theirs, incoming, rest, before: None }
        }
    };
    talk(shared, key, addr, stream, dismissed, met)
}

/// Connects where we are the caller, and exchanges handshakes.
fn meet(
    shared: &Shared,
    addr: SocketAddr,
    stream: &TcpStream,
    heard: &AtomicBool,
    caller: Caller,
) -> Result<(Handshake, Rest), Gone> {
    if shared.is_stopping() {
        return Err(Gone::Closed);
    }
    let incoming = matches!(caller, Caller::Them(_));
    bind::mark(stream, shared.dscp);
    if let Caller::Us { patience, .. } = caller {
        let connected = SockRef::from(stream).connect_timeout(&addr.into(), patience);
        connected.map_err(|e| Gone::Unreachable(reason(&e)))?;
    }
    stream.set_nodelay(true).map_err(|e| Gone::io(&e))?;
    let dht = shared.dht_port.load(Ordering::Acquire) != 0;
    let ours = Handshake::ours(shared.info_hash, shared.peer_id, dht);
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let mut line = Line::new(stream, deadline, heard);
    match caller {
        Caller::Us { opening, .. } => line.open(opening, shared.encryption, &ours).map_err(unanswered)?,
        Caller::Them(None) => line.answer(shared.encryption, shared.info_hash)?,
        Caller::Them(Some(greeting)) => line = Line::resume(stream, deadline, heard, greeting.rest),
        Caller::Known(_) => {} // it never comes here: `live` takes it
    }
    let swarm = if incoming { line.hear_swarm() } else { line.hear_swarm().map_err(unanswered) }?;
    if swarm != shared.info_hash {
        return Err(Gone::Handshake("another torrent"));
    }
    if incoming {
        line.say(&ours.encode())?; // also to ourselves: the side that called must learn whom it called
    }
    let theirs = if incoming { line.hear() } else { line.hear().map_err(unanswered) }?;
    if theirs.peer_id == shared.peer_id {
        return Err(Gone::Ourselves);
    }
    let rest = line.finish();
    let prepared = stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.set_write_timeout(Some(STALL)));
    prepared.map_err(|e| Gone::io(&e))?;
    Ok((theirs, rest))
}

/// Who is silent or hangs up while we wait for its handshake may like another opening better.
fn unanswered(gone: Gone) -> Gone {
    if matches!(gone, Gone::Closed | Gone::Silent | Gone::Lost(_)) { Gone::Unanswered } else { gone }
}

/// From the handshake to the end: enters the peer, runs the three threads, takes it out again. Where it was not the connection that
/// ended but the metadata stage, gives back what there is to go on with.
fn talk(
    shared: &Arc<Shared>,
    key: PeerKey,
    addr: SocketAddr,
    stream: &Arc<TcpStream>,
    dismissed: Arc<AtomicBool>,
    met: Met,
) -> Result<Box<Met>, Gone> {
    let Met { theirs, incoming, rest, before } = met;
    let (outbox, inbox) = outbox();
    let mut peer = Peer::new(key, addr, incoming, &theirs, shared.now(), stream.clone(), outbox);
    let was_kept = before.is_some();
    if let Some(before) = before {
        peer = peer.with_known(&before);
    }
    peer.dismissed = dismissed;
    peer.encrypted = AtomicBool::new(rest.ciphers.is_some());
    let peer = Arc::new(peer);
    match shared.roster.admit(&peer, shared.peer_id, shared.now()) {
        Admission::Admitted => {}
        Admission::Replaces(older) => older.close(),
        Admission::Duplicate(stays) => return Err(Gone::Duplicate(stays)),
    }
    let _entered = Entered { shared, key };
    // On the roster first: a piece that is settled from here on reaches this peer as a HAVE or in this bitfield.
    let have = shared.pieces.join(key).filter(|_| !shared.revealing().is_some_and(|reveal| reveal.join(shared, key)));
    shared.report(Report::Ready { key, addr, incoming });
    let opening = opening(shared, &peer, have.as_deref(), was_kept);
    let rest = run_threads(shared, &peer, stream, rest, &inbox, opening)?;
    Ok(Box::new(Met { theirs, incoming, rest, before: Some(peer) }))
}

/// Runs the three threads, this one as the reader. Where it was not the connection that ended, gives back what has come and is not
/// read yet, and the ciphers for what follows.
fn run_threads(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    stream: &Arc<TcpStream>,
    rest: Rest,
    inbox: &Inbox,
    opening: Vec<u8>,
) -> Result<Rest, Gone> {
    let (sending, receiving) = rest.ciphers.map_or((None, None), |both| (Some(both.sending), Some(both.receiving)));
    let thread = |name: &str| Builder::new().name(format!("{name} {:?}", peer.key)).stack_size(STACK);
    std::thread::scope(|scope| {
        let mut ending = Ending { peer, keeps: false };
        let writer = thread("write").spawn_scoped(scope, move || {
            let mut closing = Closing { peer, keeps: false };
            let mut writer = Writer::new(shared, peer, stream, sending);
            let ended = writer.run(inbox, opening);
            closing.keeps = matches!(ended, Ok(Ended::Parked));
            if let Err(error) = &ended {
                log::debug!("{}: {error}", peer.addr);
            }
            closing.keeps.then(|| writer.into_cipher())
        });
        let writer = writer.map_err(|error| Gone::NoThread(reason(&error)))?;
        let watch = || -> io::Result<()> {
            thread("time").spawn_scoped(scope, move || {
                let _closing = Closing { peer, keeps: false };
                deadline::watch(shared, peer);
            })?;
            Ok(())
        };
        // A session that stops closes those on the roster; who came after that look goes by itself.
        if shared.is_stopping() {
            return Err(Gone::Closed);
        }
        let mut reader = Reader::new(shared, peer, stream, rest.early, receiving, &watch);
        let why = reader.run();
        if peer.has_overrun() {
            return Err(Gone::Overrun);
        }
        let Some((early, receiving)) = Some(reader).filter(|_| why == Gone::Kept).and_then(Reader::into_rest) else {
            return Err(why);
        };
        peer.send(Out::Park);
        let sending = writer.join().ok().flatten().ok_or(why)?;
        ending.keeps = true;
        let ciphers = sending.zip(receiving).map(|(sending, receiving)| Ciphers { sending, receiving });
        Ok(Rest { early, ciphers })
    })
}

/// Takes a peer off the lists when its connection ends, by whichever way.
struct Entered<'a> {
    shared: &'a Shared,
    key: PeerKey,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.shared.roster.remove(self.key);
        self.shared.throttle.leave(self.key);
        self.shared.pieces.leave(self.key);
        if let Some(reveal) = self.shared.revealing() {
            reveal.leave(self.shared, self.key);
        }
        feed_the_hungry(self.shared);
    }
}

/// Without its writer or its deadline thread a connection is no good: the socket is shut when one ends, by whichever way.
struct Closing<'a> {
    peer: &'a Peer,
    /// The connection outlasts the thread.
    keeps: bool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if !self.keeps {
            self.peer.hang_up();
        }
    }
}

/// Ends a connection's other two threads when the reader ends, by whichever way.
struct Ending<'a> {
    peer: &'a Peer,
    /// The connection outlasts them.
    keeps: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.keeps {
            self.peer.close();
        }
        self.peer.end();
        self.peer.send(Out::End);
    }
}
