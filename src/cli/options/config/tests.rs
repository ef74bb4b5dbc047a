use super::*;
use crate::cli::options::{Command, DownloadArgs, ParsedArguments, parse_in};

/// An environment with these variables and, unless `file` is empty, this file at `/home/u/.config/btsync/config`.
fn config_sources(variables: &[(&str, &str)], file: &'static str) -> ConfigSources {
    let home = [("HOME", "/home/u")];
    let variables = home.iter().chain(variables).map(|&(name, value)| (name.to_owned(), value.into())).collect();
    let read = move |path: &Path| match path.to_str() {
        Some("/home/u/.config/btsync/config") if !file.is_empty() => Ok(file.as_bytes().to_vec()),
        Some("/other") => Ok(b"max-peers = 9\n".to_vec()),
        Some("/locked") => Err(io::ErrorKind::PermissionDenied.into()),
        Some("/binary") => Ok(vec![0xff]),
        Some("/endless") => Ok(vec![b'\n'; (1 << 20) + 1]),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    ConfigSources { variables, read: Box::new(read) }
}

fn parsed(line: &str, config_sources: &ConfigSources) -> Result<ParsedArguments, Failure> {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    parse_in(&words, config_sources)
}

fn download(line: &str, config_sources: &ConfigSources) -> DownloadArgs {
    match parsed(line, config_sources) {
        Ok(ParsedArguments { command: Command::Download(args), .. }) => *args,
        Ok(_) => panic!("{line}: not a download"),
        Err(failure) => panic!("{line}: {failure}"),
    }
}

fn refusal(line: &str, config_sources: &ConfigSources) -> (Exit, String) {
    match parsed(line, config_sources) {
        Ok(_) => panic!("{line}: accepted"),
        Err(failure) => {
            assert_eq!(failure.message.lines().count(), 1, "{}", failure.message);
            (failure.code, failure.message)
        }
    }
}

fn shown(line: &str, config_sources: &ConfigSources) -> String {
    match parsed(line, config_sources) {
        Ok(ParsedArguments { command: Command::Print(text), .. }) => text,
        Ok(_) => panic!("{line}: nothing to print"),
        Err(failure) => panic!("{line}: {failure}"),
    }
}

#[test]
fn the_line_is_above_the_environment_and_that_above_the_file() {
    let file = "max-peers = 1\nseed-ratio = 1\n# a comment\n\n  stop-timeout=1\r\nmax-upload-limit = 7K";
    let config_sources =
        config_sources(&[("BTSYNC_MAX_PEERS", "2"), ("BTSYNC_SEED_RATIO", "2"), ("BTSYNC_JSON", "")], file);
    let args = download("x --max-peers 3", &config_sources);
    assert_eq!((args.max_peers, args.seed_ratio, args.json), (Some(3), Some(2.0), false));
    assert_eq!(args.stop_timeout, Some(std::time::Duration::from_secs(1)));
    assert_eq!(args.max_upload_limit, Some(7 << 10));
}

#[test]
fn switches_are_turned_on_and_off_everywhere() {
    let file = "seed\nno-dht = true\nno-lsd = 1\nno-pex = no\n--verify = Yes";
    let config_sources = config_sources(&[("BTSYNC_NO_DHT", "0"), ("BTSYNC_QUIET", "yes")], file);
    let args = download("x", &config_sources);
    assert!(args.seed && !args.no_dht && args.no_lsd && !args.no_pex && args.verify && args.quiet);
    let args = download("x --seed=no --no-dht --no-pex=1 --quiet=false --check-integrity=0", &config_sources);
    assert!(!args.seed && args.no_dht && args.no_lsd && args.no_pex && !args.verify && !args.quiet);
}

#[test]
fn repeated_options_add_up_within_a_source_and_later_sources_replace_them() {
    let file = "peer = a:1\npeer = b:2\nmax-peers = 1\nmax-peers = 2";
    let args = download("x", &config_sources(&[], file));
    assert_eq!((args.peer, args.max_peers), (vec!["a:1".to_owned(), "b:2".to_owned()], Some(2)));
    assert_eq!(download("x", &config_sources(&[("BTSYNC_PEER", "c:3 d:4")], file)).peer, ["c:3", "d:4"]);
    assert_eq!(download("x --peer e:5", &config_sources(&[("BTSYNC_PEER", "c:3 d:4")], file)).peer, ["e:5"]);
}

#[test]
fn values_are_the_rest_of_the_line() {
    let file = "on-download-complete = echo \"a = b\" # c\ndir = ~/my files\nbind = wg0";
    let args = download("x", &config_sources(&[], file));
    assert_eq!(args.on_download_complete.as_deref(), Some("echo \"a = b\" # c"));
    assert_eq!(args.out_dir(), Path::new("/home/u/my files"));
    assert!(args.interface.is_some(), "other clients' names will do");
    assert_eq!(download("x named", &config_sources(&[], file)).out_dir(), Path::new("named"));
    assert_eq!(download("x -dnamed", &config_sources(&[], file)).out_dir(), Path::new("named"));
}

#[test]
fn errors_name_their_place() {
    let lines = [
        ("max-peers = many", "max-peers = many: expected a number"),
        ("max-peers", "max-peers needs a value"),
        ("max-peers =", "max-peers needs a value"),
        ("seed = perhaps", "seed = perhaps: expected yes or no"),
        ("sede", "unknown option 'sede': did you mean 'seed'?"),
        ("completely-different = 1", "unknown option 'completely-different'"),
        ("config = x", "'config' is allowed on the command line"),
        ("version", "'version' is allowed on the command line"),
        ("= 1", "unknown option ''"),
    ];
    for (line, words) in lines {
        let file: &'static str = Box::leak(format!("# 1\nseed\n{line}\n").into_boxed_str());
        // An invalid value is reported even if the command line overrides it.
        let (code, message) = refusal("x --max-peers 5", &config_sources(&[], file));
        assert_eq!(code, Exit::BadOption, "{message}");
        let place = format!("/home/u/.config/btsync/config:3: {words}");
        assert!(message.starts_with(&place), "{message} for {place}");
    }
    for (variable, words) in [
        ("BTSYNC_MAX_PEERS", "BTSYNC_MAX_PEERS=7x: expected a number"),
        ("BTSYNC_SEED", "BTSYNC_SEED=7x: expected yes"),
    ] {
        let (code, message) = refusal("x", &config_sources(&[(variable, "7x")], ""));
        assert!(code == Exit::BadOption && message.starts_with(words), "{message}");
    }
}

#[test]
fn the_file_is_the_usual_one_or_another_or_none() {
    let peers =
        |line: &str, variables: &[(&str, &str)]| download(line, &config_sources(variables, "max-peers = 4")).max_peers;
    assert_eq!(peers("x", &[]), Some(4));
    assert_eq!(peers("x", &[("XDG_CONFIG_HOME", "/nowhere")]), None);
    assert_eq!(peers("x", &[("XDG_CONFIG_HOME", "relative")]), Some(4), "a relative folder does not count");
    assert_eq!(peers("x --config /other", &[]), Some(9));
    assert_eq!(peers("x --no-config", &[]), None);
    assert_eq!(peers("x --config /other --no-config", &[]), None);
    assert_eq!(peers("x --no-config --config=/other", &[]), Some(9));
    assert_eq!(peers("x --no-config --no-config=no", &[]), Some(4));
    assert_eq!(peers("x", &[("BTSYNC_CONFIG", "/other")]), Some(9));
    assert_eq!(peers("x --config /other", &[("BTSYNC_NO_CONFIG", "1")]), Some(9));
    let config_sources = config_sources(&[("XDG_CONFIG_HOME", "/nowhere")], "");
    for (name, code) in [("/missing", 15), ("/locked", 15), ("/binary", 28), ("/endless", 28)] {
        let (exit, message) = refusal(&format!("x --config {name}"), &config_sources);
        assert!(exit.code() == code && message.contains(name), "{message}");
    }
}

#[test]
fn the_usual_file_is_not_passed_over_where_it_cannot_be_read() {
    let mut config_sources = config_sources(&[], "");
    config_sources.read = Box::new(|_| Err(io::ErrorKind::PermissionDenied.into()));
    let (code, message) = refusal("x", &config_sources);
    assert!(code == Exit::OpenExisting && message.contains("--no-config"), "{message}");
    assert_eq!(download("x --no-config", &config_sources).max_peers, None);
    assert!(
        matches!(parsed("info x", &config_sources), Ok(ParsedArguments { command: Command::Info(_), .. })),
        "commands do not ask"
    );
    for line in ["--help", "--version", "x -V"] {
        assert!(!shown(line, &config_sources).is_empty());
    }
}

#[test]
fn unknown_variables_are_told_but_not_those_of_the_hook() {
    let variables =
        [("BTSYNC_SEDE", "1"), ("BTSYNC_NAME", "x"), ("BTSYNC_INFO_HASH", "x"), ("BTSYNC", "y"), ("BTSYNC_seed", "1")];
    let config_sources = config_sources(&variables, "");
    let notes = parsed("x", &config_sources).map(|parsed| parsed.notes).expect("it is no error");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("BTSYNC_SEDE") && notes[0].contains("BTSYNC_SEED?"), "{notes:?}");
    assert!(notes[1].contains("BTSYNC_seed"), "{notes:?}");
    assert!(parsed("x -q", &config_sources).is_ok_and(|parsed| parsed.notes.is_empty()));
    assert!(!download("x", &config_sources).seed);
}

#[test]
fn no_option_goes_by_the_name_of_a_variable_of_the_hook() {
    for option in Options::of::<DownloadArgs>().iter() {
        assert!(!hook::VARIABLES.contains(&env_variable(option.long).as_str()), "{}", option.long);
    }
}

#[test]
fn defaults_in_the_table_are_those_of_the_program() {
    let (client, options) = (format!("{:?}", btsync::Client::builder()), btsync::Limits::default());
    let field = |name: &str| {
        let rest = client.split_once(&format!(" {name}: ")).expect("a field").1;
        rest[..rest.find(',').expect("another field")].replace("..=", "-")
    };
    let defaults = [
        ("dir", ".".to_owned()),
        ("listen-port", field("listen_ports")),
        ("max-peers", field("max_peers")),
        ("max-download-limit", options.down.to_string()),
        ("max-upload-limit", options.up.to_string()),
        ("encryption", format!("{:?}", btsync::Encryption::default()).to_ascii_lowercase()),
        ("file-allocation", format!("{:?}", btsync::Allocation::default()).to_ascii_lowercase()),
        ("max-concurrent", crate::cli::options::DEFAULT_MAX_CONCURRENT.to_string()),
    ];
    for (name, value) in defaults {
        assert_eq!(default_value(name, true), value, "{name}");
    }
    assert_eq!((default_value("stop-timeout", true), default_value("seed", false)), ("none", "no"));
}

#[test]
fn everything_is_shown_with_its_origin() {
    let file = "seed\npeer = a:1\npeer = b:2\nbt-tracker = http://me:secret@t.example/announce";
    let config_sources = config_sources(&[("BTSYNC_SEED_TIME", "30")], file);
    let text = shown("--show-config --max-peers 7 --no-dht", &config_sources);
    for line in [
        "seed = yes (/home/u/.config/btsync/config:1)",
        "seed-time = 30 (environment: BTSYNC_SEED_TIME)",
        "max-peers = 7 (command line)",
        "no-dht = yes (command line)",
        "no-lsd = no (default)",
        "listen-port = 6881-6889 (default)",
        "encryption = allow (default)",
        "stop-timeout = none (default)",
        "dir = . (default)",
        "peer = a:1 (/home/u/.config/btsync/config:2)",
        "peer = b:2 (/home/u/.config/btsync/config:3)",
        "bt-tracker = http://t.example (/home/u/.config/btsync/config:4)",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(!text.contains("secret"));
    for option in Options::of::<DownloadArgs>().iter().filter(|o| !is_about_config(o) && !is_command_line_only(o)) {
        assert!(text.lines().any(|line| line.starts_with(&format!("{} = ", option.bare()))), "{}", option.long);
    }
}
