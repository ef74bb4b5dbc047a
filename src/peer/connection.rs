//! A connection from start to end: dial or accept, do the handshake, start the other two threads, read, join them.
//!
//! Whichever of the three threads fails first shuts the socket down. The reader then ends, stops the writer and the deadline
//! thread, joins them, takes the peer off the roster and reports the end. Main owns and joins the reader's thread.

mod dial;
mod handshake;
mod sockets;

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::mse::Ciphers;
pub use crate::peer::disconnect_reason::DisconnectReason;
use crate::peer::encryption::StreamState;
use crate::peer::established::{EstablishedConnection, first_messages};
use crate::peer::outbox::{Inbox, WriterCommand, outbox};
use crate::peer::reader::Reader;
use crate::peer::roster::{Admission, refill_idle_peers};
use crate::peer::state::Peer;
use crate::peer::writer::{Writer, WriterExit};
use crate::peer::{IncomingHandshake, PeerEvent, TorrentContext, deadline};
use crate::types::PeerKey;
use crate::udp::PeerStream;
use crate::util::atomics::Flag;
use crate::util::os_error::reason;
use dial::TcpDial;
pub use dial::{DialPlan, DialTransports};
pub use handshake::HANDSHAKE_TIMEOUT;
use handshake::{HandshakeStart, shake_hands};
use sockets::ConnectionSockets;

/// The stack size of a connection's threads. Blocked threads touch a few KiB of it.
const STACK: usize = 256 * 1024;
/// Where a connection comes from: dialled, accepted (with the bytes read so far), or continued from the metadata phase.
enum ConnectionOrigin {
    Outgoing { plan: DialPlan, tcp: Option<TcpDial> },
    Incoming(Option<Box<IncomingHandshake>>),
    Established(Box<EstablishedConnection>),
}

/// The reader's thread; returns the established connection if it outlives the thread.
type Thread = JoinHandle<Option<Box<EstablishedConnection>>>;

/// The torrent's handle of a connection.
pub struct Connection {
    /// The peer's address.
    pub addr: SocketAddr,
    sockets: Arc<ConnectionSockets>,
    /// Whether the peer has sent any byte.
    has_received: Arc<Flag>,
    /// Whether we have closed the connection; bytes received but not read yet are then ignored.
    discards_input: Arc<Flag>,
    thread: Option<Thread>,
    /// The connection that the metadata phase's reader left for [`Connection::continue_kept`].
    kept: Option<Box<EstablishedConnection>>,
}

impl Connection {
    /// Dials `addr` on a new thread; the outcome is reported under `key`.
    ///
    /// # Errors
    /// If no socket or thread can be created.
    pub fn dial(
        context: &Arc<TorrentContext>,
        key: PeerKey,
        addr: SocketAddr,
        plan: DialPlan,
    ) -> io::Result<Connection> {
        let sockets = Arc::default();
        let open_socket = || dial::open_socket(&context.settings.route, addr, &sockets);
        let tcp = plan.transports.uses_tcp.then(open_socket).transpose()?;
        Connection::spawn(context, key, addr, sockets, ConnectionOrigin::Outgoing { plan, tcp })
    }

    /// Serves an incoming connection on a new thread; `early_handshake` is its handshake, if that has been read already.
    ///
    /// # Errors
    /// If no thread can be created.
    pub fn accept(
        context: &Arc<TorrentContext>,
        key: PeerKey,
        stream: PeerStream,
        addr: SocketAddr,
        early_handshake: Option<Box<IncomingHandshake>>,
    ) -> io::Result<Connection> {
        let sockets = Arc::<ConnectionSockets>::default();
        sockets.add(stream);
        Connection::spawn(context, key, addr, sockets, ConnectionOrigin::Incoming(early_handshake))
    }

    fn spawn(
        context: &Arc<TorrentContext>,
        key: PeerKey,
        addr: SocketAddr,
        sockets: Arc<ConnectionSockets>,
        origin: ConnectionOrigin,
    ) -> io::Result<Connection> {
        let (has_received, discards_input) = (Arc::default(), Arc::default());
        let mut connection = Connection { addr, sockets, has_received, discards_input, thread: None, kept: None };
        connection.start(context, key, origin)?;
        Ok(connection)
    }

    /// Starts the reader's thread.
    fn start(&mut self, context: &Arc<TorrentContext>, key: PeerKey, origin: ConnectionOrigin) -> io::Result<()> {
        let (context, addr) = (context.clone(), self.addr);
        let (sockets, noted, discards_input) =
            (self.sockets.clone(), self.has_received.clone(), self.discards_input.clone());
        let thread = Builder::new().name(format!("read {key:?}")).stack_size(STACK).spawn(move || {
            let life =
                AssertUnwindSafe(|| run_connection(&context, key, addr, &sockets, &noted, discards_input, origin));
            let why = match catch_unwind(life).unwrap_or(Err(DisconnectReason::Bug)) {
                Ok(established) => return Some(established),
                Err(reason) => reason,
            };
            sockets.close();
            context.send_to_main(PeerEvent::Disconnected { key, addr, why });
            None
        })?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Joins the thread if it has ended. Returns whether the connection is still open and can continue.
    pub fn join_if_ended(&mut self) -> bool {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            self.kept = thread.join().unwrap_or_default();
        }
        self.kept.is_some()
    }

    /// Continues a connection that was kept.
    ///
    /// # Errors
    /// If no thread can be created.
    pub fn continue_kept(&mut self, context: &Arc<TorrentContext>, key: PeerKey) -> io::Result<()> {
        self.kept
            .take()
            .map_or(Ok(()), |established| self.start(context, key, ConnectionOrigin::Established(established)))
    }

    /// Whether the peer has sent any byte.
    pub fn has_received(&self) -> bool {
        self.has_received.is_set()
    }

    /// Ends the connection, even while it is being established.
    pub fn close(&self) {
        self.discards_input.set(true);
        self.sockets.close();
    }

    /// Waits for the connection's threads. They have ended once the end was reported, or end soon after `close`.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("{}: the connection's thread panicked", self.addr);
        }
    }

    /// Whether `join` would return at once.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(Thread::is_finished)
    }
}

/// Runs one connection. Returns the reason for its end, or the established connection with which the download continues.
fn run_connection(
    context: &Arc<TorrentContext>,
    key: PeerKey,
    addr: SocketAddr,
    sockets: &ConnectionSockets,
    has_received: &Flag,
    discards_input: Arc<Flag>,
    origin: ConnectionOrigin,
) -> Result<Box<EstablishedConnection>, DisconnectReason> {
    if context.are_connections_ending() {
        return Err(DisconnectReason::ClosedByUs);
    }
    let (stream, handshake) = match origin {
        ConnectionOrigin::Outgoing { plan, tcp } => {
            let stream = dial::connect(&context.settings, addr, tcp, &plan, sockets, &discards_input)?;
            (stream, HandshakeStart::Outgoing(plan.mode))
        }
        ConnectionOrigin::Incoming(early) => (only_stream(sockets)?, HandshakeStart::Incoming(early)),
        ConnectionOrigin::Established(established) => {
            let stream = only_stream(sockets)?;
            return exchange_messages(context, key, addr, &stream, discards_input, *established);
        }
    };
    let is_incoming = matches!(handshake, HandshakeStart::Incoming(_));
    let (peer_handshake, stream_state) = shake_hands(context, &stream, has_received, handshake)?;
    let established = EstablishedConnection { peer_handshake, is_incoming, stream_state, metadata_peer: None };
    exchange_messages(context, key, addr, &stream, discards_input, established)
}

/// The socket of a connection that is open.
fn only_stream(sockets: &ConnectionSockets) -> Result<Arc<PeerStream>, DisconnectReason> {
    sockets.first().ok_or(DisconnectReason::Bug)
}

/// From the handshake to the end: adds the peer, runs the three threads, removes the peer. If only the metadata phase ended,
/// returns the connection to continue with.
fn exchange_messages(
    context: &Arc<TorrentContext>,
    key: PeerKey,
    addr: SocketAddr,
    stream: &Arc<PeerStream>,
    discards_input: Arc<Flag>,
    established: EstablishedConnection,
) -> Result<Box<EstablishedConnection>, DisconnectReason> {
    let EstablishedConnection { peer_handshake, is_incoming, stream_state, metadata_peer } = established;
    let (outbox, inbox) = outbox();
    let mut peer = Peer::new(key, addr, is_incoming, &peer_handshake, context.now(), stream.clone(), outbox);
    let was_kept = metadata_peer.is_some();
    if let Some(metadata_peer) = metadata_peer {
        peer = peer.with_state_of(&metadata_peer);
    }
    peer.lifecycle.discards_input = discards_input;
    peer.encrypted = Flag::new(stream_state.ciphers.is_some());
    let peer = Arc::new(peer);
    match context.roster.admit(&peer, context.settings.peer_id) {
        Admission::Admitted => {}
        Admission::Replaces(older) => older.close(),
        Admission::Duplicate(stays) => return Err(DisconnectReason::Duplicate(stays)),
    }
    let _entered = LeaveOnDrop { context, key };
    // On the roster first: a piece that is verified from here on reaches this peer either as a HAVE or in this bitfield.
    let have = context
        .pieces
        .add_peer(key)
        .filter(|_| !context.active_super_seed().is_some_and(|super_seeding| super_seeding.join(context, key)));
    context.send_to_main(PeerEvent::Connected { key, addr, is_incoming });
    let first_messages = first_messages(context, &peer, have.as_deref(), was_kept);
    let stream_state = run_threads(context, &peer, stream, stream_state, &inbox, first_messages)?;
    Ok(Box::new(EstablishedConnection { peer_handshake, is_incoming, stream_state, metadata_peer: Some(peer) }))
}

/// Runs the three threads, with the current one as the reader. If the connection itself did not end, returns the received bytes
/// that have not been parsed, and the ciphers for what follows.
fn run_threads(
    context: &Arc<TorrentContext>,
    peer: &Arc<Peer>,
    stream: &Arc<PeerStream>,
    stream_state: StreamState,
    inbox: &Inbox,
    first_messages: Vec<u8>,
) -> Result<StreamState, DisconnectReason> {
    let (sending, receiving) =
        stream_state.ciphers.map_or((None, None), |both| (Some(both.sending), Some(both.receiving)));
    let thread = |name: &str| Builder::new().name(format!("{name} {:?}", peer.key)).stack_size(STACK);
    std::thread::scope(|scope| {
        let mut ending = EndOnDrop { peer, keeps_open: false };
        let writer = thread("write").spawn_scoped(scope, move || {
            let mut closing = ShutdownOnDrop { peer, keeps_open: false };
            let mut writer = Writer::new(context, peer, stream, sending);
            let ended = writer.run(inbox, first_messages);
            closing.keeps_open = matches!(ended, Ok(WriterExit::Detached));
            if let Err(error) = &ended {
                log::debug!("{}: {error}", peer.addr);
            }
            closing.keeps_open.then(|| writer.into_cipher())
        });
        let writer = writer.map_err(|error| DisconnectReason::NoThread(reason(&error)))?;
        let start_deadline_thread = || -> io::Result<()> {
            thread("time").spawn_scoped(scope, move || {
                let _closing = ShutdownOnDrop { peer, keeps_open: false };
                deadline::watch_deadlines(context, peer);
            })?;
            Ok(())
        };
        // A stopping torrent closes the connections on its roster; one that was added after that ends here.
        if context.are_connections_ending() {
            return Err(DisconnectReason::ClosedByUs);
        }
        let mut reader = Reader::new(context, peer, stream, stream_state.unparsed, receiving, &start_deadline_thread);
        let why = reader.run();
        if peer.has_overrun() {
            return Err(DisconnectReason::QueueOverrun);
        }
        let Some((unparsed, receiving)) =
            Some(reader).filter(|_| why == DisconnectReason::Kept).and_then(Reader::into_rest)
        else {
            return Err(why);
        };
        peer.send(WriterCommand::Detach);
        let sending = writer.join().ok().flatten().ok_or(why)?;
        ending.keeps_open = true;
        let ciphers = sending.zip(receiving).map(|(sending, receiving)| Ciphers { sending, receiving });
        Ok(StreamState { unparsed, ciphers })
    })
}

/// Removes a peer everywhere when its connection ends, in whatever way.
struct LeaveOnDrop<'a> {
    context: &'a TorrentContext,
    key: PeerKey,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        self.context.roster.remove(self.key);
        self.context.settings.throttle.remove_peer(self.key);
        self.context.pieces.remove_peer(self.key);
        if let Some(super_seeding) = self.context.active_super_seed() {
            super_seeding.leave(self.context, self.key);
        }
        refill_idle_peers(self.context);
    }
}

/// Shuts down the socket when the writer or the deadline thread ends, in whatever way: a connection needs both.
struct ShutdownOnDrop<'a> {
    peer: &'a Peer,
    /// Whether the connection outlives the thread.
    keeps_open: bool,
}

impl Drop for ShutdownOnDrop<'_> {
    fn drop(&mut self) {
        if !self.keeps_open {
            self.peer.shut_socket();
        }
    }
}

/// Ends the other two threads of a connection when its reader ends, in whatever way.
struct EndOnDrop<'a> {
    peer: &'a Peer,
    /// Whether the connection outlives the threads.
    keeps_open: bool,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if !self.keeps_open {
            self.peer.close();
        }
        self.peer.end();
        self.peer.send(WriterCommand::End);
    }
}
