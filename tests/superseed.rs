//! A first seeder that super-seeds (BEP 16): it shows little, serves no more than that, and sends little more than one copy.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use btsync::metainfo::Torrent;
use btsync::session::{Config, Event, Outcome, SeedGoal, Session};
use btsync::sources::server::{Server, ServerConfig};

use common::payload::Payload;
use common::tracker::Tracker;
use common::wire::{Message, Wire, id};
use common::{Stage, free_port, until};

/// Starts a session on a thread of its own.
fn start(torrent: &Torrent, out: PathBuf, super_seed: bool) -> (Watch, thread::JoinHandle<Outcome>) {
    let mut config = Config::new(out);
    (config.dht, config.lsd) = (None, false);
    config.listen_ports = 0..=0;
    config.seed = SeedGoal { forever: true, ..SeedGoal::default() };
    config.super_seed = super_seed;
    let session = Session::new(torrent.clone(), config);
    let watch = (session.handle(), session.events());
    (watch, thread::spawn(move || session.run().expect("a session without trouble")))
}

/// What can be seen of a session.
type Watch = (btsync::session::Handle, crossbeam_channel::Receiver<Event>);

#[test]
fn three_leechers_finish_with_little_more_than_one_copy() {
    let (stage, payload) = (Stage::new(), Payload::single("first.bin", 12 << 20, 64 * 1024));
    let server = Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ServerConfig::default()).expect("a tracker");
    let announce = format!("http://{}/announce", server.addr());
    let torrent = Torrent::parse(&payload.torrent(&announce)).expect("a torrent");
    let outs: Vec<_> = (0..3).map(|n| stage.folder(&format!("out-{n}"))).collect();
    let leechers: Vec<_> = outs.iter().map(|out| start(&torrent, out.clone(), false)).collect();
    until("the leechers know each other", || {
        leechers.iter().all(|((leecher, _), _)| leecher.snapshot().connected == 2)
    });
    let seeder = start(&torrent, stage.folder_with("seeder", &payload), true);
    until("everybody has it all", || leechers.iter().all(|((l, _), _)| l.snapshot().have == torrent.total()));
    let sent = seeder.0.0.snapshot().uploaded as f64 / torrent.total() as f64;
    for ((handle, _), thread) in leechers.into_iter().chain([seeder]) {
        handle.stop();
        assert_eq!(thread.join().expect("no panic"), Outcome::StoppedWhole);
    }
    for out in &outs {
        payload.assert_at(out);
    }
    server.stop();
    assert!((1.0..1.6).contains(&sent), "the seeder sent {sent} copies");
}

/// No bitfield, two pieces to begin with, and nothing else for who asks; another for who has got one and is alone.
#[test]
fn what_is_not_shown_is_not_served() {
    let (stage, payload, port) = (Stage::new(), Payload::single("hidden.bin", 8 << 20, 512 * 1024), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = stage.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = stage.folder_with("seeder", &payload);
    let mut seeder = stage.btsync("seeder", &torrent, &source, port, &["--seed", "--super-seed"]);
    until("the seeder has announced itself", || tracker.heard().iter().any(|a| a.left == 0));
    let mut wire = Wire::dial(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), payload.info_hash()).expect("a handshake");
    wire.send(id::INTERESTED, &[]).expect("interest");
    let mut shown = Vec::new();
    let mut unchoked = false;
    while shown.len() < 2 || !unchoked {
        match wire.receive().expect("a message") {
            Message::Have(piece) => shown.push(piece),
            Message::Unchoke => unchoked = true,
            Message::Bitfield(_) => panic!("a bitfield tells all"),
            _ => {}
        }
    }
    let hidden = (0..16).find(|piece| !shown.contains(piece)).expect("most are hidden");
    wire.request(hidden, 0, 16 * 1024).expect("a request");
    wire.request(shown[0], 0, 16 * 1024).expect("a request");
    wire.send(id::HAVE, &shown[0].to_be_bytes()).expect("a have");
    let (mut served, mut next) = (None, None);
    while served.is_none() || next.is_none() {
        match wire.receive().expect("a message") {
            Message::Piece(piece, ..) => served = served.or(Some(piece)),
            Message::Have(piece) => next = Some(piece),
            _ => {}
        }
    }
    assert_eq!(served, Some(shown[0]));
    assert!(next.is_some_and(|piece| !shown.contains(&piece)), "{next:?} again");
    seeder.terminate(0);
}
