//! Several torrents in one run: named on the command line, in a list or by URL; one at a time; failures among them; how the run
//! ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use crate::common::batch::{Swarm, code, events, gzipped, offline_btsync, stderr};
use crate::common::extended_peer::ExtendedPeer;
use crate::common::payload::Payload;
use crate::common::web::{Page, WebServer};
use crate::common::{TestDir, free_port, until};
use serde_json::Value;

#[test]
fn two_torrents_come_at_once() {
    let temp = TestDir::new();
    let swarms = ["one", "two"].map(|name| Swarm::new(&temp, name, 3));
    let mut command = offline_btsync(&temp);
    command.args(swarms.iter().map(|swarm| &swarm.torrent)).arg("out");
    let mut running = temp.start("fleet", &mut command);
    until("both are under way", || swarms.iter().all(|swarm| swarm.gate.served() == 3));
    for swarm in &swarms {
        swarm.gate.open();
    }
    running.expect_exit(0);
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("out"));
    }
    let log = running.log();
    for line in ["one: complete", "two: complete", "2 torrents are complete"] {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn a_failing_torrent_stops_no_other_and_the_first_failure_is_the_exit_code() {
    let temp = TestDir::new();
    let swarms = ["one", "two"].map(|name| Swarm::new(&temp, name, usize::MAX));
    for name in ["taken", "also"] {
        Swarm::new(&temp, name, usize::MAX);
        fs::write(temp.folder("out").join(name), "mine").expect("a file");
    }
    let names = ["one.torrent", "taken.torrent", "two.torrent", "also.torrent"];
    fs::write(temp.path("list"), names.join("\n")).expect("a file");
    let output = offline_btsync(&temp).args(["-i", "list", "out", "--json"]).output().expect("btsync runs");
    let said = stderr(&output);
    assert_eq!(code(&output), Some(13), "{said}");
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("out"));
    }
    for line in
        ["will not write to out/taken: ", "will not write to out/also: ", "2 torrents are complete, 2 incomplete"]
    {
        assert!(said.contains(line), "no {line:?}: {said}");
    }
    let errors: Vec<Value> = events(&output).into_iter().filter(|line| line["event"] == "error").collect();
    let mut codes: Vec<_> = errors.iter().map(|error| error["code"].as_u64().expect("a code")).collect();
    codes.sort_unstable();
    assert_eq!(codes, [13, 13], "{errors:?}");
    assert!(errors.iter().any(|error| error["name"] == "taken"), "{errors:?}");
}

/// The names come from the command line, or from a list.
#[test]
fn nothing_begins_where_one_of_several_names_is_none_of_a_torrent() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    fs::write(temp.path("text.torrent"), "hello").expect("a file");
    for (name, expected) in [("missing.torrent", 15), ("text.torrent", 25), ("magnet:?xt=urn:btih:x", 27)] {
        fs::write(temp.path("list"), format!("one.torrent\n{name}\n")).expect("a list");
        for words in [&["-i", "list"][..], &["one.torrent", name]] {
            let output = offline_btsync(&temp).args(words).args(["-d", "out"]).output().expect("btsync runs");
            let said = stderr(&output);
            assert_eq!(code(&output), Some(expected), "{words:?}: {said}");
            assert!(said.contains("nothing was started"), "{words:?}: {said}");
            assert!(!swarm.has_announces() && !temp.path("out").exists(), "{words:?}: {said}");
        }
    }
}

#[test]
fn a_list_names_torrents_from_a_file_and_from_standard_input() {
    let temp = TestDir::new();
    let swarms = ["one", "two words", "three"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let list = "# two of them\none.torrent\n\n  two words.torrent\r\n";
    fs::write(temp.path("list"), list).expect("a list");
    let output = offline_btsync(&temp).args(["-i", "list", "three.torrent", "here"]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("here"));
    }

    let mut command = offline_btsync(&temp);
    command.args(["--input-file=-", "there"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("btsync runs");
    child.stdin.take().expect("its stdin").write_all(list.as_bytes()).expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for swarm in &swarms[..2] {
        swarm.assert_complete_in(&temp.path("there"));
    }

    for (text, expected) in [("", 28), ("one.torrent\nftp://h/x", 28), ("one.torrent\n dir=x", 28)] {
        fs::write(temp.path("bad"), text).expect("a list");
        let output = offline_btsync(&temp).args(["-i", "bad"]).output().expect("btsync runs");
        assert_eq!(code(&output), Some(expected), "{text:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("bad"), "{}", stderr(&output));
    }
    let output = offline_btsync(&temp).args(["-i", "nothing"]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(15), "{}", stderr(&output));
}

/// Each event of two downloads names its torrent. With one download at a time, they run in the order of their names.
#[test]
fn one_at_a_time_is_in_order_and_each_event_has_its_torrent() {
    let temp = TestDir::new();
    let swarms = ["one", "two", "three"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let hook = "echo $BTSYNC_NAME >> told";
    let mut command = offline_btsync(&temp);
    command.args(["one.torrent", "two.torrent", "one.torrent", "three.torrent", "out", "--max-concurrent=1", "--json"]);
    let output = command.args(["--on-download-complete", hook]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let events = events(&output);
    let hash = |name: &Value| swarms.iter().find(|swarm| swarm.payload.name == *name).map(|swarm| swarm.payload.hex());
    assert!(events.iter().all(|line| hash(&line["name"]).as_deref() == line["info_hash"].as_str()), "{events:?}");
    let steps = events.iter().filter(|line| line["event"] == "started" || line["event"] == "complete");
    let steps: Vec<_> = steps.map(|line| (line["event"].as_str().unwrap(), line["name"].as_str().unwrap())).collect();
    let each = |name| [("started", name), ("complete", name)];
    assert_eq!(steps, [each("one"), each("two"), each("three")].concat());
    assert_eq!(events.iter().filter(|line| line["event"] == "done").count(), 3);
    let times: Vec<_> = events.iter().map(|line| line["time"].as_f64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| *a <= b + 0.01), "one clock for all: {times:?}");
    let told = fs::read_to_string(temp.path("told")).expect("the command ran");
    let mut told: Vec<_> = told.lines().collect();
    told.sort_unstable();
    assert_eq!(told, ["one", "three", "two"]);
    assert!(stderr(&output).contains("one.torrent: this torrent is named twice"), "{}", stderr(&output));
}

#[test]
fn seeding_torrents_do_not_delay_others() {
    let temp = TestDir::new();
    let swarms = ["one", "two"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let mut command = offline_btsync(&temp);
    command.args(["one.torrent", "two.torrent", "out", "--seed", "--max-concurrent", "1"]);
    let mut running = temp.start("fleet", &mut command);
    let whole = |swarm: &Swarm| swarm.tracker.announces().iter().any(|announce| announce.event == "completed");
    until("both are whole", || swarms.iter().all(whole));
    running.terminate(0);
    until("the trackers have read that both stop", || swarms.iter().all(Swarm::announced_stopped));
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("out"));
    }
}

#[test]
fn a_stop_ends_all_with_7_and_begins_no_more() {
    ["INT", "TERM", "HUP"].into_iter().for_each(a_stop_by);
}

fn a_stop_by(signal: &str) {
    let temp = TestDir::new();
    let swarms = ["one", "two", "three"].map(|name| Swarm::new(&temp, name, 1));
    let mut command = offline_btsync(&temp);
    command.args(["one.torrent", "two.torrent", "three.torrent", "out", "--max-concurrent", "2"]);
    let mut running = temp.start("fleet", &mut command);
    until("two are under way", || swarms[..2].iter().all(|swarm| swarm.gate.served() == 1));
    running.signal(signal);
    running.expect_exit(7);
    until("the trackers have read that both stop", || swarms[..2].iter().all(Swarm::announced_stopped));
    assert!(!swarms[2].has_announces());
    let log = running.log();
    for line in
        ["btsync: one: stopped at", "btsync: two: stopped at", "0 torrents are complete, 2 incomplete, 1 not started"]
    {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn no_two_torrents_write_to_the_same_file() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    let other = Payload::single("one", 5000, 16 * 1024);
    fs::write(temp.path("other.torrent"), other.torrent("")).expect("a torrent file");
    let mut command = offline_btsync(&temp);
    let output = command.args(["one.torrent", "other.torrent", "out", "--max-concurrent=1"]).output().expect("it runs");
    assert_eq!(code(&output), Some(13), "{}", stderr(&output));
    assert!(stderr(&output).contains("btsync: one: two torrents would write to the same file"), "{}", stderr(&output));
    swarm.assert_complete_in(&temp.path("out"));
    let output =
        offline_btsync(&temp).args(["one.torrent", "other.torrent", "more", "--out", "1=x"]).output().expect("it runs");
    assert_eq!(code(&output), Some(28), "{}", stderr(&output));
    assert!(stderr(&output).contains("--out") && !temp.path("more").exists(), "{}", stderr(&output));
}

/// The first torrent takes much longer to read, but is not refused for that.
#[test]
fn the_second_of_two_torrents_that_write_to_one_file_is_refused() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    let first = fs::read(temp.path("one.torrent")).expect("a torrent file");
    let info = first.windows(6).position(|key| key == b"4:info").expect("an info dictionary");
    let comment = format!("7:comment{}:{}", 8 << 20, "x".repeat(8 << 20));
    fs::write(temp.path("one.torrent"), [&first[..info], comment.as_bytes(), &first[info..]].concat()).expect("a file");
    let other = Payload::single("one", 5000, 16 * 1024);
    fs::write(temp.path("other.torrent"), other.torrent("")).expect("a torrent file");
    for out in ["a", "b", "c"] {
        let output = offline_btsync(&temp).args(["one.torrent", "other.torrent", out]).output().expect("it runs");
        assert_eq!(code(&output), Some(13), "{}", stderr(&output));
        let refused = "btsync does not download other.torrent together with one.torrent";
        assert!(stderr(&output).contains(refused), "{}", stderr(&output));
        swarm.assert_complete_in(&temp.path(out));
    }
}

/// For example one set of files on two trackers: btsync writes nothing, so the torrents do not conflict.
#[test]
fn two_complete_torrents_share_a_file() {
    let temp = TestDir::new();
    let payloads = [16 * 1024, 32 * 1024].map(|piece| Payload::of("same", &vec![7; 100_000], piece));
    for (payload, name) in payloads.iter().zip(["a.torrent", "b.torrent"]) {
        fs::write(temp.path(name), payload.torrent("")).expect("a torrent file");
    }
    let out = temp.folder_with("out", &payloads[0]);
    let output = offline_btsync(&temp).args(["a.torrent", "b.torrent"]).arg(&out).output().expect("it runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
}

/// The files of a magnet link are known late, and the first torrent's file still exists when that one is complete.
#[test]
fn no_two_links_write_to_the_same_file() {
    let temp = TestDir::new();
    let payloads = [100_000, 200_000].map(|size| Payload::single("same", size, 16 * 1024));
    let talkers = payloads.each_ref().map(|payload| ExtendedPeer::honest(payload, || true));
    let links: Vec<_> =
        payloads.iter().zip(&talkers).map(|(of, at)| of.magnet(&format!("&x.pe={}", at.addr()))).collect();
    let mut command = offline_btsync(&temp);
    let output = command.args(&links).args(["out", "--max-concurrent=1"]).output().expect("it runs");
    assert_eq!(code(&output), Some(13), "{}", stderr(&output));
    assert!(stderr(&output).contains("two torrents would write to the same file, same"), "{}", stderr(&output));
    payloads[0].assert_at(&temp.path("out"));
}

/// While it is incomplete, a file of one torrent has the name of a file of the other.
#[test]
fn no_torrent_gives_an_incomplete_file_the_name_of_anothers_file() {
    for names in [["a.torrent", "b.torrent"], ["b.torrent", "a.torrent"]] {
        let temp = TestDir::new();
        for (name, file) in [("a.torrent", "x"), ("b.torrent", "x.part")] {
            let payload = Payload::tree("t", &[(file, 50_000)], 16 * 1024);
            fs::write(temp.path(name), payload.torrent("")).expect("a torrent file");
        }
        let mut command = offline_btsync(&temp);
        command.args(names).args(["out", "--incomplete-suffix", ".part", "--stop-timeout", "1"]);
        let output = command.output().expect("it runs");
        let said = stderr(&output);
        assert!(said.contains("two torrents would write to the same file, t/x.part: "), "{said}");
        let own = if names[0] == "a.torrent" { "x.part" } else { "x.part.part" };
        let files: Vec<_> =
            fs::read_dir(temp.path("out/t")).expect("a folder").flatten().map(|it| it.file_name()).collect();
        assert_eq!(files, [own], "the second one created nothing");
    }
}

#[test]
fn limits_hold_for_all_and_are_lifted_for_all() {
    let temp = TestDir::new();
    let swarms = ["one", "two"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let mut command = offline_btsync(&temp);
    command.args(["one.torrent", "two.torrent", "out", "--max-download-limit", "1K"]);
    let mut running = temp.start("fleet", &mut command);
    until("blocks are on their way", || swarms.iter().all(|swarm| swarm.gate.served() > 0));
    assert!(running.is_running(), "done without a lift");
    running.signal("USR1");
    running.expect_exit(0);
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("out"));
    }
}

#[test]
fn a_torrent_comes_by_its_url() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    let web = WebServer::start(&[
        ("/one.torrent", Page::Bytes(swarm.bytes())),
        ("/gzip", Page::Gzip(gzipped(&temp, &swarm.bytes()))),
        ("/moved", Page::Redirect("/one.torrent?key=1".into())),
    ]);
    for (number, path) in ["/one.torrent", "/gzip", "/moved", "/one.torrent?key=secret#x"].iter().enumerate() {
        let (out, keep) = (format!("out{number}"), format!("keep{number}.torrent"));
        let mut command = offline_btsync(&temp);
        let output = command.args([&web.url(path), &out, "--save-torrent", &keep]).output().expect("btsync runs");
        assert_eq!(code(&output), Some(0), "{path}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("torrent file saved as {keep}")), "{}", stderr(&output));
        swarm.assert_complete_in(&temp.path(&out));
        assert!(fs::read(temp.path(&keep)).expect("it is kept") == swarm.bytes(), "byte for byte");
    }
    // One among several, whose .torrent files are kept in a folder.
    let two = Swarm::new(&temp, "two", usize::MAX);
    let kept = temp.folder("kept").join(format!("{}.torrent", swarm.payload.hex()));
    let mut command = offline_btsync(&temp);
    command.args([&web.url("/moved"), "two.torrent", "both", "--save-torrent", "kept", "--json"]);
    let output = command.output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(events(&output).iter().any(|line| line["event"] == "note" && line["name"] == "one"));
    assert!(fs::read(kept).expect("it is kept") == swarm.bytes());
    for swarm in [swarm, two] {
        swarm.assert_complete_in(&temp.path("both"));
    }
    let output =
        offline_btsync(&temp).args(["one.torrent", "two.torrent", "--save-torrent", "x"]).output().expect("it runs");
    assert_eq!(code(&output), Some(28), "{}", stderr(&output));
}

#[test]
fn a_url_that_brings_no_torrent_has_its_code() {
    let temp = TestDir::new();
    let web = WebServer::start(&[
        ("/page", Page::Bytes(b"<html>".to_vec())),
        ("/other", Page::Bytes(b"d3:onei1ee".to_vec())),
        ("/endless", Page::Endless),
        ("/round", Page::Redirect("/round".into())),
        ("/file", Page::Redirect("file:///etc/passwd".into())),
        ("/bad-gzip", Page::Gzip(b"d3:onei1ee".to_vec())),
        ("/broken", Page::Status(500)),
    ]);
    let refused = format!("http://127.0.0.1:{}/x.torrent", free_port());
    let url = |path| web.url(path);
    let table = [
        (url("/page"), 25, "web page"),
        (url("/other"), 26, "not a torrent"),
        (url("/endless"), 26, "too large"),
        (url("/round"), 6, "too many"),
        (url("/file"), 6, "scheme \"file\""),
        (url("/bad-gzip"), 6, ""),
        (url("/broken"), 6, "HTTP status 500"),
        (url("/missing"), 6, "HTTP status 404"),
        (refused, 6, "connection failed"),
        ("http://btsync-test.invalid/x.torrent".to_owned(), 19, "btsync-test.invalid cannot be resolved"),
    ];
    for (url, expected, words) in table {
        let output = offline_btsync(&temp).args([&format!("{url}?key=secret"), "out"]).output().expect("btsync runs");
        let said = stderr(&output);
        assert_eq!(code(&output), Some(expected), "{url}: {said}");
        let host: String = url.split_inclusive('/').take(3).collect();
        assert!(said.contains(host.trim_end_matches('/')) && said.contains(words), "{url}: {said}");
        assert!(!said.contains("secret"), "{url}: {said}");
        assert_eq!(said.lines().count(), 1, "{url}: {said}");
        assert!(!temp.path("out").exists());
    }
}

#[test]
fn a_process_that_waits_for_a_server_can_be_stopped() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    let web = WebServer::start(&[("/", Page::Silence)]);
    let mut alone = temp.start("alone", offline_btsync(&temp).args([&web.url("/"), "out"]));
    until("the server is asked", || web.request_count() == 1);
    alone.terminate(7);
    let mut several = temp.start("several", offline_btsync(&temp).args([&web.url("/"), "one.torrent", "out"]));
    several.wait_for_output("one: complete");
    until("the server is asked again", || web.request_count() == 2);
    several.terminate(7);
    swarm.assert_complete_in(&temp.path("out"));
}

#[test]
fn a_process_that_waits_for_a_pipe_can_be_stopped() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    let mut command = offline_btsync(&temp);
    command.args(["-", "one.torrent", "out"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("btsync runs");
    let (_open, said) = (child.stdin.take(), BufReader::new(child.stderr.take().expect("its stderr")));
    assert!(said.lines().map_while(Result::ok).any(|line| line.starts_with("one: complete")));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("it runs");
    until("the end", || child.try_wait().expect("a child").is_some());
    assert_eq!(child.wait().expect("it ended").code(), Some(7));
    swarm.assert_complete_in(&temp.path("out"));
}

#[test]
fn a_process_that_waits_for_the_pipe_of_a_single_torrent_can_be_stopped() {
    let temp = TestDir::new();
    let mut command = offline_btsync(&temp);
    let mut child = command.args(["-", "out"]).stdin(Stdio::piped()).spawn().expect("btsync runs");
    let _open = child.stdin.take();
    let status = format!("/proc/{}/status", child.id());
    let is_caught = || {
        let status = fs::read_to_string(&status).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        let mask = u64::from_str_radix(caught.trim(), 16).expect("hexadecimal digits");
        mask & 1 << (rustix::process::Signal::TERM.as_raw() - 1) != 0
    };
    until("it watches for signals", is_caught);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("it runs");
    assert_eq!(child.wait().expect("it ended").code(), Some(7));
}

/// On a terminal each torrent has a row, and one more row has the totals.
#[test]
fn a_terminal_shows_a_line_for_each() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    let temp = TestDir::new();
    let swarms = ["one", "two", "three"].map(|name| Swarm::new(&temp, name, 2));
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    tcsetwinsize(&ours, Winsize { ws_row: 4, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 }).expect("its size");
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs = fs::File::options().read(true).write(true).open(path).expect("the terminal's other end");
    let mut command = offline_btsync(&temp);
    command.args(swarms.iter().map(|swarm| &swarm.torrent)).arg("out").env("TERM", "xterm").stderr(theirs);
    let mut child = command.spawn().expect("btsync runs");
    drop(command); // it also holds the terminal's other end
    let mut file = fs::File::from(ours);
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // Reading a closed terminal fails.
    while let Ok(count @ 1..) = std::io::Read::read(&mut file, &mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&shown);
        // Four rows have room for one torrent and the totals; one more row stays free.
        if text.contains("+ 2 more") && text.contains("0 of 3 complete") {
            for swarm in &swarms {
                swarm.gate.open();
            }
        }
    }
    let text = String::from_utf8_lossy(&shown);
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{text}");
    assert!(text.contains("one: complete") && text.trim_end().ends_with("3 torrents are complete"), "{text}");
    for swarm in &swarms {
        swarm.assert_complete_in(&temp.path("out"));
    }
}

/// A torrent in every form in which users have it.
#[test]
fn a_torrent_may_be_packed_a_file_url_or_where_a_redirect_leads() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    let packed = gzipped(&temp, &swarm.bytes());
    fs::write(temp.path("packed.torrent"), &packed).expect("a file");
    fs::write(temp.path("a blank.torrent"), swarm.bytes()).expect("a file");
    let web = WebServer::start(&[
        ("/packed", Page::Bytes(packed)),
        ("/elsewhere", Page::Redirect("/ä b.torrent".to_owned())),
        ("/%C3%A4%20b.torrent", Page::Bytes(swarm.bytes())),
    ]);
    let file_url = format!("file://{}", temp.path("a blank.torrent").display()).replace(' ', "%20");
    for (n, name) in ["packed.torrent", &file_url, &web.url("/packed"), &web.url("/elsewhere")].into_iter().enumerate()
    {
        let out = format!("out{n}");
        let output = offline_btsync(&temp).args([name, &out]).output().expect("btsync runs");
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        swarm.assert_complete_in(&temp.path(&out));
    }
    let output = offline_btsync(&temp).arg("file://elsewhere.example/x.torrent").output().expect("btsync runs");
    assert_eq!(code(&output), Some(28), "{}", stderr(&output));
    // A torrent that unpacks to too much is refused.
    fs::write(temp.path("bomb.torrent"), gzipped(&temp, &vec![b'0'; 40 << 20])).expect("a file");
    let output = offline_btsync(&temp).arg("bomb.torrent").output().expect("btsync runs");
    assert_eq!(code(&output), Some(26), "{}", stderr(&output));
}

#[test]
fn a_bare_hash_and_a_redirect_to_a_link_are_links() {
    let temp = TestDir::new();
    let [hashed, linked] = ["hashed", "linked"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let link = linked.payload.magnet(&format!("&tr={}", linked.tracker.url("127.0.0.1")));
    let web = WebServer::start(&[("/link", Page::Redirect(link))]);
    // Their seeders do not send metadata.
    let tracker = hashed.tracker.url("127.0.0.1");
    let given = [hashed.payload.hex(), "--bt-tracker".to_owned(), tracker];
    let mut running = temp.start("hash", offline_btsync(&temp).args(given));
    until("its tracker is asked", || hashed.has_announces());
    running.terminate(7);
    let mut running = temp.start("link", offline_btsync(&temp).arg(web.url("/link")));
    until("its tracker is asked", || linked.has_announces());
    running.terminate(7);
}

#[test]
fn ignored_trackers_and_unreachable_peers_are_reported() {
    let temp = TestDir::new();
    let payload = Payload::single("one", 100_000, 32 * 1024);
    fs::write(temp.path("x.torrent"), payload.torrent("wss://tracker.example/announce")).expect("a torrent");
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut command = offline_btsync(&temp);
    // Enough time for a connection that is refused, on a busy machine.
    let output = command.args(["x.torrent", "--peer", &nobody, "--stop-timeout=15"]).output().expect("btsync runs");
    let said = stderr(&output);
    assert_eq!(code(&output), Some(2), "{said}");
    assert!(said.contains("ignores trackers") && said.contains("wss://tracker.example"), "{said}");
    assert!(said.contains(" unreachable") && !said.contains("no peer is known"), "{said}");
}

/// With one download at a time, a torrent that has failed is not started again under its second name, whether that is the same
/// name or that of a copy.
#[test]
fn a_torrent_that_failed_is_not_begun_again_by_its_second_name() {
    let temp = TestDir::new();
    let payloads = ["one", "two"].map(|name| Payload::single(name, 3000, 16 * 1024));
    for payload in &payloads {
        fs::write(temp.path(&format!("{}.torrent", payload.name)), payload.torrent("")).expect("a torrent file");
    }
    fs::copy(temp.path("one.torrent"), temp.path("copy.torrent")).expect("a copy");
    payloads[1].write_files(&temp.folder("out"));
    temp.folder("out/one"); // in the way of the file
    let mut command = offline_btsync(&temp);
    command.args(["-j1", "one.torrent", "two.torrent", "one.torrent", "copy.torrent", "out"]);
    let output = command.output().expect("btsync runs");
    let said = stderr(&output);
    assert_eq!(code(&output), Some(13), "{said}");
    assert_eq!(said.matches("btsync: one: ").count(), 1, "{said}");
    for name in ["one.torrent", "copy.torrent"] {
        assert!(said.contains(&format!("{name}: this torrent is named twice")), "{said}");
    }
    assert!(said.contains("1 torrent is complete, 1 incomplete"), "{said}");
}

/// A torrent that waits for its turn is started only if its file is still the one that was named.
#[test]
fn a_file_that_replaces_a_waiting_torrent_is_not_started() {
    let temp = TestDir::new();
    let first = Swarm::new(&temp, "first", 1);
    let [named, other] = ["named", "other"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let mut command = offline_btsync(&temp);
    command.args(["first.torrent", "named.torrent", "out", "-j", "1"]);
    let mut running = temp.start("fleet", &mut command);
    until("the first one is under way", || first.gate.served() == 1);
    fs::write(&named.torrent, other.bytes()).expect("a torrent file");
    first.gate.open();
    running.expect_exit(26);
    let log = running.log();
    assert!(
        log.contains(
            "named.torrent: not started, because this file no longer holds the torrent that it held at the start"
        ),
        "{log}"
    );
    assert!(!named.has_announces() && !other.has_announces() && !temp.path("out/other").exists(), "{log}");
    first.assert_complete_in(&temp.path("out"));
}

/// Two names of one folder refer to the same files.
#[test]
fn a_second_name_of_a_folder_lets_no_torrent_write_over_the_file_of_another() {
    for at_once in ["1", "5"] {
        let temp = TestDir::new();
        let payload = |name: &str| {
            Payload::tree(name, &[("x", 100_000)], 16 * 1024).with_first(&name.repeat(100_000).into_bytes())
        };
        let [a, b] = ["a", "b"].map(|name| Swarm::with_payload(&temp, payload(name), usize::MAX));
        let out = temp.folder("out");
        temp.folder("out/a");
        std::os::unix::fs::symlink("a", out.join("b")).expect("a link");
        let mut command = offline_btsync(&temp);
        command.args(["a.torrent", "b.torrent", "out", "--overwrite", "-j", at_once]);
        let output = command.output().expect("btsync runs");
        let said = stderr(&output);
        assert_eq!(code(&output), Some(13), "{said}");
        let whole = [&a, &b].map(|swarm| swarm.payload.difference(&out).is_none());
        assert!(whole[0] != whole[1] && (whole[0] || at_once == "5"), "{said}");
    }
}
