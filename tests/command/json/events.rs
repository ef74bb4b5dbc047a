//! Every event of docs/events.schema.json occurs in the tests, which validate it, and docs/json.md describes its fields.

use std::collections::BTreeSet;

use super::{names, run, run_until};
use crate::common::extended_peer::{ExtendedPeer, size_of};
use crate::common::payload::Payload;
use crate::common::schema;
use crate::common::seeder::{FakePeer, Gate, full_bitfield, serve};
use crate::common::web_seed::{TestWebSeed, status};
use crate::common::wire::id;
use crate::common::{TestDir, free_port};

/// `run` validates each line. Other tests validate two events: `a_reader_that_pauses_is_told_how_many_events_are_lost`, and
/// `trackers_are_told_the_port_of_the_router` in tests/network.
#[test]
fn every_event_of_the_schema_occurs_and_fits() {
    let (temp, payload) = (TestDir::new(), Payload::tree("set", &[("a.bin", 40_000), ("b.bin", 40_000)], 16 * 1024));
    let peer = ExtendedPeer::new(&payload, size_of(&payload), |_, _| Ok(false));
    let tracker = format!("http://127.0.0.1:{}/announce", free_port());
    let torrent = temp.torrent(&payload, &tracker).display().to_string();
    let (link, peer, out) = (payload.magnet(""), format!("--peer={}", peer.addr()), temp.path("out"));
    let (out, saved) = (out.display().to_string(), format!("--save-torrent={}", temp.path("saved.torrent").display()));
    let refusing = TestWebSeed::with(&payload, |_, _| Some(status("403 Forbidden", "")));
    let web_seed = format!("--web-seed={}", refusing.url());
    let mut seen = BTreeSet::from(["lost", "port_mapping"].map(str::to_owned));
    for (args, expected) in [
        (vec![link.as_str(), &out, &peer, "--select=1", &saved], Some(0)),
        (vec![&torrent, "--list"], Some(0)),
        // Nobody has the other file.
        (vec![&torrent, &out, &web_seed, "--stop-timeout=0.3"], Some(2)),
    ] {
        let (lines, code) = run(&args.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        assert_eq!(code, expected, "{args:?}: {lines:?}");
        seen.extend(names(&lines).into_iter().map(str::to_owned));
    }
    // No tracker answers.
    let lines = run_until(&[torrent.as_ref(), out.as_ref()], |line| line["event"] == "tracker");
    seen.extend(names(&lines).into_iter().map(str::to_owned));
    assert_eq!(seen, schema::fields_by_event().into_keys().collect());
}

/// With several torrents, the line has the torrent's name too.
#[test]
fn a_selection_is_an_event() {
    let (temp, mut args) = (TestDir::new(), Vec::new());
    let out = temp.folder("out");
    for name in ["one", "two"] {
        let payload = Payload::tree(name, &[("a.bin", 40_000), ("b.bin", 20_000)], 16 * 1024);
        payload.write_files(&out);
        let torrent = temp.path(&format!("{name}.torrent"));
        std::fs::write(&torrent, payload.torrent("")).expect("a torrent file");
        args.push(torrent.into_os_string());
        let words: Vec<_> = args.iter().chain([out.as_os_str().to_owned()].iter()).cloned().collect();
        let words = [&words.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..], &["--select=2".as_ref()]].concat();
        let (lines, code) = run(&words);
        assert_eq!(code, Some(0), "{lines:?}");
        let selected: Vec<_> = lines.iter().filter(|line| line["event"] == "selected").collect();
        assert_eq!(selected.len(), args.len(), "{lines:?}");
        for line in selected {
            assert_eq!((line["files"].as_u64(), line["of"].as_u64()), (Some(1), Some(2)), "{line}");
            assert_eq!(line["name"].is_string(), args.len() > 1, "{line}");
        }
        assert!(
            lines.iter().any(|line| line["event"] == "selected" && line["info_hash"] == payload.hex()),
            "{lines:?}"
        );
    }
}

/// The reason does not say that the peer closed it.
#[test]
fn a_connection_that_btsync_closes_is_closed_by_btsync() {
    let (temp, payload) = (TestDir::new(), Payload::single("one.bin", 40_000, 16 * 1024));
    let (of_peer, wrong) = (payload.clone(), vec![0; 40_000]);
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(of_peer.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        serve(&mut wire, &of_peer, &wrong, &Gate::new(usize::MAX))
    });
    let (torrent, out, peer) = (temp.torrent(&payload, ""), temp.path("out"), format!("--peer={}", peer.addr));
    let has_disconnected = |line: &serde_json::Value| line["state"] == "disconnected";
    let lines = run_until(&[torrent.as_os_str(), out.as_os_str(), peer.as_ref()], has_disconnected);
    let told = lines.iter().filter(|line| line["event"] == "peer").map(|line| (&line["state"], &line["reason"]));
    let told: Vec<_> = told.map(|(state, reason)| (state.as_str(), reason.as_str().unwrap_or_default())).collect();
    assert!(told.iter().any(|(state, _)| *state == Some("banned")), "{told:?}");
    assert!(told.contains(&(Some("disconnected"), "closed by btsync")), "{told:?}");
}

/// Each row of the table has the fields that the schema allows; those of every line are described above the table.
#[test]
fn the_page_describes_the_fields_of_the_schema() {
    let page = include_str!("../../../docs/json.md");
    let (page, _doctor) = page.split_once("## `btsync doctor`").expect("the checks come last");
    let mut described = 0;
    for (event, mut allowed) in schema::fields_by_event() {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{event}` |"))).expect(&event);
        let fields = row.split(" | ").nth(1).expect("a column of fields");
        let fields: BTreeSet<String> = fields.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for field in ["event", "time", "info_hash"].into_iter().chain((!fields.contains("name")).then_some("name")) {
            allowed.remove(field);
        }
        assert_eq!(fields, allowed, "{event}");
        described += 1;
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), described, "the events of the page");
}
