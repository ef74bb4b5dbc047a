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

use super::encryption::{Line, Rest};
use super::outbox::{Out, outbox};
use super::reader::Reader;
use super::roster::Admission;
use super::state::{Peer, feed_the_hungry};
use super::writer::Writer;
use super::{Report, Shared, deadline};
use crate::bind;
use crate::reason::reason;
use crate::types::{Bitfield, Opening, PeerKey};
use crate::wire::extension::HANDSHAKE_ID;
use crate::wire::handshake::Handshake;
use crate::wire::mse::MseError;
use crate::wire::{WireError, message};

/// The stack of a connection's threads. Blocked threads touch a few KiB of it.
const STACK: usize = 256 * 1024;
/// The whole handshake, however its bytes drip in.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte for so long (keep-alives come every two minutes) the peer is taken for dead.
const SILENCE: Duration = Duration::from_secs(180);
/// A write that the peer does not take for so long ends the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// It could not be made.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The other end closed it.
    #[error("closed by the peer")]
    Closed,
    /// Nothing came for too long.
    #[error("silent for too long")]
    Silent,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No handshake of this protocol and swarm came.
    #[error("handshake failed: {0}")]
    Handshake(&'static str),
    /// The encrypted handshake went wrong.
    #[error("encrypted handshake failed: {0}")]
    Encryption(#[from] MseError),
    /// We called, and no handshake came back.
    #[error("hung up or silent during the handshake")]
    Unanswered,
    /// We called ourselves.
    #[error("that is ourselves")]
    Ourselves,
    /// There is a connection to this peer already: this one.
    #[error("already connected to this peer")]
    Duplicate(PeerKey),
    /// Its bytes make no sense.
    #[error("not understood: {0}")]
    Wire(#[from] WireError),
    /// It does not keep to the protocol.
    #[error("broke the protocol: {0}")]
    Broke(&'static str),
    /// Far too many messages without use.
    #[error("flooded us with useless messages")]
    Flood,
    /// The peer made us answer and did not read, so its queue filled up.
    #[error("did not read what we sent")]
    Overrun,
    /// Neither side needs anything.
    #[error("neither side needs anything")]
    BothWhole,
    /// We cannot write or read our files.
    #[error("our disk failed")]
    Disk,
    /// A thread could not be started.
    #[error("no thread to be had: {0}")]
    NoThread(String),
    /// A thread of the connection panicked; it costs this connection only.
    #[error("a fault of ours")]
    Bug,
}

impl Gone {
    /// What a failed read or write says of the connection.
    pub fn io(error: &io::Error) -> Gone {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Gone::Silent,
            io::ErrorKind::UnexpectedEof => Gone::Closed,
            _ => Gone::Lost(reason(error)),
        }
    }

    /// Whether the peer misbehaved, so that it is not to be called again.
    pub fn is_offence(&self) -> bool {
        matches!(self, Gone::Wire(_) | Gone::Broke(_) | Gone::Flood | Gone::Handshake(_) | Gone::Encryption(_))
    }
}

/// What was received of an incoming connection before it was clear which torrent it is for.
#[derive(Debug)]
pub struct Greeting {
    /// The plain form of its handshake, at least as far as the info-hash, and the ciphers for what follows.
    pub rest: Rest,
}

/// Who called, and what of a caller has been heard already.
enum Caller {
    Us { opening: Opening, patience: Duration },
    Them(Option<Box<Greeting>>),
}

/// The session's end of a connection.
pub struct Connection {
    /// The other end.
    pub addr: SocketAddr,
    stream: Arc<TcpStream>,
    /// Whether anything has come from the other end.
    heard: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        let stream = Arc::new(stream);
        let (ours, heard) = (stream.clone(), Arc::new(AtomicBool::new(false)));
        let (shared, noted) = (shared.clone(), heard.clone());
        let thread = Builder::new().name(format!("read {key:?}")).stack_size(STACK).spawn(move || {
            let life = AssertUnwindSafe(|| live(&shared, key, addr, &stream, &noted, caller));
            let why = catch_unwind(life).unwrap_or(Gone::Bug);
            let _ = stream.shutdown(Shutdown::Both);
            shared.report(Report::Gone { key, addr, why });
        })?;
        Ok(Connection { addr, stream: ours, heard, thread: Some(thread) })
    }

    /// Whether anything has come from the other end.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ends the connection, also one that is still being made.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Says that nothing more comes from us; the other end hangs up in turn, and the connection is over.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
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
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// The life of one connection; the reason for its end.
fn live(
    shared: &Arc<Shared>,
    key: PeerKey,
    addr: SocketAddr,
    stream: &Arc<TcpStream>,
    heard: &AtomicBool,
    caller: Caller,
) -> Gone {
    let incoming = matches!(caller, Caller::Them(_));
    match meet(shared, addr, stream, heard, caller) {
        Ok((theirs, rest)) => talk(shared, key, addr, stream, incoming, &theirs, rest),
        Err(gone) => gone,
    }
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
    let prepared = stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)));
    prepared.map_err(|e| Gone::io(&e))?;
    Ok((theirs, rest))
}

/// Who is silent or hangs up while we wait for its handshake may like another opening better.
fn unanswered(gone: Gone) -> Gone {
    if matches!(gone, Gone::Closed | Gone::Silent | Gone::Lost(_)) { Gone::Unanswered } else { gone }
}

/// From the handshake to the end: enters the peer, runs the three threads, takes it out again.
fn talk(
    shared: &Arc<Shared>,
    key: PeerKey,
    addr: SocketAddr,
    stream: &Arc<TcpStream>,
    incoming: bool,
    theirs: &Handshake,
    rest: Rest,
) -> Gone {
    let (sending, receiving) = rest.ciphers.map_or((None, None), |both| (Some(both.sending), Some(both.receiving)));
    let (outbox, inbox) = outbox();
    let peer = Arc::new(Peer::new(key, addr, incoming, theirs, shared.now(), stream.clone(), outbox));
    peer.encrypted.store(sending.is_some(), Ordering::Relaxed);
    match shared.roster.admit(&peer, shared.peer_id, shared.now()) {
        Admission::Admitted => {}
        Admission::Replaces(older) => older.close(),
        Admission::Duplicate(stays) => return Gone::Duplicate(stays),
    }
    let _entered = Entered { shared, key };
    // On the roster first: a piece that is settled from here on reaches this peer as a HAVE or in this bitfield.
    let have = shared.pieces.join(key).filter(|_| !shared.revealing().is_some_and(|reveal| reveal.join(shared, key)));
    shared.report(Report::Ready { key, addr, incoming });
    let opening = opening(shared, &peer, have.as_deref());

    std::thread::scope(|scope| {
        let _ending = Ending(&peer);
        let write = || -> io::Result<()> {
            let writes = peer.clone();
            Builder::new().name(format!("write {key:?}")).stack_size(STACK).spawn_scoped(scope, move || {
                let _closing = Closing(&writes);
                if let Err(error) = Writer::new(shared, &writes, stream, sending).run(&inbox, opening) {
                    log::debug!("{addr}: {error}");
                }
            })?;
            Ok(())
        };
        let watch = || -> io::Result<()> {
            let watches = peer.clone();
            Builder::new().name(format!("time {key:?}")).stack_size(STACK).spawn_scoped(scope, move || {
                let _closing = Closing(&watches);
                deadline::watch(shared, &watches);
            })?;
            Ok(())
        };
        match write() {
            // A session that stops closes those on the roster; who came after that look goes by itself.
            Ok(()) if shared.is_stopping() => Gone::Closed,
            Ok(()) => {
                let why = Reader::new(shared, &peer, stream, rest.early, receiving, &watch).run();
                if peer.has_overrun() { Gone::Overrun } else { why }
            }
            Err(error) => Gone::NoThread(reason(&error)),
        }
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
struct Closing<'a>(&'a Peer);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends a connection's other two threads home when the reader ends, by whichever way.
struct Ending<'a>(&'a Peer);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.end();
        self.0.send(Out::End);
    }
}

/// What follows our handshake in the same breath: what we have, and the extension handshake (BEP 10).
fn opening(shared: &Shared, peer: &Peer, have: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let have = have.filter(|_| !shared.wants_info); // nobody knows what there is to have
    let bits = have.and_then(|have| Bitfield::from_wire(have, shared.pieces.count()));
    let whole = bits.as_ref().is_some_and(Bitfield::is_full);
    match &bits {
        Some(bits) if !peer.fast || !whole => message::bitfield(&mut bytes, bits.as_bytes()),
        None if !peer.fast => {}
        _ => message::have_all_or_none(&mut bytes, whole), // a fast peer is always told (BEP 6)
    }
    if peer.extended {
        message::extended(&mut bytes, HANDSHAKE_ID, &peer.ours(shared));
    }
    match shared.dht_port.load(Ordering::Acquire) {
        0 => {}
        port if peer.dht => message::port(&mut bytes, port),
        _ => {}
    }
    bytes
}
