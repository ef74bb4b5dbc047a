use std::ffi::OsString;

use super::*;
use crate::cli::options::help::TEXT as HELP;
use crate::cli::options::normalize::Options;

fn parsed(line: &str) -> Result<Command, Failure> {
    let words: Vec<OsString> = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
    parse(&words)
}

fn download(line: &str) -> DownloadArgs {
    match parsed(line) {
        Ok(Command::Download(args)) => *args,
        Ok(_) => panic!("{line}: not a download"),
        Err(failure) => panic!("{line}: {failure}"),
    }
}

fn refusal(line: &str) -> String {
    match parsed(line) {
        Ok(_) => panic!("{line}: accepted"),
        Err(failure) => {
            assert_eq!(failure.code, Exit::BadOption, "{line}");
            assert_eq!(failure.message.lines().count(), 1, "{line}: {}", failure.message);
            failure.message
        }
    }
}

fn printed(line: &str) -> String {
    match parsed(line) {
        Ok(Command::Print(text)) => text,
        Ok(_) => panic!("{line}: nothing to print"),
        Err(failure) => panic!("{line}: {failure}"),
    }
}

#[test]
fn values_come_after_a_space_or_an_equals_sign() {
    for line in ["x.torrent out --seed-time 1.5 --max-peers 7", "--seed-time=1.5 x.torrent --max-peers=7 out"] {
        let args = download(line);
        assert_eq!((args.file(), args.out_dir()), (PathBuf::from("x.torrent"), PathBuf::from("out")), "{line}");
        assert_eq!((args.seed_time, args.max_peers), (Some(Duration::from_secs(90)), Some(7)), "{line}");
    }
}

#[test]
fn nothing_is_split_after_two_dashes_nor_in_a_value() {
    let command = |line| download(line).on_download_complete;
    assert_eq!(command("x --on-download-complete --seed=1").as_deref(), Some("--seed=1"));
    assert_eq!(command("--on-download-complete=a=b c=d").as_deref(), Some("a=b"));
    assert_eq!(command("x --on-download-complete --").as_deref(), Some("--"));
    assert_eq!(download("--seed -- --seed=1").file(), PathBuf::from("--seed=1"));
    assert_eq!(download("-- --x=1.torrent").file(), PathBuf::from("--x=1.torrent"));
}

#[test]
fn super_seeding_is_asked_for() {
    assert!(download("x --seed --super-seed").super_seed && !download("x --seed").super_seed);
}

#[test]
fn several_may_be_named() {
    let args = download("a.torrent magnet:?xt=x https://h/c.torrent out -i list --max-concurrent=2 --watch in");
    assert_eq!(args.names(), ["a.torrent", "magnet:?xt=x", "https://h/c.torrent", "out"]);
    assert_eq!((args.input_file, args.max_concurrent, args.watch), (Some("list".into()), Some(2), Some("in".into())));
    assert!(download("-i -").names().is_empty() && download("--watch=in").names().is_empty());
    assert_eq!(download("a.torrent b.torrent -d out").dir, Some("out".into()));
}

#[test]
fn the_folder_is_the_current_one_unless_named() {
    assert_eq!(download("x.torrent").out_dir(), PathBuf::from("."));
}

#[test]
fn lists_repeat_or_have_commas() {
    let args = download("x --bt-tracker http://a/,https://b/ --bt-tracker=udp://c --peer 1.2.3.4:5 --peer [::1]:6");
    assert_eq!(args.trackers().collect::<Vec<_>>(), ["http://a/", "https://b/", "udp://c"]);
    assert_eq!(args.peer, ["1.2.3.4:5", "[::1]:6"]);
}

#[test]
fn ports_are_one_or_a_range() {
    assert_eq!(download("x --listen-port 7000").listen_port, Some(7000..=7000));
    assert_eq!(download("x --listen-port=7000-7010").listen_port, Some(7000..=7010));
    for bad in ["0", "7010-7000", "65536", "x", "1-", "-1"] {
        refusal(&format!("x --listen-port {bad}"));
    }
}

#[test]
fn limits_go_by_two_names() {
    let limits = |line| (download(line).max_download_limit, download(line).max_upload_limit);
    assert_eq!(limits("x --max-download-limit 1.5M --max-upload-limit=200K"), (Some(3 << 19), Some(200 << 10)));
    assert_eq!(limits("x --max-overall-download-limit=1k --max-overall-upload-limit 0"), (Some(1024), Some(0)));
    for bad in ["1G", "-1", "fast", ""] {
        refusal(&format!("x --max-upload-limit={bad}"));
    }
    assert_eq!(limits("x --max-upload-limit 1 --max-overall-upload-limit 2 -u3k"), (None, Some(3 << 10)));
}

#[test]
fn encryption_has_three_modes() {
    for (word, mode) in [
        ("allow", Encryption::Allow),
        ("prefer", Encryption::Allow),
        ("require", Encryption::Require),
        ("off", Encryption::Off),
    ] {
        assert_eq!(download(&format!("x --encryption {word}")).encryption, Some(mode));
    }
    assert!(refusal("x --encryption=yes").contains("allow, require or off"));
}

#[test]
fn nonsense_is_refused_in_one_line() {
    let lines =
        "x --seed-time soon|x --seed-time -1|x --seed-time inf|x --seed-ratio nan|x --seed-ratio -1|x --max-peers 0";
    for line in lines.split('|').chain(["", "x --peer 1.2.3.4", "x --peer :5", "x --peer h:0", "x --max-peers"]) {
        refusal(line);
    }
    for line in [
        "x --bt-tracker ftp://a",
        "x --bt-tracker ,",
        "ftp://a/b.torrent",
        "x http:// out",
        "x --max-concurrent 0",
        "help nonsense",
    ] {
        refusal(line);
    }
}

#[test]
fn a_misspelt_option_gets_a_suggestion() {
    assert!(refusal("x --sede").contains("'--seed'"));
    assert!(refusal("x --seed-tme=5").contains("'--seed-time'"));
    assert!(refusal("x --quite").contains("'--quiet'"));
    assert!(!refusal("x --completely-different").contains("did you mean"));
    assert!(refusal("x --quiet=loud").contains("accepts only yes or no"));
    assert!(refusal("x -z").contains("-z"));
}

#[test]
fn commands_are_told_from_files() {
    assert!(matches!(parsed("info x.torrent"), Ok(Command::Info(_))));
    assert!(matches!(parsed("tracker"), Ok(Command::Tracker(_))));
    assert!(matches!(parsed("edit x.torrent --comment=x"), Ok(Command::Edit(_))));
    assert!(matches!(parsed("magnet x.torrent"), Ok(Command::Magnet(_))));
    assert!(matches!(parsed("verify x.torrent folder"), Ok(Command::Verify(_))));
    assert!(matches!(parsed("create x"), Ok(Command::Create(_))));
    assert!(matches!(parsed("--json info x.torrent"), Ok(Command::Info(_))));
    assert_eq!(download("./create out").file(), PathBuf::from("./create"));
    assert_eq!(download("-- create").file(), PathBuf::from("create"));
    assert!(refusal("info x --jsn").contains("'--json'"));
}

#[test]
fn a_lone_dash_is_standard_input_where_a_torrent_is_named() {
    assert_eq!((download("- out").file(), download("- create").out_dir()), (STDIN.into(), "create".into()));
    assert_eq!(download("-- -").file(), PathBuf::from("-"));
    let edit = parsed("edit - -o -");
    assert!(matches!(edit, Ok(Command::Edit(args)) if args.file == *STDIN && args.output == Some("-".into())));
}

#[test]
fn letters_are_bundled_and_their_values_joined() {
    let args = download("-vq x -p 7000 -u2M -dout");
    assert!(args.verbose && args.quiet);
    assert_eq!((args.listen_port, args.max_upload_limit), (Some(7000..=7000), Some(2 << 20)));
    assert_eq!(args.dir, Some(PathBuf::from("out")));
    for line in ["x -qd out", "x -qdout", "x -d=out -q", "-d out x -q", "-qd out x"] {
        let args = download(line);
        assert!(args.quiet && args.out_dir() == *"out" && args.file() == *"x", "{line}");
    }
    assert!(
        matches!(parsed("create -ox.torrent -aa -a=b x"), Ok(Command::Create(args)) if args.announce == ["a", "b"])
    );
    assert!(refusal("x -vz").contains("'-z' in '-vz'"));
    assert!(refusal("x -qd").contains("-d needs a value"));
    assert!(refusal("x -seed").contains("'--seed'") && refusal("x -dir=y").contains("'--dir'"));
}

#[test]
fn of_an_option_given_twice_the_last_counts() {
    let args = download("x --seed-time 1 --max-peers=5 --seed-time=2 --dir a -db");
    assert_eq!((args.seed_time, args.max_peers), (Some(Duration::from_secs(120)), Some(5)));
    assert_eq!(args.out_dir(), PathBuf::from("b"));
    assert!(download("x --seed=no --seed").seed && !download("x --seed --seed=0").seed);
    assert!(refusal("x --max-peers many --max-peers 5").contains("--max-peers=many"), "none is passed over");
    assert!(matches!(parsed("create x -o a -o b"), Ok(Command::Create(args)) if args.output == Some("b".into())));
}

#[test]
fn switches_can_be_turned_off() {
    for word in ["0", "false", "no", "No"] {
        assert!(!download(&format!("x --seed --seed={word}")).seed, "{word}");
    }
    for word in ["1", "true", "yes", "TRUE"] {
        assert!(download(&format!("x --seed={word}")).seed, "{word}");
    }
    assert!(matches!(parsed("info x --json=yes"), Ok(Command::Info(args)) if args.json));
}

#[test]
fn the_folder_is_named_once() {
    assert!(refusal("x out -d other").contains("two folders are given"));
    assert!(refusal("x --dir=").contains("empty"));
}

#[test]
fn a_value_names_no_command() {
    assert_eq!(download("--dir create x").file(), PathBuf::from("x"));
    assert_eq!(download("-qd info x").out_dir(), PathBuf::from("info"));
    assert!(parsed("-q create x -o y").is_err() && matches!(parsed("--json info x"), Ok(Command::Info(_))));
}

#[test]
fn a_place_is_a_number_and_a_path_below_the_folder() {
    assert_eq!(download("x --out 3=./a//b/").out, [(2, PathBuf::from("a/b"))]);
    for place in ["3", "0=a", "=a", "3="] {
        assert!(refusal(&format!("x --out {place}")).contains("NUMBER=PATH"), "{place}");
    }
    for place in ["3=.", "3=./", "3=/a", "3=../a", "3=a/../b"] {
        assert!(refusal(&format!("x --out {place}")).contains("below the download folder"), "{place}");
    }
}

#[test]
fn help_names_the_options_used_most_and_fits_a_terminal() {
    for line in ["--help", "-h", "help", "x.torrent --help"] {
        assert_eq!(printed(line), HELP, "{line}");
    }
    let options = Options::of::<DownloadArgs>();
    for named in HELP.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| word.starts_with("--")) {
        assert!(options.iter().any(|option| option.long == named), "{named}");
    }
    for option in options.iter().filter(|option| HELP.contains(option.long)) {
        let letter = option.short.is_none_or(|letter| HELP.contains(&format!("-{letter}, {}", option.long)));
        assert!(letter, "the letter of {}", option.long);
    }
    assert!(HELP.lines().all(|line| line.len() <= 80) && HELP.lines().count() < 24);
    assert_eq!((printed("help help"), printed("list --help")), (HELP.to_owned(), printed("help list")));
    for name in ["create", "dht", "doctor", "edit", "info", "list", "magnet", "tracker", "verify"] {
        assert!(HELP.contains(name) && printed(&format!("help {name}")).contains(name), "{name}");
    }
    assert!(printed("help create").contains("create") && printed("create -h") == printed("help create"));
    for line in ["--version", "-V", "x -qV"] {
        assert_eq!(printed(line), format!("btsync {}\n", env!("CARGO_PKG_VERSION")));
    }
    let verbose = printed("--version -v");
    assert!(
        verbose.starts_with("btsync ") && verbose.contains("\nSHA-1: ") && verbose.contains(" stream"),
        "{verbose}"
    );
}

#[test]
fn a_suffix_makes_no_torrents_of_unfinished_files() {
    for suffix in [".torrent", ".Magnet", "~.torrent"] {
        assert!(refusal(&format!("x --incomplete-suffix {suffix}")).contains("--watch would start"), "{suffix}");
    }
    assert_eq!(download("x --incomplete-suffix .torrent.part").incomplete_suffix.as_deref(), Some(".torrent.part"));
}
