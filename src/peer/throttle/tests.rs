//! Readers and writers under limits so low that only a change lets them go on. Real sockets and the real clock, but no result
//! depends on how long anything takes.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::*;
use crate::peer::ContextSettings;
use crate::peer::outbox::outbox;
use crate::pieces::PieceManager;
use crate::storage::{FileSpec, Layout, Storage};
use crate::strategy::rate_limiter::FlowId;
use crate::types::{BLOCK_SIZE, Bitfield, PeerId};
use crate::wire::handshake::Handshake;

const PATIENCE: Duration = Duration::from_secs(60);
const A_BYTE: Limits = Limits { down: 1, up: 1 };
/// More than a peer is granted within these tests at one byte a second.
const SENT: usize = 4000;

/// One connection and the shared context.
struct ThrottleFixture {
    context: Arc<TorrentContext>,
    peer: Arc<Peer>,
    theirs: TcpStream,
    /// The result of a reader on its own thread.
    got: Receiver<io::Result<usize>>,
}

/// A reader that waits for its turn.
fn reading(limits: Limits) -> ThrottleFixture {
    let file = FileSpec { path: "x".into(), length: u64::from(BLOCK_SIZE), is_pad: false };
    let layout = Layout::new(BLOCK_SIZE, vec![file]).expect("a layout");
    let storage = Arc::new(Storage::new("nowhere".into(), layout, 4)); // never opened
    let pieces = PieceManager::new(storage, vec![[0; 20]], Bitfield::new(1));
    let (events, _) = unbounded();
    let throttle = TorrentThrottle::new(Arc::new(Throttle::new(limits)));
    let terms = ContextSettings { throttle: Arc::new(throttle), ..ContextSettings::unconnected() };
    let context = TorrentContext::new(terms, pieces, events);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut theirs = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let ours = Arc::new(PeerStream::from(listener.accept().expect("a connection").0));
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let (outbox, _) = outbox();
    let theirs_said = Handshake::ours(context.settings.info_hash, PeerId([1; 20]), false);
    let peer = Peer::new(PeerKey(1), addr, true, &theirs_said, Duration::ZERO, ours.clone(), outbox);
    let peer = Arc::new(peer);
    theirs.write_all(&[7; SENT]).expect("room in the socket");
    let (result_sender, got) = bounded(1);
    let (for_thread, reader) = (context.clone(), peer.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; 2 * SENT];
        let _ = result_sender.send(read(&for_thread, &reader, &ours, &mut buffer));
    });
    ThrottleFixture { context, peer, theirs, got }
}

impl ThrottleFixture {
    fn outcome(&self) -> usize {
        self.got.recv_timeout(PATIENCE).expect("the reader still waits").expect("no error")
    }
}

#[test]
fn a_reader_without_a_limit_reads() {
    assert!(reading(Limits { down: 0, up: 1 }).outcome() > 0);
}

#[test]
fn a_reader_that_waits_goes_on_when_the_limit_is_lifted() {
    let scene = reading(A_BYTE);
    assert!(scene.got.try_recv().is_err(), "so many bytes at a byte a second");
    scene.context.settings.throttle.client.limit_group().set(Limits::default());
    assert!(scene.outcome() > 0);
    drop(scene.theirs);
}

#[test]
fn a_reader_that_waits_ends_when_the_connection_is_closed() {
    let scene = reading(A_BYTE);
    scene.peer.close();
    assert_eq!(scene.outcome(), 0, "the bytes in the socket would keep it for an hour");
}

#[test]
fn a_reader_that_waits_ends_with_the_torrent() {
    let scene = reading(A_BYTE);
    scene.context.end_connections();
    assert_eq!(scene.outcome(), 0);
}

#[test]
fn a_writer_collects_grants_for_a_block_and_goes_on_when_the_limit_is_lifted() {
    let (throttle, mut allowance) = (TorrentThrottle::default(), UploadAllowance::default());
    let client = throttle.client.clone();
    let flow = FlowId::new(PeerKey(1), [192, 0, 2, 1].into());
    let demand = Demand { flow, direction: Direction::Up, serves_choked_peer: false };
    let (block, started) = (u64::from(BLOCK_SIZE), Instant::now());
    assert_eq!(allowance.take(&throttle, demand, block, || panic!("needless")), u64::MAX);
    client.limit_group().set(A_BYTE);
    assert_eq!(allowance.take(&throttle, demand, block, || block), 0);
    assert!(allowance.pending_deadline(|| started).is_some());
    client.limit_group().set(Limits::default());
    assert_eq!(allowance.take(&throttle, demand, block, || block), u64::MAX);
    assert!(allowance.pending_deadline(|| started).is_none());

    // At this rate, the limiter's portions are smaller than a block.
    client.limit_group().set(Limits { down: 0, up: 256 * 1024 });
    let granted = loop {
        match allowance.take(&throttle, demand, block, || 3 * block) {
            0 => thread::yield_now(),
            granted => break granted,
        }
    };
    assert!((block..=3 * block).contains(&granted), "{granted}");
    allowance.spend(granted);
    assert_eq!(allowance.granted, LevelGrants::default());
}
