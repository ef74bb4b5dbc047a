//! The live view on a real terminal (tmux), during a download that is held back block by block: the screen at any size, keys, job
//! control, and a terminal restored at the end.

use std::sync::Arc;

use crate::common::batch::Swarm;
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::tmux::Tmux;
use crate::common::tracker::Tracker;
use crate::common::{TestDir, free_port, until};

/// A terminal, and a download started from its shell that gets 20 of 160 blocks until its gate is opened.
struct TerminalTest {
    temp: TestDir,
    payload: Payload,
    gate: Arc<Gate>,
    tmux: Tmux,
    _rest: (FakePeer, Tracker),
}

/// The torrent's name, which the shell prompt never contains.
const NAME: &str = "forty.bin";

impl TerminalTest {
    /// A shell at its prompt. The script `run` starts the download with `options`, and with `more` in its environment.
    fn new(columns: usize, rows: usize, more: &str, options: &str) -> TerminalTest {
        let (temp, payload) = (TestDir::new(), Payload::single(NAME, 40 * 64 * 1024 - 1_234, 64 * 1024));
        let gate = Gate::new(20);
        let peer = FakePeer::honest(&payload, &gate);
        let tracker = Tracker::start(&[peer.addr]);
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let script = format!(
            "#!/bin/sh\nulimit -c 0\necho $$ >pid\nexec env XDG_CACHE_HOME=cache {more} {} {} out --listen-port {} --no-dht --no-lsd {options}\n",
            env!("CARGO_BIN_EXE_btsync"),
            torrent.display(),
            free_port(),
        );
        std::fs::write(temp.path("run"), script).expect("a script");
        let tmux = Tmux::start(&temp, columns, rows);
        TerminalTest { temp, payload, gate, tmux, _rest: (peer, tracker) }
    }

    /// A download that has received its 20 blocks and waits at the gate.
    fn halted(columns: usize, rows: usize) -> TerminalTest {
        let test = TerminalTest::new(columns, rows, "", "");
        test.tmux.types("stty -g >before; sh run; echo $? >code; stty -g >after");
        test.tmux.wait("some of it", |screen| has_its_blocks(screen) && screen.contains('█'));
        test
    }

    /// Opens the gate; the download must complete.
    fn completes(&self) {
        self.gate.open();
        self.ends(0);
        let found = std::fs::read(self.temp.path("out").join(NAME)).expect("the download");
        assert!(found == self.payload.content(), "the download differs");
    }

    /// The program must end with this exit code and restore the terminal.
    fn ends(&self, code: i32) {
        let said = |name| std::fs::read_to_string(self.temp.path(name)).unwrap_or_default();
        until("the end", || said("after").ends_with('\n'));
        assert_eq!(said("code"), format!("{code}\n"), "{}", self.tmux.screen());
        assert_eq!(said("before"), said("after"), "the terminal is not as it was");
        self.tmux.wait("the prompt", |screen| screen.trim_end().ends_with('$'));
    }
}

/// Whether the 20 blocks are there; the one at the end of the file is shorter.
fn has_its_blocks(screen: &str) -> bool {
    screen.contains("12.5%") || screen.contains("12.4%")
}

/// How often `words` occurs on the screen.
fn count(screen: &str, words: &str) -> usize {
    screen.matches(words).count()
}

#[test]
fn a_download_is_seen_at_any_size() {
    for (columns, rows) in [(80, 24), (20, 6), (132, 50), (20, 2)] {
        let test = TerminalTest::new(columns, rows, "", "");
        test.tmux.types("stty -g >before; clear; sh run; echo $? >code; stty -g >after");
        test.tmux.wait("some of it", has_its_blocks);
        // The screen may show a part of a change.
        if rows > 2 {
            let map = |line: &str| line.chars().count() == columns && line.chars().all(|c| "█▆▄▂▒░×".contains(c));
            let has_map = |screen: &str| screen.lines().any(map) && count(screen, "forty") == 1;
            test.tmux.wait(&format!("a map over {columns} columns, and one name"), has_map);
        }
        if rows >= 24 {
            let all = ["127.0.0.1:", "peers 1/1", "q quit", "tracker 1 peer"];
            test.tmux.wait("the peer and the tracker", |screen| all.iter().all(|words| screen.contains(words)));
        }
        test.completes();
        if rows > 6 {
            let screen = test.tmux.screen();
            assert!(screen.contains("downloaded 2.5 MiB") && !screen.contains("q quit"), "{screen}");
            assert_eq!(count(&screen, NAME), 1, "three lines remain:\n{screen}");
        }
    }
}

#[test]
fn a_terminal_may_change_its_size() {
    let test = TerminalTest::halted(80, 24);
    for (columns, rows) in [(120, 40), (40, 12), (20, 4), (100, 30)] {
        test.tmux.resize(columns, rows);
        let map = |line: &str| line.chars().count() == columns && line.chars().all(|c| "█▆▄▂▒░×".contains(c));
        let fits = |screen: &str| screen.lines().filter(|line| map(line)).count() == 1;
        test.tmux.wait(&format!("a map over {columns} columns"), fits);
    }
    test.completes();
}

#[test]
fn keys_show_and_steer() {
    let test = TerminalTest::halted(80, 24);
    let tmux = &test.tmux;
    tmux.press(&["f"]);
    tmux.wait("files", |screen| screen.contains("files: 0 of 1 are complete") && !screen.contains("127.0.0.1:"));
    tmux.press(&["f"]);
    tmux.wait("peers", |screen| screen.contains("127.0.0.1:") && !screen.contains("files: 0"));
    tmux.press(&["?"]);
    tmux.wait_for_text("I incoming");
    tmux.press(&["?", "l"]);
    tmux.wait("a limit", |screen| screen.contains("limit 5.0 MiB/s each way") && !screen.contains("I incoming"));
    tmux.press(&["l", "l"]);
    tmux.wait_for_text("limit 200.0 KiB/s each way");
    tmux.press(&["l"]);
    tmux.wait("no limit", |screen| !screen.contains("each way"));
    tmux.press(&["s"]);
    tmux.wait_for_text("connection attempts: 1 reached");
    tmux.press(&["p"]);
    tmux.wait("a pause", |screen| {
        screen.contains("[paused]") && screen.contains("p continue") && screen.contains("until you press p")
    });
    // Arrow keys have no function, whatever bytes they send.
    tmux.press(&["Up", "p", "s"]);
    tmux.wait("no pause", |screen| screen.contains("p pause") && !screen.contains("connection attempts: 1"));
    test.completes();
}

#[test]
fn q_and_ctrl_c_end_the_download_alike() {
    for key in ["q", "C-c"] {
        let test = TerminalTest::halted(80, 24);
        test.tmux.press(&[key]);
        // bash skips the rest of a line after Ctrl-C only if the program dies of the signal; btsync does not.
        test.ends(7);
        let screen = test.tmux.screen();
        assert!(screen.contains("the same command resumes") && count(&screen, NAME) == 1, "{screen}");
    }
}

#[test]
fn the_terminal_is_restored_after_every_signal() {
    for (signals, code) in [(&["TERM"][..], 7), (&["HUP"], 7), (&["INT", "INT"], 7), (&["QUIT"], 131)] {
        let test = TerminalTest::halted(80, 24);
        // The key works, so btsync controls the terminal.
        test.tmux.press(&["f"]);
        test.tmux.wait_for_text("files: 0 of 1");
        let pid = std::fs::read_to_string(test.temp.path("pid")).expect("its process id");
        for signal in signals {
            let kill = format!("kill -{signal} {}", pid.trim());
            // The process may already be gone.
            let _ = std::process::Command::new("sh").args(["-c", &kill]).output().expect("sh");
        }
        test.ends(code);
    }
}

#[test]
fn the_live_view_can_be_stopped_and_continued() {
    let test = TerminalTest::new(80, 24, "", "");
    test.tmux.types("sh run");
    test.tmux.wait("some of it", |screen| has_its_blocks(screen) && screen.contains("q quit"));
    test.tmux.press(&["C-z"]);
    test.tmux.wait_for_text("Stopped");
    test.tmux.types("clear; stty -g >stopped; echo the shell $((1 + 1))");
    test.tmux.wait_for_text("the shell 2");
    test.tmux.types("fg");
    test.tmux.wait_for_text("q quit");
    test.tmux.press(&["?"]);
    let screen = test.tmux.wait_for_text("I incoming");
    assert!(screen.contains("the shell 2"), "the shell's words are written over:\n{screen}");
    test.tmux.press(&["q"]);
    test.tmux.wait_for_text("the same command resumes");
}

#[test]
fn in_the_background_the_live_view_takes_no_keys_and_the_download_goes_on() {
    let test = TerminalTest::new(80, 24, "", "");
    test.tmux.types("sh run &");
    until("it has begun", || test.gate.served() == 20);
    test.tmux.types("echo typed $((1 + 1))");
    let screen = test.tmux.wait_for_text("typed 2");
    assert!(!screen.contains("q quit"), "{screen}");
    test.gate.open();
    test.tmux.types("wait; jobs; echo over $((1 + 2))");
    let screen = test.tmux.wait_for_text("over 3");
    assert!(!screen.contains("Stopped"), "{screen}");
    let found = std::fs::read(test.temp.path("out").join(NAME)).expect("the download");
    assert!(found == test.payload.content(), "the download differs");
}

#[test]
fn several_draw_only_while_the_terminal_is_theirs() {
    let test = TerminalTest::new(80, 24, "", "-i list");
    std::fs::write(test.temp.path("list"), "http://127.0.0.1:9/missing.torrent\n").expect("a list");
    test.tmux.types("sh run &");
    until("it has begun", || test.gate.served() == 20);
    test.tmux.wait_for_text("127.0.0.1:9");
    test.tmux.types("echo typed $((1 + 1))");
    let screen = test.tmux.wait_for_text("typed 2");
    assert!(!screen.contains("0 of 2 complete"), "{screen}");
    test.tmux.types("fg");
    test.tmux.wait_for_text("0 of 2 complete");
    test.gate.open();
    test.tmux.wait_for_text("1 torrent is complete, 1 incomplete");
}

/// Two downloads run and a third waits. Each has a row, and keys act on the selected one.
#[test]
fn several_are_selected_paused_and_inspected() {
    let temp = TestDir::new();
    let swarms = ["one.bin", "two.bin", "three.bin"].map(|name| {
        let payload = Payload::single(name, 20 * 32 * 1024, 32 * 1024);
        Swarm::with_payload(&temp, payload, 4)
    });
    let script = format!(
        "exec env XDG_CACHE_HOME=cache {} one.torrent two.torrent three.torrent out --max-concurrent 2 --no-dht --no-lsd --listen-port {}\n",
        env!("CARGO_BIN_EXE_btsync"),
        free_port(),
    )
    .replace(".torrent", ".bin.torrent");
    std::fs::write(temp.path("run"), script).expect("a script");
    let tmux = Tmux::start(&temp, 110, 24);
    tmux.types("stty -g >before; sh run; echo $? >code; stty -g >after");
    let row = |screen: &str, name: &str| screen.lines().find(|line| line.contains(name)).unwrap_or("").to_owned();
    let is_selected = |screen: &str, name: &str| row(screen, name).starts_with("> ");
    let screen = tmux.wait("three rows", |screen| {
        let runs = ["one.bin", "two.bin"].iter().all(|name| row(screen, name).contains("10.0%"));
        let is_whole = row(screen, "one.bin").contains('█') && screen.contains("0 of 3 complete  10.0%");
        let waits = row(screen, "three.bin").contains("waiting") && screen.contains("enter: details");
        runs && is_whole && waits && ["one.bin", "two.bin"].iter().any(|name| is_selected(screen, name))
    });
    // The order of the two depends on their progress; the third has not started yet.
    let first = if is_selected(&screen, "one.bin") { "one.bin" } else { "two.bin" };
    tmux.press(&["p"]);
    let is_paused = |screen: &str| row(screen, first).contains("paused 10.0%");
    tmux.wait("a pause of only that one", |screen| is_paused(screen) && count(screen, "paused") == 1);
    tmux.press(&["p"]);
    tmux.wait("no pause", |screen| !screen.contains("paused 10"));
    tmux.press(&["Down", "Down", "Down"]);
    tmux.wait("the last", |screen| is_selected(screen, "three.bin"));
    tmux.press(&["Up", "Up", "Up"]);
    tmux.wait("the first", |screen| !is_selected(screen, "three.bin"));
    tmux.press(&["Enter"]);
    let is_of_one = |screen: &str| screen.contains("127.0.0.1:") && !screen.contains("three.bin");
    tmux.wait("all of one torrent", |screen| screen.contains("enter: all torrents") && is_of_one(screen));
    tmux.press(&["f"]);
    tmux.wait_for_text("files: 0 of 1");
    tmux.press(&["Enter"]);
    tmux.wait("all of them", |screen| row(screen, "three.bin").contains("waiting"));
    tmux.press(&["l"]);
    tmux.press(&["P"]);
    tmux.wait("both paused", |screen| count(screen, "paused 10.0%") == 2);
    tmux.press(&["P"]);
    tmux.wait("none paused", |screen| count(screen, "paused") == 0);
    for swarm in &swarms {
        swarm.gate.open();
    }
    tmux.wait_for_text("3 torrents are complete");
    let said = |name: &str| std::fs::read_to_string(temp.path(name)).unwrap_or_default();
    until("the end", || said("after").ends_with('\n'));
    assert_eq!((said("code").as_str(), said("after")), ("0\n", said("before")));
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("out"));
    }
}

#[test]
fn the_live_view_comes_to_the_foreground_with_its_keys() {
    let test = TerminalTest::new(80, 24, "", "");
    test.tmux.types("sh run & clear");
    until("it has begun", || test.gate.served() == 20);
    test.tmux.types("fg");
    test.tmux.wait_for_text("q quit");
    // btsync reads the keyboard again with the next redraw. Until then the shell gets the key.
    until("a key is heard", || {
        test.tmux.press(&["f"]);
        test.tmux.screen().contains("files: 0 of 1")
    });
    test.tmux.press(&["q"]);
    test.tmux.wait_for_text("the same command resumes");
}

#[test]
fn colours_are_left_out_where_nobody_wants_them() {
    let coloured = TerminalTest::halted(80, 24);
    until("there are colours", || coloured.tmux.colours().contains("\x1b[32m"));
    coloured.completes();
    let plain = TerminalTest::new(80, 24, "NO_COLOR=1", "");
    plain.tmux.types("sh run");
    plain.tmux.wait("some of it", |screen| has_its_blocks(screen) && screen.contains('█'));
    assert!(!plain.tmux.colours().contains("\x1b["), "{:?}", plain.tmux.colours());
}

#[test]
fn a_dumb_terminal_and_the_option_plain_get_plain_lines() {
    for (environment, options) in [("TERM=dumb", ""), ("", "--plain")] {
        let test = TerminalTest::new(100, 30, environment, options);
        test.tmux.types("sh run; echo ended $?");
        let screen = test.tmux.wait_for_text("forty.bin 12.");
        assert!(!screen.contains("q quit") && !screen.contains('█'), "{screen}");
        test.tmux.press(&["C-c"]);
        let screen = test.tmux.wait_for_text("ended 7");
        assert!(screen.contains("btsync: stopped at "), "{screen}");
    }
}

#[test]
fn a_terminal_that_vanishes_ends_the_download() {
    let test = TerminalTest::halted(80, 24);
    let pid = std::fs::read_to_string(test.temp.path("pid")).expect("its process id");
    let process = std::path::Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    test.tmux.close_terminal();
    until("it is gone", || !process.exists());
    assert!(test.temp.path("out").join(NAME).exists());
}
