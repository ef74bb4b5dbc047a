//! Web seeds against a server with scripted responses.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use crossbeam_channel::{Receiver, unbounded};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::*;
use crate::metainfo::Metainfo;
use crate::peer::{ContextSettings, TorrentMessage};
use crate::pieces::PieceManager;
use crate::storage::{FileSpec, Layout, Storage};
use crate::types::BLOCK_SIZE;

const PIECES: u32 = 5;
const PIECE: u32 = 4 * BLOCK_SIZE;

struct Setup {
    _folder: TempDir,
    context: Arc<TorrentContext>,
    messages: Receiver<TorrentMessage>,
    payload: Vec<u8>,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().expect("a folder");
    let file = FileSpec { path: "x".into(), length: u64::from(PIECES * PIECE), is_pad: false };
    let storage = Storage::new(folder.path().into(), Layout::new(PIECE, vec![file]).expect("a layout"), 4);
    storage.prepare().expect("a file");
    let payload: Vec<u8> = (0..PIECES * PIECE).map(|n| (n / 7 + n % 251) as u8).collect();
    let hashes = payload.chunks(PIECE as usize).map(|piece| Sha1::digest(piece).into()).collect();
    let pieces = PieceManager::new(Arc::new(storage), hashes, Bitfield::new(PIECES));
    let (sender, messages) = unbounded(); // Bounded: by the pieces of the test
    let context = TorrentContext::new(ContextSettings::unconnected(), pieces, sender);
    Setup { _folder: folder, context, messages, payload }
}

/// Serves requests with what `respond` makes of their targets.
fn server(respond: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/seed", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            loop {
                let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                let Some(target) = head.first().and_then(|line| line.split(' ').nth(1)) else { break };
                if (&stream).write_all(&respond(target)).is_err() {
                    break;
                }
            }
        }
    });
    url
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn start(context: &Arc<TorrentContext>, url: &str, kind: WebSeedKind) -> WebSeed {
    let torrent = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    let files = Arc::new(WebSeedFiles::new(&Metainfo::from_bytes(torrent).expect("a torrent")));
    let url = WebSeedUrl::new(url, kind, true).expect("a URL");
    WebSeed::start(context, WebSeedSettings { url, files, user_agent: None, block_list: Arc::default() })
        .expect("a thread")
}

/// BEP 17: the server names neither files nor lengths, and is busy at first.
#[test]
fn a_script_is_asked_for_parts_of_pieces() {
    let setup = setup();
    let payload = setup.payload.clone();
    let was_busy = Flag::default();
    let url = server(move |target| {
        if !was_busy.swap(true) {
            return b"HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\n1".to_vec();
        }
        let field = |name: &str| {
            let query = target.split_once('?').expect("a query").1;
            let value = query.split('&').find_map(|field| field.strip_prefix(name)).expect("a field");
            value.split('-').map(|number| number.parse().expect("a number")).collect::<Vec<usize>>()
        };
        let (piece, range) = (field("piece=")[0] * PIECE as usize, field("ranges="));
        ok(&payload[piece + range[0]..=piece + range[1]])
    });
    let seed = start(&setup.context, &url, WebSeedKind::Script);
    let is_complete = |message: &TorrentMessage| matches!(message, TorrentMessage::Peer(PeerEvent::Complete));
    assert!(setup.messages.iter().any(|message| is_complete(&message)));
    seed.join_until(Instant::now() + Duration::from_secs(60));
    assert!(setup.context.pieces.is_seed() && setup.context.pieces.wasted() == 0);
    assert_eq!(setup.context.web_seeds.count(), 0);
}

/// The only file is another one, of the same length.
#[test]
fn a_piece_that_a_web_seed_spoils_is_reported_with_its_key_and_the_web_seed_ends() {
    let setup = setup();
    let wrong = vec![7; setup.payload.len()];
    let url = server(move |_| ok(&wrong));
    let seed = start(&setup.context, &url, WebSeedKind::Mirror);
    let mut ended = false;
    for message in &setup.messages {
        match message {
            TorrentMessage::Peer(PeerEvent::PieceFailed { piece, senders, .. }) => {
                assert_eq!(senders, [seed.key]);
                seed.piece_failed(&setup.context, piece);
            }
            TorrentMessage::Peer(PeerEvent::WebSeedEnded { key, .. }) if key == seed.key => {
                ended = true;
                break;
            }
            _ => {}
        }
    }
    seed.join_until(Instant::now() + Duration::from_secs(60));
    assert!(ended && setup.context.pieces.have().count() == 0);
}

#[test]
fn a_stop_ends_the_thread_while_it_waits_for_a_server() {
    let setup = setup();
    let (end_sender, ended) = unbounded(); // Bounded: one message
    let url = server(move |_| {
        let _ = end_sender.send(());
        b"HTTP/1.1 200 OK\r\n".to_vec()
    });
    let seed = start(&setup.context, &url, WebSeedKind::Mirror);
    ended.recv().expect("a request");
    seed.stop(&setup.context);
    let ended = seed.ended.clone();
    seed.join_until(Instant::now());
    assert!(ended.recv().is_err(), "the thread is over");
}
