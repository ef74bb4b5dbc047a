use super::*;

fn row(rank: u8, name: &str, percent: &str) -> Row {
    let figures = [percent, "down 1.0 MiB/s", "up 0 B/s", "eta 4s", "peers 4/7"].map(str::to_owned);
    Row { rank, name: name.to_owned(), figures }
}

fn laid_out(rows: Vec<Row>, width: usize, height: usize) -> Vec<String> {
    let lines = layout(rows, "sums".to_owned(), width, height);
    assert!(lines.len() < height.max(2), "{lines:?} in {height} rows");
    lines
}

#[test]
fn those_that_move_come_first_and_figures_stand_below_each_other() {
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
fn a_narrow_terminal_loses_figures_before_names() {
    let long = || vec![row(0, &"x".repeat(60), "9.5%")];
    let line = |width| laid_out(long(), width, 24).remove(0);
    assert_eq!(line(200).len(), 40 + "  9.5%  down 1.0 MiB/s  up 0 B/s  eta 4s  peers 4/7".len());
    assert!(line(60).starts_with("xxxxx") && !line(60).contains("peers") && line(60).contains("eta"), "{}", line(60));
    assert!(line(40).contains("down") && !line(40).contains("eta"), "{}", line(40));
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
        downloaded: 0,
        uploaded: 0,
        total_uploaded: 0,
        wasted: 0,
        connected: 2,
        active: 1,
        known: 2,
    };
    let mut rates = Rates::default();
    rates.update(Duration::ZERO, &now);
    let row = |now: &Snapshot, rates: &Rates| Row::of("x".to_owned(), now, rates);
    assert_eq!((row(&now, &rates).rank, row(&now, &rates).figures[0].as_str()), (1, "25.0%"));
    (now.have, now.downloaded, now.uploaded) = (1500, 1000, 300);
    rates.update(Duration::from_secs(1), &now);
    let moving = row(&now, &rates);
    assert_eq!(
        (moving.rank, moving.figures[1].as_str(), moving.figures[4].as_str()),
        (0, "down 1000 B/s", "peers 1/2")
    );
    for (stage, what, rank) in [
        (Stage::Starting, "starting", 1),
        (Stage::Metadata, "metadata 1/3", 1),
        (Stage::Checking, "checking 25.0%", 1),
        (Stage::Seeding, "seeding", 2),
        (Stage::Stopping, "stopping", 4),
    ] {
        now.stage = stage;
        assert_eq!((row(&now, &rates).figures[0].as_str(), row(&now, &rates).rank), (what, rank));
    }
}

#[test]
fn the_sums_say_how_far_all_of_it_is() {
    let counts = Counts { waiting: 5, downloading: 3, seeding: 1, whole: 2, failed: 1 };
    assert_eq!(sums(counts, 1024.0, 0.0, 80), "3 of 12 whole  down 1.0 KiB/s  up 0 B/s  5 waiting  1 failed");
    assert_eq!(sums(counts, 1024.0, 0.0, 40), "3 of 12 whole  down 1.0 KiB/s  1 failed");
    assert_eq!(sums(counts, 1024.0, 0.0, 20), "3 of 12 whole");
    let counts = Counts { whole: 2, ..Counts::default() };
    assert_eq!(sums(counts, 0.0, 0.0, 80), "2 of 2 whole  down 0 B/s  up 0 B/s");
}
