//! btsync as one leecher among four other clients behind one slow seeder. It must neither be last nor take more than it gives
//! back. The seeder's uplink is the bottleneck, so a client that finds good partners and uploads to them is faster.

use std::path::PathBuf;
use std::time::Duration;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::real::{Client, TrackerKind};
use crate::common::{TestDir, free_port, until};

const OTHERS: [Client; 4] = [Client::Transmission, Client::Aria2, Client::Libtorrent, Client::Rtorrent];

/// A leecher, and the poll round in which it was found complete.
struct Leecher {
    name: String,
    out: PathBuf,
    _running: Option<Running>,
    ended: Option<usize>,
}

/// The seeder uploads at 2 MiB/s; one copy alone takes 12 s.
#[test]
fn behind_a_slow_seeder_ours_is_not_behind_the_others_and_gives_its_part() {
    let mut programs = vec!["opentracker"];
    programs.extend(OTHERS.map(Client::program));
    in_network_namespace("behind_a_slow_seeder_ours_is_not_behind_the_others_and_gives_its_part", &programs, || {
        let temp = TestDir::new();
        let payload = Payload::single("swarm.bin", 24 * 1024 * 1024 + 77, 256 * 1024);
        let tracker = TrackerKind::Opentracker.start(&temp, &payload);
        let source = temp.folder_with("seeder", &payload);
        let torrent = temp.torrent(&payload, &tracker.url());
        let _seeder = temp.btsync("seeder", &torrent, &source, free_port(), &["--seed", "--max-upload-limit", "2M"]);
        tracker.wait_for_seeds(payload.info_hash(), 1);

        let mut leechers: Vec<_> = OTHERS
            .into_iter()
            .zip(3..)
            .map(|(client, host)| {
                let out = temp.folder(&format!("out-{client:?}"));
                let running = client.start(&temp, host, &torrent, &out);
                Leecher { name: format!("{client:?}"), out, _running: Some(running), ended: None }
            })
            .collect();
        let out = temp.folder("out");
        let mut ours = temp.btsync("ours", &torrent, &out, free_port(), &["--seed"]);
        leechers.push(Leecher { name: "ours".into(), out, _running: None, ended: None });

        let mut looks = 0;
        until("everybody has everything", || {
            looks += 1;
            for leecher in leechers.iter_mut().filter(|leecher| leecher.ended.is_none()) {
                if payload.difference_in_content(&leecher.out).is_none() {
                    leecher.ended = Some(looks);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
            leechers.iter().all(|leecher| leecher.ended.is_some())
        });
        ours.terminate(0);

        let ended = |leecher: &Leecher| leecher.ended.expect("waited for");
        let us = ended(&leechers.pop().expect("ours"));
        let mut others: Vec<_> = leechers.iter().map(ended).collect();
        others.sort_unstable();
        let order: Vec<_> = leechers.iter().map(|leecher| format!("{} {}", leecher.name, ended(leecher))).collect();
        let story = format!("ours ended at look {us}, {}\n{}", order.join(", "), ours.log());
        // The upper median of an even number; a client found complete in the next round may have finished at the same moment.
        assert!(us <= others[others.len() / 2] + 1, "later than the others: {story}");
        let given = ratio_when_complete(&ours.log());
        assert!((0.5..3.0).contains(&given), "a ratio of {given} when it was complete: {story}");
    });
}

/// The ratio of uploaded to downloaded bytes in the line about the completed download.
fn ratio_when_complete(log: &str) -> f64 {
    let line = log.lines().find(|line| line.contains(": complete, ")).expect("a line about the end");
    let ratio = line.rsplit_once("ratio ").map_or("0", |(_, ratio)| ratio);
    ratio.trim().parse().unwrap_or_else(|_| panic!("no ratio in {line:?}"))
}
