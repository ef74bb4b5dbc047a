//! `btsync serve`: runs a service for many torrents until a signal or a remote control ends it.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::commands::systemd::{self, GivenSockets};
use crate::cli::exit::{Exit, Failure};
use crate::cli::logs;
use crate::cli::options::ServeArgs;
use crate::cli::options::values::{self, WebAddress};
use crate::cli::settings::{block_list_file, cache_folder, private_folders, state_folder};
use crate::cli::stop::StopSignal;
use crate::cli::terminal::screen::Screen;
use crate::cli::terminal::stdout;
use crate::util::descriptors::raise_limit;
use crate::util::os_error::reason;
use crate::util::state_mark::{BROUGHT, BTSYNC, SERVE};
use btsync::{ClientError, PasswordHash, Service, ServiceError, ServiceOptions, WebOptions};

/// The port of the page, as Transmission's.
const PORT: u16 = 9091;
/// The environment variable for `--proxy`.
const PROXY_VARIABLE: &str = "BTSYNC_PROXY";

/// Runs the service until a signal or a remote control ends it.
///
/// # Errors
/// The options are not valid, the state folder is in use, or the service cannot listen.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let screen = Screen::stderr().without_live_lines();
    logs::start(false, false, &screen);
    let result = serve(args);
    // The last lines of the log; its reader may be gone.
    let stop = StopSignal::default();
    stop.set();
    screen.finish(&stop);
    result
}

fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let state = match args.state_dir.clone() {
        Some(folder) => absolute(&folder)?,
        None => state_folder()
            .ok_or_else(|| bad_option("there is no home folder: name a folder with --state-dir"))?
            .join(BTSYNC)
            .join(SERVE),
    };
    if let Some(user) = &args.set_password {
        return set_password(&state, user);
    }
    // Before any thread starts, because it changes the environment.
    let sockets = GivenSockets::take()?;
    let options = options(args, state, sockets)?;
    if args.import_transmission.is_some() || args.import_qbittorrent.is_some() {
        return import(args, &options);
    }
    // The service may have more connections and files than the default soft limit allows.
    raise_limit();
    // Before the line is printed: a reader of it may send a signal at once.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals =
        signals.map_err(|error| Failure::new(Exit::Other, format!("cannot watch for signals: {}", reason(&error))))?;
    let service = Arc::new(Service::start(options).map_err(|error| failure(&error))?);
    for address in service.addresses() {
        // A closed stderr does not stop the service.
        let _ = writeln!(io::stderr(), "the page is at {address}");
    }
    systemd::ready(service.addresses());
    let handle = signals.handle();
    let ended = service.clone();
    let watcher = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            systemd::stopping();
            ended.shut_down();
        }
    });
    let watcher = watcher.map_err(|error| failure(&ServiceError::Thread(error)))?;
    service.wait();
    handle.close();
    let _ = watcher.join();
    Ok(())
}

fn options(args: &ServeArgs, state: PathBuf, sockets: GivenSockets) -> Result<ServiceOptions, Failure> {
    let dir = match &args.dir {
        Some(folder) => absolute(folder)?,
        None => std::env::home_dir()
            .filter(|home| home.is_absolute())
            .ok_or_else(|| bad_option("there is no home folder: name a folder with --dir"))?
            .join("Downloads"),
    };
    let password = match &args.password_file {
        Some(file) => Some(password_of(file)?),
        None => Service::saved_password(&state).map_err(|error| failure(&error))?,
    };
    let mut options = ServiceOptions::new(state, dir);
    options.allowed_folders = args.allow_dir.iter().map(|folder| absolute(folder)).collect::<Result<_, _>>()?;
    options.private_folders = private_folders();
    options.private_folders.extend(args.password_file.clone());
    options.private_folders.extend(block_list_file(args.block_list.as_deref()));
    options.downloaded_torrents_folders =
        cache_folder().map(|folder| folder.join(BTSYNC).join(BROUGHT)).into_iter().collect();
    options.watch_folder = args.watch.as_deref().map(absolute).transpose()?;
    options.peer_port = args.peer_port;
    options.proxy = proxy(args)?;
    options.is_anonymous = args.anonymous;
    if args.anonymous && args.port_mapping && !args.no_port_mapping {
        return Err(bad_option("--anonymous and --port-mapping contradict each other"));
    }
    if args.anonymous && options.proxy.is_none() {
        log::warn!("--anonymous does not hide the IP address; --proxy does");
    }
    options.ignores_web_seeds = args.no_web_seeds;
    options.block_list.clone_from(&args.block_list);
    options.port_mapping = values::port_mapping(args.no_port_mapping, args.port_mapping, Duration::ZERO);
    options.transports = args.transport;
    options.web = Some(web_options(args, password, sockets));
    Ok(options)
}

/// The proxy: that of the option, or that of the environment, where other users do not see its password.
fn proxy(args: &ServeArgs) -> Result<Option<String>, Failure> {
    if args.proxy.is_some() {
        return Ok(args.proxy.clone());
    }
    let value = std::env::var_os(PROXY_VARIABLE).filter(|value| !value.is_empty());
    let parse = |value: std::ffi::OsString| values::proxy(&value.to_string_lossy());
    value.map(parse).transpose().map_err(|reason| bad_option(&format!("{PROXY_VARIABLE}: {reason}")))
}

fn web_options(args: &ServeArgs, password: Option<PasswordHash>, sockets: GivenSockets) -> WebOptions {
    let mut web = WebOptions::default();
    for address in &args.web_listen {
        match address {
            WebAddress::Tcp(address) => web.addresses.push(*address),
            WebAddress::Unix(path) => web.unix_sockets.push(path.clone()),
        }
    }
    if args.web_listen.is_empty() && sockets.is_empty() {
        web.addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    (web.listeners, web.unix_listeners) = (sockets.tcp, sockets.unix);
    web.password = password;
    web.host_names.clone_from(&args.web_host);
    web.path_prefix = args.web_prefix.clone().unwrap_or_default();
    web.offers_metrics = args.metrics;
    web
}

/// Takes over the torrents of other clients.
fn import(args: &ServeArgs, options: &ServiceOptions) -> Result<(), Failure> {
    let mut lines = Vec::new();
    if let Some(folder) = &args.import_transmission {
        lines.extend(Service::import_transmission(options, folder).map_err(|error| failure(&error))?);
    }
    if let Some(folder) = &args.import_qbittorrent {
        lines.extend(Service::import_qbittorrent(options, folder).map_err(|error| failure(&error))?);
    }
    let mut text = String::new();
    let failed = lines.iter().filter(|line| line.is_err()).count();
    for line in &lines {
        match line {
            Ok(line) => text.extend([line.as_str(), "\n"]),
            Err(why) => text.extend(["not imported: ", why, "\n"]),
        }
    }
    stdout::print(&text)?;
    if failed > 0 {
        return Err(Failure::new(Exit::Other, format!("{failed} of {} torrents are not imported", lines.len())));
    }
    Ok(())
}

/// Saves the password that standard input gives; an empty line removes the saved one.
fn set_password(state: &Path, user: &str) -> Result<(), Failure> {
    if user.is_empty() || user.contains(':') {
        return Err(bad_option("--set-password: a user name is not empty and has no colon"));
    }
    let mut line = String::new();
    let length = io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(Exit::Other, format!("standard input: {}", reason(&error))))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if length == 0 {
        return Err(bad_option("--set-password: standard input has no password; an empty line removes the saved one"));
    }
    if password.is_empty() {
        return Service::remove_password(state).map_err(|error| failure(&error));
    }
    let hash =
        PasswordHash::new(user, password).ok_or_else(|| bad_option("--set-password: this password cannot be used"))?;
    Service::save_password(state, &hash).map_err(|error| failure(&error))
}

/// The password in a file.
fn password_of(file: &Path) -> Result<PasswordHash, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::new(Exit::OpenExisting, format!("{}: {}", file.display(), reason(&error))))?;
    let line = text.lines().next().unwrap_or("");
    let (user, password) = line
        .split_once(':')
        .filter(|(user, password)| !user.is_empty() && !password.is_empty())
        .ok_or_else(|| bad_option("--password-file: its first line must be USER:PASSWORD"))?;
    PasswordHash::new(user, password).ok_or_else(|| bad_option("--password-file: this password cannot be used"))
}

fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(folder).map_err(|error| bad_option(&format!("{}: {}", folder.display(), reason(&error))))
}

fn bad_option(message: &str) -> Failure {
    Failure::new(Exit::BadOption, message.to_owned())
}

/// The exit code and the message for a service that cannot start.
fn failure(error: &ServiceError) -> Failure {
    let (code, advice) = match error {
        ServiceError::NoPassword { .. } => (Exit::BadOption, "; set one with btsync serve --set-password USER"),
        ServiceError::ImportFolders(_) => (Exit::BadOption, "; permit them with --allow-dir"),
        ServiceError::ImportFrom { .. } | ServiceError::WatchFolder { .. } => (Exit::OpenExisting, ""),
        ServiceError::Listen { .. } => (Exit::Network, "; choose another address with --web-listen"),
        ServiceError::Client(ClientError::Listen { .. } | ClientError::Interface { .. }) => (Exit::Network, ""),
        ServiceError::Client(ClientError::BlockList { .. } | ClientError::Proxy { .. }) => (Exit::BadOption, ""),
        _ => (Exit::Other, ""),
    };
    Failure::new(code, format!("{error}{advice}"))
}

#[cfg(test)]
mod tests {
    use argh::FromArgs as _;

    use super::*;

    #[test]
    fn the_page_is_on_loopback_unless_asked_for() {
        let args = ServeArgs::from_args(&["serve"], &[]).expect("arguments");
        assert_eq!(
            web_options(&args, None, GivenSockets::default()).addresses,
            [SocketAddr::from(([127, 0, 0, 1], 9091))]
        );
        let args = ServeArgs::from_args(&["serve"], &["--web-listen", "unix:/run/x", "--web-listen", "[::1]:1"])
            .expect("arguments");
        let web = web_options(&args, None, GivenSockets::default());
        assert_eq!((web.addresses.len(), web.unix_sockets), (1, vec![PathBuf::from("/run/x")]));
        assert!(ServeArgs::from_args(&["serve"], &["--web-listen", "nowhere"]).is_err());
    }

    #[test]
    fn with_sockets_of_systemd_there_is_no_other_address_unless_asked_for() {
        let sockets = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            GivenSockets { tcp: vec![listener], ..GivenSockets::default() }
        };
        let args = ServeArgs::from_args(&["serve"], &[]).expect("arguments");
        let web = web_options(&args, None, sockets());
        assert_eq!((web.addresses.len(), web.listeners.len()), (0, 1));
        let args = ServeArgs::from_args(&["serve"], &["--web-listen", "[::1]:1"]).expect("arguments");
        let web = web_options(&args, None, sockets());
        assert_eq!((web.addresses.len(), web.listeners.len()), (1, 1));
    }

    #[test]
    fn without_a_password_other_addresses_are_refused() {
        let temp = tempfile::tempdir().expect("a folder");
        let args = |listen: &str| {
            let state = temp.path().join("state");
            let dir = temp.path().join("down");
            let words =
                ["--state-dir", state.to_str().unwrap(), "--dir", dir.to_str().unwrap(), "--web-listen", listen];
            ServeArgs::from_args(&["serve"], &words).expect("arguments")
        };
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1"] {
            let refused = run(&args(listen)).expect_err("refused");
            assert_eq!(refused.code, Exit::BadOption, "{listen}");
            assert!(refused.message.contains("--set-password"), "{}", refused.message);
        }
    }
}
