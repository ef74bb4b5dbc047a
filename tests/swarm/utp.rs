//! Swarms over uTP: both transports, one of them, and none in common.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread::{self, JoinHandle};

use btsync::metainfo::Metainfo;
use btsync::torrent::{Event, Events, Outcome, SeedGoal, Torrent, TorrentConfig, TorrentHandle};
use btsync::types::{Encryption, Transport, Transports};

use crate::common::netns::alone_in_process;
use crate::common::payload::Payload;

const FOREVER: SeedGoal = SeedGoal { is_forever: true, time: None, ratio: None };

struct Running {
    handle: TorrentHandle,
    events: Events,
    thread: JoinHandle<Outcome>,
}

/// How one side connects.
#[derive(Clone, Copy)]
struct Terms(Transports, Encryption);

const fn plain(transports: Transports) -> Terms {
    Terms(transports, Encryption::Off)
}

/// A file in `folder`, and its torrent without a tracker that answers.
fn payload(folder: &Path) -> (Payload, Metainfo) {
    let payload = Payload::single("payload", 3_000_001, 32 * 1024);
    payload.write_files(folder);
    let metainfo = Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent");
    (payload, metainfo)
}

fn start(metainfo: &Metainfo, out: &Path, terms: Terms, peers: &[SocketAddr]) -> Running {
    let mut config = TorrentConfig::new(out);
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.client.transports = terms.0;
    config.connections.encryption = terms.1;
    config.search.peers = peers.to_vec();
    if peers.is_empty() {
        config.seed = FOREVER;
    }
    let torrent = Torrent::new(metainfo.clone(), config);
    let (handle, events) = (torrent.handle(), torrent.events());
    let thread = thread::spawn(move || torrent.run().expect("no error"));
    Running { handle, events, thread }
}

impl Running {
    /// The first event for which there is a result.
    fn wait_for<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        while let Some(event) = self.events.recv() {
            if let Some(found) = wanted(&event) {
                return found;
            }
            seen.push(event);
        }
        panic!("the torrent ended without the event; it said {seen:?}");
    }

    fn addr(&self) -> SocketAddr {
        let port = self.wait_for(|event| if let Event::Listening { port } = event { Some(*port) } else { None });
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn transport(&self) -> Transport {
        self.wait_for(|event| if let Event::PeerConnected { transport, .. } = event { Some(*transport) } else { None })
    }

    fn end(self) -> Outcome {
        self.handle.stop();
        self.thread.join().expect("no panic")
    }
}

/// A leecher downloads from a seeder, over this transport.
fn downloads(seeding: Terms, leeching: Terms, expected: Transport) {
    let folder = tempfile::tempdir().expect("a folder");
    let (payload, metainfo) = payload(folder.path());
    let seeder = start(&metainfo, folder.path(), seeding, &[]);
    let out = tempfile::tempdir().expect("a folder");
    let leecher = start(&metainfo, out.path(), leeching, &[seeder.addr()]);
    assert_eq!(leecher.transport(), expected);
    assert_eq!(leecher.thread.join().expect("no panic"), Outcome::Completed);
    payload.assert_at(out.path());
    assert_eq!(seeder.transport(), expected);
    assert_eq!(seeder.end(), Outcome::StoppedComplete);
}

#[test]
fn two_that_speak_only_utp_exchange_a_file() {
    alone_in_process("two_that_speak_only_utp_exchange_a_file", || {
        downloads(plain(Transports::Utp), plain(Transports::Utp), Transport::Utp);
    });
}

#[test]
fn encrypted_connections_work_over_utp() {
    alone_in_process("encrypted_connections_work_over_utp", || {
        let terms = Terms(Transports::Utp, Encryption::Require);
        downloads(terms, terms, Transport::Utp);
    });
}

#[test]
fn a_peer_with_both_reaches_those_with_one() {
    alone_in_process("a_peer_with_both_reaches_those_with_one", || {
        for (only, expected) in [(Transports::Tcp, Transport::Tcp), (Transports::Utp, Transport::Utp)] {
            downloads(plain(only), plain(Transports::Both), expected);
            downloads(plain(Transports::Both), plain(only), expected);
        }
        downloads(plain(Transports::Both), plain(Transports::Both), Transport::Tcp);
    });
}

#[test]
fn without_a_transport_in_common_there_is_no_connection() {
    alone_in_process("without_a_transport_in_common_there_is_no_connection", || {
        for (seeding, leeching) in [(Transports::Tcp, Transports::Utp), (Transports::Utp, Transports::Tcp)] {
            let folder = tempfile::tempdir().expect("a folder");
            let (_, metainfo) = payload(folder.path());
            let seeder = start(&metainfo, folder.path(), plain(seeding), &[]);
            let out = tempfile::tempdir().expect("a folder");
            let leecher = start(&metainfo, out.path(), plain(leeching), &[seeder.addr()]);
            leecher.wait_for(|event| matches!(event, Event::PeerFailed { .. }).then_some(()));
            assert_eq!(leecher.end(), Outcome::Stopped);
            assert_eq!(seeder.end(), Outcome::StoppedComplete);
        }
    });
}
