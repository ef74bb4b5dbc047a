//! Options from the configuration file and from the environment.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::common::payload::Payload;
use crate::common::{TestDir, btsync};

/// A user with a home folder that has `x.torrent`, and its content in `there`.
struct Home {
    temp: TestDir,
}

impl Home {
    fn new() -> Home {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 100_000, 16 * 1024));
        temp.folder_with("there", &payload);
        fs::write(temp.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
        Home { temp }
    }

    /// Writes the default configuration file.
    fn config(&self, text: &str) -> PathBuf {
        let path = self.temp.folder("config/btsync").join("config");
        fs::write(&path, text).expect("a configuration");
        path
    }

    fn command(&self, line: &str) -> Command {
        let mut command = btsync();
        command.args(line.split(' ').filter(|word| !word.is_empty())).current_dir(self.temp.path(""));
        command.env("XDG_CONFIG_HOME", self.temp.path("config")).env("XDG_CACHE_HOME", self.temp.path("cache"));
        command.stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("the program starts")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ends(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", said(output), String::from_utf8_lossy(&output.stdout));
}

/// A configuration with which a download gives up at once, because it knows no peer.
const ALONE: &str = "# nobody is asked\nno-dht\nno-lsd = yes\nbt-exclude-tracker = *\nlisten-port = 10000-19999\n";

#[test]
fn a_download_does_as_its_file_says() {
    let home = Home::new();
    home.config(&format!("{ALONE}stop-timeout = 0.1\ndir = elsewhere\n"));
    ends(&home.run("x.torrent"), 2);
    assert!(home.temp.path("elsewhere").is_dir());
    // The folder given after the torrent takes precedence, and so does an option.
    ends(&home.run("x.torrent there"), 0);
    ends(&home.run("x.torrent -d there"), 0);
    ends(&home.command("x.torrent").env("BTSYNC_DIR", "there").output().expect("it starts"), 0);
}

#[test]
fn the_command_line_turns_off_options_of_the_configuration_file() {
    let home = Home::new();
    // With `seed` in effect it would never end.
    home.config(&format!("{ALONE}seed\nquiet\ndir = there"));
    let output = home.run("x.torrent --seed=no");
    ends(&output, 0);
    assert_eq!(said(&output), "", "it is quiet");
    assert!(said(&home.run("x.torrent --seed=false -q --quiet=0")).contains("already on disk"));
    let output = home.command("x.torrent").env("BTSYNC_SEED", "0").output().expect("it starts");
    ends(&output, 0);
}

#[test]
fn errors_name_file_and_line() {
    let home = Home::new();
    let path = home.config("\nmax-pers = 5\n").display().to_string();
    let output = home.run("x.torrent");
    ends(&output, 28);
    assert_eq!(said(&output), format!("btsync: {path}:2: unknown option 'max-pers': did you mean 'max-peers'?\n"));
    home.config("max-peers = many");
    let output = home.run("x.torrent --max-peers 5");
    ends(&output, 28);
    assert!(
        said(&output).starts_with(&format!("btsync: {path}:1: max-peers = many: expected a number")),
        "{}",
        said(&output)
    );
    ends(&home.run("x.torrent there --no-config"), 0);
    let output = home.command("x.torrent there --no-config").env("BTSYNC_MAX_PEERS", "0").output().expect("it starts");
    ends(&output, 28);
    assert!(said(&output).starts_with("btsync: BTSYNC_MAX_PEERS=0: "), "{}", said(&output));
}

#[test]
fn a_file_that_is_named_must_be_there_and_the_usual_one_need_not() {
    let home = Home::new();
    ends(&home.run("x.torrent there"), 0);
    let output = home.run("x.torrent there --config missing");
    ends(&output, 15);
    assert!(said(&output).contains("missing") && said(&output).lines().count() == 1, "{}", said(&output));
    ends(&home.run("x.torrent there --config /dev/zero"), 28);
    ends(&home.run("x.torrent there --config ."), 15);
    home.config("nonsense");
    // Commands other than a download read no configuration file.
    ends(&home.run("info x.torrent"), 0);
    ends(&home.command("verify x.torrent there").env("BTSYNC_CONFIG", "missing").output().expect("it starts"), 0);
    for line in ["--version", "--help"] {
        ends(&home.run(line), 0);
    }
}

#[test]
fn all_is_shown_with_its_origin_and_no_password() {
    let home = Home::new();
    let path = home.config("seed\nbt-tracker = http://me:secret@t.example/announce\n").display().to_string();
    let mut command = home.command("--show-config --max-peers 7");
    let output = command.env("BTSYNC_SEED_TIME", "30").output().expect("it starts");
    ends(&output, 0);
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    for line in [
        format!("seed = yes ({path}:1)"),
        format!("bt-tracker = http://t.example ({path}:2)"),
        "seed-time = 30 (environment: BTSYNC_SEED_TIME)".to_owned(),
        "max-peers = 7 (command line)".to_owned(),
        "listen-port = 6881-6889 (default)".to_owned(),
    ] {
        assert!(shown.lines().any(|other| other == line), "{line}\n{shown}");
    }
    assert!(!shown.contains("secret"));
}

#[test]
fn the_example_sets_nothing_and_has_the_names_of_options() {
    let home = Home::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.example");
    let shown = |path: &str| {
        let mut command = home.command("--show-config");
        command.env("BTSYNC_CONFIG", path).env_remove("BTSYNC_NO_PORT_MAPPING");
        let output = command.output().expect("it starts");
        ends(&output, 0);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = shown(example);
    assert!(text.lines().all(|line| line.ends_with(" (default)")), "{text}");
    // A switch has no value; words in capital letters are placeholders.
    let example = fs::read_to_string(example).expect("the example");
    let switches: Vec<_> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        .collect();
    assert!(switches.contains(&"seed") && switches.contains(&"no-dht"), "{switches:?}");
    let path = home.temp.path("switches");
    fs::write(&path, switches.join("\n")).expect("a configuration");
    let text = shown(&path.display().to_string());
    for name in switches {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} = yes ("))), "{name}\n{text}");
    }
}

#[test]
fn an_unknown_variable_is_told_and_stops_nothing() {
    let home = Home::new();
    let output = home.command("x.torrent there").env("BTSYNC_SEDE", "1").output().expect("it starts");
    ends(&output, 0);
    assert!(said(&output).starts_with("btsync: unknown environment variable BTSYNC_SEDE"), "{}", said(&output));
    assert!(said(&output).contains("did you mean BTSYNC_SEED?"), "{}", said(&output));
}

#[test]
fn a_hook_may_run_the_program_again() {
    let home = Home::new();
    home.config(
        "on-download-complete = \"$PROGRAM\" --show-config > shown 2> complaints; env | grep ^BTSYNC_NAME= > named\n\
         on-complete-always\n",
    );
    let program = btsync().get_program().to_owned();
    ends(&home.command("x.torrent there").env("PROGRAM", program).output().expect("it starts"), 0);
    let read = |name: &str| fs::read_to_string(home.temp.path(name)).expect("the hook ran");
    assert!(read("shown").contains("on-download-complete = \"$PROGRAM\""), "{}", read("shown"));
    assert_eq!((read("complaints").as_str(), read("named").as_str()), ("", "BTSYNC_NAME=payload.bin\n"));
}
