use std::time::Duration;

use console::{measure_text_width, strip_ansi_codes};

use super::*;
use crate::cli::report::tui::peers::tests::peer;

/// A half-complete download with data for every part of the view.
struct Fake {
    name: String,
    now: Snapshot,
    rates: Rates,
    pieces: Vec<PieceState>,
    spark: Sparkline,
    peers: Vec<PeerRow>,
    files: Vec<FileView>,
    search: PeerSearchStats,
}

impl Fake {
    fn new() -> Fake {
        let now = Snapshot {
            stage: Stage::Downloading,
            total: 4 << 20,
            metadata: (0, 0),
            have: 1 << 20,
            checked: (50, 200),
            downloaded: 2 << 20,
            uploaded: 1000,
            total_uploaded: 5000,
            wasted: 2048,
            connected_peers: 12,
            active_peers: 5,
            known_peers: 40,
            ..Snapshot::default()
        };
        let (mut rates, mut spark) = (Rates::default(), Sparkline::default());
        for s in 0..60 {
            let at = Duration::from_secs(s);
            rates.update(at, &Snapshot { downloaded: s * 65_536, ..now.clone() });
            spark.update(at, s * 65_536);
        }
        let mut search = PeerSearchStats { dht_nodes: Some(120), ..PeerSearchStats::default() };
        search.tracker("http://t/", TrackerState::Answered { peers: 30 });
        let row = |host| PeerRow { peer: peer(host, 5), down: 1000.0 * f64::from(host), up: 0.0 };
        let state = |n: u32| [PieceState::Verified, PieceState::Missing, PieceState::InProgress][n as usize % 3];
        let file =
            |n: u32| FileView {
                index: n, path: format!("漢字/{n}.bin"), stored_as: None, length: 7, pieces: n..n + 1
            };
        Fake {
            name: "debian 漢字 netinst.iso".to_owned(),
            now,
            rates,
            pieces: (0..500).map(state).collect(),
            spark,
            peers: (1..=12).map(row).collect(),
            files: (0..30).map(file).collect(),
            search,
        }
    }

    fn content(&self) -> PanelContent<'_> {
        PanelContent {
            name: &self.name,
            now: &self.now,
            rates: &self.rates,
            pieces: &self.pieces,
            spark: &self.spark,
            peers: &self.peers,
            files: None,
            search: &self.search,
            goal: SeedGoal::default(),
            limits: Limits::default(),
            is_paused: false,
            stall_reason: None,
            shows_help: false,
            has_keyboard: true,
            style: Style::new(true, false),
        }
    }
}

#[test]
fn on_a_usual_terminal_all_of_it_is_seen() {
    let fake = Fake::new();
    let shown = lines(&fake.content(), 80, 23);
    let text = shown.join("\n");
    assert!(shown[0].starts_with("debian 漢字 netinst.iso"), "{text}");
    assert_eq!(shown[1], "25.0%  1.0/4.0 MiB  down 64.0 KiB/s  up 0 B/s  eta 48s  peers 5/12");
    assert!(shown[2].starts_with("down ") && shown[2].ends_with("█ peak 64.0 KiB/s"), "{text}");
    // Three rows of the map: 500 pieces in 240 cells.
    assert!(shown[3..6].iter().all(|row| measure_text_width(row) == 80 && row.contains('▒')), "{text}");
    assert_eq!(shown[6], "sent 4.9 KiB, ratio 0.00  tracker 30 peers  DHT 120 nodes  wasted 2.0 KiB");
    assert!(shown[7].starts_with("peer ") && shown[8].starts_with("192.0.2.1:6881 "), "{text}");
    assert_eq!(shown.last().unwrap(), "p pause  l limits  f files  s why  ? help  q quit");
    assert_eq!(shown.len(), 21, "{text}");
}

#[test]
fn nothing_is_wider_or_higher_than_the_terminal() {
    let fake = Fake::new();
    let stall_reason =
        "tracker http://t/: no answer in time; connected: 2, 2 of them choke us; no incoming connections 漢字漢字";
    for (width, height) in
        [(20, 1), (20, 5), (40, 11), (80, 23), (80, 2), (132, 49), (200, 60), (1, 1), (3, 9), (500, 3)]
    {
        for (help, stall_reason, files, paused) in
            [(false, None, false, false), (true, Some(stall_reason), true, true), (true, None, false, true)]
        {
            let mut content = fake.content();
            (content.shows_help, content.stall_reason, content.is_paused, content.style) =
                (help, stall_reason, paused, Style::new(true, true));
            content.files = files.then_some(&fake.files);
            content.limits = Limits { down: 1 << 20, up: 1 << 20 };
            let shown = lines(&content, width, height);
            assert!(!shown.is_empty() && shown.len() <= height, "{width}x{height}: {} lines", shown.len());
            for line in &shown {
                let fits = measure_text_width(line) <= width || width < 14;
                assert!(fits, "{width}x{height}: {:?}", strip_ansi_codes(line));
            }
            assert!(final_lines(&content, false, width).len() == 3 && final_lines(&content, true, width).len() == 3);
        }
    }
}

#[test]
fn the_fewer_rows_the_less_is_shown_and_the_status_last() {
    let fake = Fake::new();
    let shown = |height| lines(&fake.content(), 80, height);
    assert!(shown(1)[0].starts_with("25.0%"));
    assert!(shown(2)[0].starts_with("25.0%") && shown(2)[1].contains('▒'));
    assert!(shown(3)[0].starts_with("debian"));
    assert_eq!(shown(5).len(), 5);
    let narrow = lines(&fake.content(), 20, 5);
    assert!(narrow[1].starts_with("25.0%  eta 48s"), "{narrow:?}");
}

#[test]
fn requested_panels_are_shown() {
    let fake = Fake::new();
    let mut content = fake.content();
    content.files = Some(&fake.files);
    let text = lines(&content, 80, 23).join("\n");
    assert!(
        text.contains("files: 10 of 30 are complete") && text.contains("漢字/2.bin") && !text.contains("192.0.2.1"),
        "{text}"
    );
    assert!(text.contains("f peers"));
    (content.files, content.is_paused, content.limits.down) = (None, true, 1 << 20);
    let text = lines(&content, 80, 23).join("\n");
    for words in ["[paused] debian", "  paused  ", "limit down 1.0 MiB/s", "p continue"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    (content.stall_reason, content.shows_help) = (Some("nobody has anything"), true);
    let text = lines(&content, 80, 23).join("\n");
    assert!(text.contains("nobody has anything") && text.contains("q: quit") && text.contains("F fast"), "{text}");
}

#[test]
fn unavailable_pieces_are_marked() {
    let mut fake = Fake::new();
    fake.pieces[7] = PieceState::Unavailable;
    let text = lines(&fake.content(), 80, 23).join("\n");
    assert!(text.contains('×') && text.contains("1 piece that no peer has"), "{text}");
    fake.pieces[8] = PieceState::Unavailable;
    assert!(lines(&fake.content(), 80, 23).join("\n").contains("2 pieces that no peer has"));
}

#[test]
fn every_stage_has_its_status() {
    let mut fake = Fake::new();
    (fake.rates, fake.now.total, fake.now.have) = (Rates::default(), 2000, 500);
    let mut text = |stage| {
        fake.now.stage = stage;
        fit_items(&stage_items(&fake.content(), 200), 200)
    };
    assert_eq!(text(Stage::Checking), "checking 25.0%  50/200 B  0 B/s  eta -");
    assert_eq!(text(Stage::Downloading), "25.0%  0.4/2.0 KiB  down 0 B/s  up 0 B/s  eta -  peers 5/12");
    assert_eq!(text(Stage::Seeding), "seeding  2.0 KiB  up 0 B/s  sent 4.9 KiB  ratio 2.50  for 0.0s  peers 5/12");
    assert_eq!(text(Stage::Stopping), "stopping  25.0%  0.4/2.0 KiB");
    assert_eq!(text(Stage::Metadata), "metadata 0/?  known 40  peers 5/12");
}

#[test]
fn a_stopped_torrent_does_not_remain_as_stopping() {
    let mut fake = Fake::new();
    fake.now.stage = Stage::Stopping;
    assert_eq!(final_lines(&fake.content(), false, 80)[1], "stopped  25.0%  1.0/4.0 MiB");
    // A magnet link without metadata: nothing is known and nothing is complete.
    (fake.now.total, fake.now.have) = (0, 0);
    assert_eq!(final_lines(&fake.content(), false, 80)[1], "stopped");
    assert_eq!(fit_items(&stage_items(&fake.content(), 80), 80), "stopping");
}

#[test]
fn no_line_is_empty_where_its_words_do_not_fit() {
    let fake = Fake::new();
    let mut content = fake.content();
    content.limits.down = 100 << 20;
    let shown = lines(&content, 16, 12);
    assert!(shown.iter().all(|line| !line.is_empty()), "{shown:?}");
}

#[test]
fn before_the_check_is_over_the_map_shows_how_far_it_is() {
    let mut fake = Fake::new();
    (fake.now.stage, fake.pieces) = (Stage::Checking, Vec::new());
    let content = fake.content();
    assert_eq!(piece_map(&content, 8, 3), ["▒▒░░░░░░"]);
    assert_eq!(final_lines(&content, true, 4)[2], "████");
}

#[test]
fn limits_are_said_in_words() {
    let words = |down, up| limits(Limits { down, up });
    assert_eq!(words(0, 0), None);
    assert_eq!(words(1024, 0).as_deref(), Some("limit down 1.0 KiB/s"));
    assert_eq!(words(0, 1024).as_deref(), Some("limit up 1.0 KiB/s"));
    assert_eq!(words(1024, 1024).as_deref(), Some("limit 1.0 KiB/s each way"));
    assert_eq!(words(1, 2).as_deref(), Some("limit down 1 B/s, up 2 B/s"));
}
