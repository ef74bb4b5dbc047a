use std::time::Duration;

use super::*;

fn row(rank: u8, name: &str, percent: &str) -> TorrentRow {
    let values = [percent, "down 1.0 MiB/s", "up 0 B/s", "eta 4s", "peers 4/7"].map(str::to_owned);
    TorrentRow { job: usize::from(rank), rank, name: name.to_owned(), values, bar: Vec::new() }
}

const PLAIN: Style = Style::new(true, false);

fn laid_out(mut rows: Vec<TorrentRow>, width: usize, height: usize) -> Vec<String> {
    sort(&mut rows);
    let lines = layout(&rows, BatchFrame { totals: "sums".to_owned(), ..BatchFrame::default() }, PLAIN, width, height);
    assert!(lines.len() < height.max(2), "{lines:?} in {height} rows");
    lines
}

#[test]
fn those_that_move_come_first_and_values_are_aligned() {
    let rows = vec![row(3, "b.iso", "seeding"), row(0, "debian-12.iso", "9.5%"), row(0, "a", "100.0%")];
    let lines = laid_out(rows, 80, 24);
    assert_eq!(
        lines,
        [
            "debian-12.iso     9.5%  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7",
            "a               100.0%  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7",
            "b.iso          seeding  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7",
            "sums",
        ]
    );
}

#[test]
fn a_narrow_terminal_loses_values_before_names() {
    let long = || vec![row(0, &"x".repeat(60), "9.5%")];
    let line = |width| laid_out(long(), width, 24).remove(0);
    assert_eq!(line(200).len(), 40 + "  9.5%  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7".len());
    assert!(line(60).starts_with("xxxxx") && !line(60).contains("peers") && line(60).contains("eta"), "{}", line(60));
    assert!(line(40).contains("eta") && !line(40).contains("down"), "{}", line(40));
    assert_eq!(line(22), "xxxxxxx...xxxxxx  9.5%");
    assert_eq!(line(10), "x...  9.5%");
    for width in 0..100 {
        let fits = measure_text_width(&line(width)) <= width.max("x  9.5%".len());
        assert!(fits, "{width}: {}", line(width));
    }
}

#[test]
fn a_low_terminal_says_how_many_are_not_shown() {
    let rows = |count: usize| (0..count).map(|n| row(0, &format!("t{n}"), "1.0%")).collect::<Vec<_>>();
    let lines = laid_out(rows(22), 80, 24);
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (23, Some("sums")));
    let lines = laid_out(rows(28), 80, 24);
    assert_eq!((lines.len(), lines[21].as_str(), lines[22].as_str()), (23, "+ 7 more", "sums"));
    assert!(lines[20].starts_with("t20"));
    assert_eq!(laid_out(rows(5), 80, 3), ["+ 5 more", "sums"]);
    for height in 0..3 {
        let lines = laid_out(rows(5), 80, height);
        assert_eq!(lines.last().map(String::as_str), Some("sums"), "{height}");
    }
    assert_eq!(laid_out(Vec::new(), 80, 24), ["sums"]);
}

#[test]
fn wide_names_are_measured_right() {
    let lines = laid_out(vec![row(0, "漢字漢字", "9.5%"), row(0, "abcdefgh", "9.5%")], 80, 24);
    assert_eq!(measure_text_width(&lines[0]), measure_text_width(&lines[1]));
}

#[test]
fn every_stage_has_its_row() {
    let mut now = Snapshot {
        stage: Stage::Downloading,
        total: 2000,
        metadata: (1, 3),
        have: 500,
        checked: (50, 200),
        connected_peers: 2,
        active_peers: 1,
        known_peers: 2,
        ..Snapshot::default()
    };
    let mut rates = Rates::default();
    rates.update(Duration::ZERO, &now);
    let row =
        |now: &Snapshot, rates: &Rates| TorrentRow::of(3, "x".to_owned(), now, rates, (false, SeedGoal::default()));
    assert_eq!((row(&now, &rates).rank, row(&now, &rates).values[0].as_str()), (1, "25.0%"));
    (now.have, now.downloaded, now.uploaded) = (1500, 1000, 300);
    rates.update(Duration::from_secs(1), &now);
    let moving = row(&now, &rates);
    assert_eq!((moving.rank, moving.values[1].as_str(), moving.values[4].as_str()), (0, "down 1000 B/s", "peers 1/2"));
    for (stage, what, rank) in [
        (Stage::Starting, "starting", 1),
        (Stage::Metadata, "metadata 1/3", 1),
        (Stage::Checking, "checking 25.0%", 1),
        (Stage::Seeding, "seeding", 2),
        (Stage::Stopping, "stopping", 4),
    ] {
        now.stage = stage;
        assert_eq!((row(&now, &rates).values[0].as_str(), row(&now, &rates).rank), (what, rank));
    }
    now.stage = Stage::Downloading;
    let paused = TorrentRow::of(3, "x".to_owned(), &now, &rates, (true, SeedGoal::default()));
    assert_eq!((paused.values[0].as_str(), paused.values[1].as_str(), paused.rank), ("paused 75.0%", "", 3));
    let placeholder = |is_started| TorrentRow::placeholder(4, "y".to_owned(), is_started);
    let said = [false, true].map(placeholder).map(|row| (row.values[0].clone(), row.rank));
    assert_eq!(said, [("waiting".to_owned(), 5), ("loading".to_owned(), 1)]);
}

/// The view of three torrents, of which the torrent of `job` is selected.
fn selected(width: usize, height: usize, job: JobId) -> Vec<String> {
    let mut rows = vec![row(0, "debian.iso", "9.5%"), row(1, "ubuntu.iso", "0.0%"), row(5, "mint.iso", WAITING)];
    rows[0].bar = cells_of("██████░░░░░░▒▒▒▒▒▒░░░░░░");
    rows[2].values[1..].iter_mut().for_each(String::clear);
    let keys = vec!["p pause".to_owned()];
    layout(&rows, BatchFrame { totals: "sums".to_owned(), keys, selected: Some(job) }, PLAIN, width, height)
}

fn cells_of(bar: &str) -> Vec<Cell> {
    let cell = |sign| match sign {
        '█' => Cell::Verified,
        '▒' => Cell::InProgress,
        _ => Cell::Missing,
    };
    bar.chars().map(cell).collect()
}

#[test]
fn a_bar_and_a_mark_stand_where_there_is_room() {
    assert_eq!(
        selected(100, 24, 1),
        [
            "  debian.iso  ██████░░░░░░▒▒▒▒▒▒░░░░░░     9.5%  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7",
            "> ubuntu.iso                               0.0%  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7",
            "  mint.iso                              waiting",
            "sums",
            "p pause",
        ]
    );
    let narrow = selected(80, 24, 1);
    assert!(narrow[0].starts_with("  debian.iso  ███░░░▒▒▒░░░  "), "{narrow:?}");
    assert!(selected(70, 24, 1).concat().contains('█'), "peers and up go before it");
    assert!(!selected(36, 24, 1).concat().contains('█'));
}

#[test]
fn the_selected_torrent_is_always_on_the_screen() {
    for job in [0, 1, 5] {
        for height in 4..10 {
            let lines = selected(80, height, job);
            assert!(lines.iter().any(|line| line.starts_with("> ")), "{job} in {height} rows: {lines:?}");
            assert!(lines.len() < height, "{lines:?} in {height} rows");
        }
    }
    let low = selected(80, 4, 5);
    assert!(low[0].starts_with("> mint.iso") && low[1] == "+ 2 more", "{low:?}");
}

#[test]
fn colours_are_those_of_one_torrent() {
    let mut only = row(0, "a", "9.5%");
    only.bar = cells_of("██████░░░░░░▒▒▒▒▒▒░░░░░░");
    let frame = BatchFrame { totals: "sums".to_owned(), keys: vec!["keys".to_owned()], selected: Some(0) };
    let lines = layout(&[only], frame, Style::new(true, true), 100, 24).concat();
    for code in ["\x1b[1ma", "\x1b[32m█", "\x1b[33m▒", "\x1b[2mkeys"] {
        assert!(lines.contains(code), "{code:?} in {lines:?}");
    }
}

#[test]
fn the_sums_cover_all_torrents() {
    let counts = JobCounts { waiting: 5, downloading: 3, seeding: 1, complete: 2, failed: 1 };
    let mut all = Totals {
        counts,
        down: 1024.0,
        up: 0.0,
        have: 512 << 20,
        total: 1 << 30,
        eta: "5m 05s".to_owned(),
        ..Totals::default()
    };
    assert_eq!(
        totals(&all, 120),
        "3 of 12 complete  50.0%  0.5/1.0 GiB  down 1.0 KiB/s  up 0 B/s  eta over 5m 05s  5 waiting  1 failed"
    );
    assert_eq!(totals(&all, 60), "3 of 12 complete  down 1.0 KiB/s  eta over 5m 05s  1 failed");
    assert_eq!(totals(&all, 44), "3 of 12 complete  eta over 5m 05s  1 failed");
    assert_eq!(totals(&all, 20), "3 of 12 complete");
    all.counts.waiting = 0;
    assert!(totals(&all, 120).contains("eta 5m 05s"));
    let over = Totals { counts: JobCounts { complete: 2, ..JobCounts::default() }, ..Totals::default() };
    assert_eq!(totals(&over, 80), "2 of 2 complete  down 0 B/s  up 0 B/s");
}
