//! An initial seeder that super-seeds (BEP 16): it reveals few pieces, serves only those, and sends little more than one copy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use btsync::metainfo::Metainfo;
use btsync::torrent::{Outcome, SeedGoal, Torrent, TorrentConfig};
use btsync::tracker_server::{TrackerServer, TrackerServerConfig};

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::real::{Client, TrackerKind};
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, Wire, extended_handshake, id};
use crate::common::{TestDir, free_port, until};

/// Starts a torrent on a thread of its own.
fn start(metainfo: &Metainfo, out: PathBuf, super_seed: bool) -> (Watch, thread::JoinHandle<Outcome>) {
    let mut config = TorrentConfig::new(out);
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.seed = SeedGoal { is_forever: true, ..SeedGoal::default() };
    config.super_seeds = super_seed;
    let torrent = Torrent::new(metainfo.clone(), config);
    let watch = (torrent.handle(), torrent.events());
    (watch, thread::spawn(move || torrent.run().expect("no error")))
}

/// The observable side of a torrent.
type Watch = (btsync::torrent::TorrentHandle, btsync::torrent::Events);

#[test]
fn three_leechers_finish_with_little_more_than_one_copy() {
    let (temp, payload) = (TestDir::new(), Payload::single("first.bin", 12 << 20, 64 * 1024));
    let server = TrackerServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), TrackerServerConfig::default())
        .expect("a tracker");
    let announce = format!("http://{}/announce", server.addr());
    let torrent = Metainfo::parse(&payload.torrent(&announce)).expect("a torrent");
    let outs: Vec<_> = (0..3).map(|n| temp.folder(&format!("out-{n}"))).collect();
    let leechers: Vec<_> = outs.iter().map(|out| start(&torrent, out.clone(), false)).collect();
    until("the leechers know each other", || {
        leechers.iter().all(|((leecher, _), _)| leecher.snapshot().connected_peers == 2)
    });
    let seeder = start(&torrent, temp.folder_with("seeder", &payload), true);
    until("everybody has it all", || leechers.iter().all(|((l, _), _)| l.snapshot().have == torrent.total()));
    let sent = seeder.0.0.snapshot().uploaded as f64 / torrent.total() as f64;
    for ((handle, _), thread) in leechers.into_iter().chain([seeder]) {
        handle.stop();
        assert_eq!(thread.join().expect("no panic"), Outcome::StoppedComplete);
    }
    for out in &outs {
        payload.assert_at(out);
    }
    server.stop();
    assert!((1.0..1.6).contains(&sent), "the seeder sent {sent} copies");
}

/// Exchanges handshakes with both extensions; btsync sends the next message.
fn dial_extended(port: u16, payload: &Payload) -> Wire {
    let mut wire = Wire::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    wire.send_raw(&extended_handshake(payload.info_hash())).expect("a handshake");
    wire.read_handshake().expect("a handshake");
    wire
}

/// libtorrent disconnects a peer that has no pieces and sends `upload_only`, so a super-seed sends that only once all pieces are
/// revealed. A leecher that sends no HAVE for what it received is shown the next piece all the same.
#[test]
fn a_super_seed_says_that_it_wants_nothing_once_all_is_shown_and_counts_sent_pieces() {
    const UPLOAD_ONLY: u8 = 9;
    let (temp, payload, port) = (TestDir::new(), Payload::single("shown.bin", 4 << 20, 512 * 1024), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = temp.folder_with("seeder", &payload);
    let mut seeder = temp.btsync("seeder", &torrent, &source, port, &["--seed", "--super-seed"]);
    until("the seeder has announced itself", || tracker.announces().iter().any(|a| a.left == 0));
    let mut wire = dial_extended(port, &payload);
    let wait_for_output = format!("d1:md11:upload_onlyi{UPLOAD_ONLY}eee");
    wire.send(id::EXTENDED, &[&[0], wait_for_output.as_bytes()].concat()).expect("an extension handshake");
    wire.send(id::HAVE_NONE, &[]).expect("a word");
    wire.send(id::INTERESTED, &[]).expect("a word");
    let (mut shown, mut asked, mut unchoked, mut greeted) = (Vec::new(), 0, false, false);
    // The only leecher, which sends no HAVE, is shown all eight pieces one after the other.
    while shown.len() < 8 {
        match wire.receive().expect("a message") {
            Message::Have(piece) => shown.push(piece),
            Message::Unchoke => unchoked = true,
            Message::Other(id::EXTENDED, said) if said[0] == 0 => {
                let said = String::from_utf8_lossy(&said).into_owned();
                assert!(said.contains("11:upload_onlyi0e"), "{said}");
                greeted = true;
            }
            Message::Other(id::EXTENDED, said) => panic!("{said:?} too early"),
            Message::Other(id::HAVE_ALL, _) | Message::Bitfield(_) => panic!("it tells all"),
            _ => {}
        }
        while unchoked && asked < shown.len() {
            for block in 0..32 {
                wire.request(shown[asked], block * 16 * 1024, 16 * 1024).expect("a request");
            }
            asked += 1;
        }
    }
    assert!(greeted);
    // Two more seeds: from now on nothing is hidden.
    let mut others = [dial_extended(port, &payload), dial_extended(port, &payload)];
    for other in &mut others {
        other.send(id::HAVE_ALL, &[]).expect("a word");
    }
    loop {
        match wire.receive().expect("a message") {
            Message::Other(id::EXTENDED, said) if said[0] == UPLOAD_ONLY => break assert_eq!(said, [UPLOAD_ONLY, 1]),
            _ => {}
        }
    }
    seeder.terminate(0);
}

/// A peer claims all pieces but one and then sends nothing. Another peer still gets everything.
#[test]
fn one_that_claims_nearly_everything_keeps_nothing_from_others() {
    let (temp, payload, port) = (TestDir::new(), Payload::single("claimed.bin", 4 << 20, 64 * 1024), free_port());
    let tracker = Tracker::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = temp.folder_with("seeder", &payload);
    let mut seeder = temp.btsync("seeder", &torrent, &source, port, &["--seed", "--super-seed"]);
    until("the seeder has announced itself", || tracker.announces().iter().any(|a| a.left == 0));
    let mut attacker = dial_extended(port, &payload);
    for piece in 1u32..64 {
        attacker.send(id::HAVE, &piece.to_be_bytes()).expect("a have");
    }
    // btsync has processed all HAVEs of a peer once it unchokes that peer.
    attacker.send(id::INTERESTED, &[]).expect("interest");
    while !matches!(attacker.receive().expect("a message"), Message::Unchoke) {}
    let out = temp.folder("out");
    let leecher = start(&Metainfo::read(&torrent).expect("a torrent"), out.clone(), false);
    until("the leecher has it all", || leecher.0.0.snapshot().have == 4 << 20);
    leecher.0.0.stop();
    assert_eq!(leecher.1.join().expect("no panic"), Outcome::StoppedComplete);
    payload.assert_at(&out);
    drop(attacker);
    seeder.terminate(0);
}

/// No bitfield; two pieces are revealed at first, and requests for others get nothing. A peer that is alone is shown another
/// piece once it has received one.
#[test]
fn pieces_that_were_not_shown_are_not_served() {
    let (temp, payload, port) = (TestDir::new(), Payload::single("hidden.bin", 8 << 20, 512 * 1024), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = temp.folder_with("seeder", &payload);
    let mut seeder = temp.btsync("seeder", &torrent, &source, port, &["--seed", "--super-seed"]);
    until("the seeder has announced itself", || tracker.announces().iter().any(|a| a.left == 0));
    let mut wire = Wire::connect_and_handshake(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), payload.info_hash())
        .expect("a handshake");
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
    let served = loop {
        match wire.receive().expect("a message") {
            Message::Piece(piece, ..) => break piece,
            Message::Have(piece) => panic!("piece {piece} was shown too early"),
            _ => {}
        }
    };
    assert_eq!(served, shown[0]);
    // Only now: btsync answers the requests that it reads together with this HAVE after it has shown another piece.
    wire.send(id::HAVE, &shown[0].to_be_bytes()).expect("a have");
    let next = loop {
        if let Message::Have(piece) = wire.receive().expect("a message") {
            break piece;
        }
    };
    assert!(!shown.contains(&next), "{next} again");
    seeder.terminate(0);
}

/// Runs a super-seed with these leechers, all of which must complete. `check` gets the number of copies that the seed sent, and
/// its log.
fn super_seeds_to(test: &str, leechers: &[Client], check: impl FnOnce(f64, &str)) {
    let mut programs = vec!["opentracker"];
    programs.extend(leechers.iter().map(|client| client.program()));
    in_network_namespace(test, &programs, || {
        let (temp, payload) = (TestDir::new(), Payload::single("first.bin", 6 * 1024 * 1024 + 77, 128 * 1024));
        let tracker = TrackerKind::Opentracker.start(&temp, &payload);
        let source = temp.folder_with("seeder", &payload);
        let torrent = temp.torrent(&payload, &tracker.url());
        let started = |(&client, host): (&Client, u8)| {
            let out = temp.folder(&format!("out-{client:?}"));
            (client.start(&temp, host, &torrent, &out), out)
        };
        let leechers: Vec<_> = leechers.iter().zip(3..).map(started).collect();
        // A leecher that came alone would get all pieces from the seed: nobody else could give it any.
        tracker.wait_for_leechers(payload.info_hash(), leechers.len() as u64);
        let mut seeder = temp.btsync("seeder", &torrent, &source, free_port(), &["--seed", "--super-seed"]);
        until("everybody has everything", || {
            leechers.iter().all(|(_, out)| payload.difference_in_content(out).is_none())
        });
        drop(leechers);
        seeder.terminate(0);
        let log = seeder.log();
        check(copies(&log), &log);
    });
}

/// The ratio in the seeder's last line.
fn copies(log: &str) -> f64 {
    let ratio = log.rsplit_once("ratio ").map_or("0", |(_, rest)| rest);
    let ratio: String = ratio.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    ratio.parse().unwrap_or_else(|_| panic!("no ratio in {log}"))
}

#[test]
fn libtorrent_gets_everything_of_a_super_seed() {
    super_seeds_to("libtorrent_gets_everything_of_a_super_seed", &[Client::Libtorrent], |_, _| {});
}

#[test]
fn qbittorrent_gets_everything_of_a_super_seed() {
    super_seeds_to("qbittorrent_gets_everything_of_a_super_seed", &[Client::Qbittorrent], |_, _| {});
}

#[test]
fn transmission_gets_everything_of_a_super_seed() {
    super_seeds_to("transmission_gets_everything_of_a_super_seed", &[Client::Transmission], |_, _| {});
}

#[test]
fn aria2_gets_everything_of_a_super_seed() {
    super_seeds_to("aria2_gets_everything_of_a_super_seed", &[Client::Aria2], |_, _| {});
}

/// All four together: they share with each other what the seed sends.
#[test]
fn four_clients_get_everything_of_a_super_seed_that_sends_little_more_than_a_copy() {
    super_seeds_to(
        "four_clients_get_everything_of_a_super_seed_that_sends_little_more_than_a_copy",
        &[Client::Libtorrent, Client::Qbittorrent, Client::Transmission, Client::Aria2],
        |copies, log| assert!((1.0..2.5).contains(&copies), "{copies} copies:\n{log}"),
    );
}
