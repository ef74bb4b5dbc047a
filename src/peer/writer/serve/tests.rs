//! A writer whose peer reads nothing until the writer has given up its slab. Real sockets; no result depends on how long
//! anything takes.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::peer::ContextSettings;
use crate::peer::outbox::{WriterCommand, outbox};
use crate::peer::socket_write::WRITE_BLOCKED_AFTER;
use crate::peer::state::Peer;
use crate::peer::throttle::UPLOAD_SLABS;
use crate::peer::writer::WriterExit;
use crate::pieces::PieceManager;
use crate::storage::{FileSpec, Layout, Storage};
use crate::types::{Bitfield, PeerId, PeerKey, PieceIndex};
use crate::udp::PeerStream;
use crate::wire::handshake::Handshake;
use crate::wire::message::MAX_REQUEST;

const PATIENCE: Duration = Duration::from_secs(60);
const BLOCKS: u32 = 4;
const SIZE: u32 = BLOCKS * MAX_REQUEST;

fn context(folder: &std::path::Path) -> Arc<TorrentContext> {
    let file = FileSpec { path: "x".into(), length: u64::from(SIZE), is_pad: false };
    let layout = Layout::new(SIZE, vec![file]).expect("a layout");
    let storage = Arc::new(Storage::new(folder.into(), layout, 4));
    let (events, _) = unbounded();
    let terms = ContextSettings::unconnected();
    TorrentContext::new(terms, PieceManager::new(storage, vec![[0; 20]], Bitfield::new(1)), events)
}

/// Both ends of a connection that holds few bytes in transit.
fn narrow() -> (PeerStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let theirs = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    theirs.set_recv_buffer_size(4096).expect("a small buffer");
    theirs.connect(&listener.local_addr().expect("an address").into()).expect("a connection");
    let ours = listener.accept().expect("a connection").0;
    SockRef::from(&ours).set_send_buffer_size(4096).expect("a small buffer");
    ours.set_write_timeout(Some(WRITE_BLOCKED_AFTER)).expect("a timeout");
    (ours.into(), theirs.into())
}

fn block(n: u32) -> BlockInfo {
    BlockInfo { piece: PieceIndex(0), begin: n * MAX_REQUEST, length: MAX_REQUEST }
}

/// The messages that the writer has to send.
fn unchoke_and_blocks(payload: &[u8]) -> Vec<u8> {
    let mut messages = Vec::new();
    message::write_choke(&mut messages, false);
    for n in 0..BLOCKS {
        messages.extend_from_slice(&message::piece_header(block(n)));
        messages.extend_from_slice(&payload[(n * MAX_REQUEST) as usize..][..MAX_REQUEST as usize]);
    }
    messages
}

fn a_blocked_writer_gives_up_its_slab_and_sends_the_right_bytes_later(cipher: Option<Rc4>) {
    let folder = tempfile::tempdir().expect("a folder");
    let payload: Vec<u8> = (0..SIZE).map(|n| (n / 7 + n % 251) as u8).collect();
    std::fs::write(folder.path().join("x"), &payload).expect("a file");
    let context = context(folder.path());
    let (ours, mut theirs) = narrow();
    let (to_writer, inbox) = outbox();
    let said = Handshake::ours(context.settings.info_hash, PeerId([1; 20]), false);
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let peer = Peer::new(
        PeerKey(1),
        addr,
        true,
        &said,
        Duration::ZERO,
        Arc::new(ours.try_clone().expect("a handle").into()),
        outbox().0,
    );
    peer.serving.queued_requests.set(BLOCKS);
    assert!(
        to_writer.push(WriterCommand::SetChoke { is_choked: false })
            && to_writer.push(WriterCommand::Serve((0..BLOCKS).map(block).collect()))
    );
    let expected = unchoke_and_blocks(&payload);
    let mut theirs_cipher = cipher.clone();
    thread::scope(|scope| {
        let mut writer = Writer::new(&context, &peer, &ours, cipher);
        let (inbox, peer) = (&inbox, &peer);
        let runs = scope.spawn(move || writer.run(inbox, Vec::new()));
        let deadline = Instant::now() + PATIENCE;
        // Two blocks were handed over to the kernel; the block that has not started to leave is taken back.
        let wait_for = |sent_to_kernel: u64| {
            while peer.rates.sent_to_kernel.get() != sent_to_kernel {
                assert!(
                    Instant::now() < deadline && !runs.is_finished(),
                    "not {sent_to_kernel} bytes in the socket's hands"
                );
                thread::yield_now();
            }
        };
        wait_for(u64::from(MAX_REQUEST));
        let all: Vec<_> = std::iter::from_fn(|| context.settings.throttle.client.upload_slab()).collect();
        assert_eq!(all.len(), UPLOAD_SLABS, "it waits without one");
        let mut got = vec![0; expected.len()];
        theirs.read_exact(&mut got).expect("all that was asked for");
        if let Some(cipher) = &mut theirs_cipher {
            cipher.apply(&mut got);
        }
        assert!(got == expected, "other bytes than those that were asked for");
        assert!(to_writer.push(WriterCommand::End));
        assert_eq!(runs.join().expect("no panic").expect("no error"), WriterExit::Closed);
    });
    assert_eq!(peer.serving.queued_requests.get(), 0);
    assert_eq!(context.payload.uploaded.get(), u64::from(SIZE));
}

#[test]
fn a_blocked_writer_holds_no_slab() {
    a_blocked_writer_gives_up_its_slab_and_sends_the_right_bytes_later(None);
}

#[test]
fn a_blocked_writer_that_encrypts_goes_on_where_it_was() {
    a_blocked_writer_gives_up_its_slab_and_sends_the_right_bytes_later(Some(Rc4::discarding(b"key")));
}

#[test]
fn a_cut_write_is_known_by_its_bytes() {
    let block = |length| BlockInfo { piece: PieceIndex(0), begin: 0, length };
    let run = [block(10), block(20)];
    let (first, all) = (message::PIECE_HEADER_LENGTH + 10, 2 * message::PIECE_HEADER_LENGTH + 30);
    for (bytes, blocks_sent, bytes_of_next) in
        [(0, 0, 0), (first - 1, 0, first - 1), (first, 1, 0), (first + 1, 1, 1), (all, 2, 0)]
    {
        assert_eq!(PartialWrite::after(bytes, &run), PartialWrite { blocks_sent, bytes_of_next });
    }
}
