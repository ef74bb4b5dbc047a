//! One torrent of several, on a thread of its own: found, claimed, run, and lent its voices.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::cli::batch::queue::{End, Job};
use crate::cli::batch::reporter::Teller;
use crate::cli::batch::sources::Named;
use crate::cli::batch::{Fleet, LONGEST_NAME, Word, fetch, watch};
use crate::cli::commands::download::{self, Found};
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::STDIN;
use crate::cli::outcome;
use crate::cli::report::hook::Hook;
use crate::cli::report::json::Json;
use crate::cli::report::plain::Plain;
use crate::cli::report::{Ending, Voice, Voices, clean, listen_since};
use crate::discovery::tracker::redact::{public_name, redacted};
use crate::metainfo::{Magnet, printable};
use crate::torrent::{Event, Handle, Outcome, Session, SessionError, Source, Turn};
use crate::types::InfoHash;

/// What a job is to fetch.
pub(crate) enum What {
    /// A file, a link or a URL.
    Named(Named),
    /// A file in the watched folder, or a link that it holds.
    Seen(PathBuf, Option<Box<Magnet>>),
}

impl What {
    /// What to call it until it has told its own name.
    pub fn name(&self) -> String {
        let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        clean(&match self {
            What::Named(Named { name, .. }) if fetch::is_url(Path::new(name)) => public_name(name),
            What::Named(Named { name, .. }) if Magnet::is_link(name) => {
                let magnet = Magnet::parse(name).ok();
                magnet.map_or_else(|| redacted(name), |link| link.name.unwrap_or_else(|| link.info_hash.to_string()))
            }
            What::Named(Named { name, .. }) => file_name(Path::new(name)).unwrap_or_else(|| name.clone()),
            What::Seen(path, _) => file_name(path).unwrap_or_default(),
        })
    }

    /// Whether it can be read at once.
    pub fn is_near(&self) -> bool {
        match self {
            What::Named(named) => Path::new(&named.name).is_file(),
            What::Seen(_, link) => link.is_none(),
        }
    }
}

/// From its name to its end. What goes wrong has been told when it returns.
pub(crate) fn run(fleet: &Fleet, job: Job, what: What, turn: Turn) -> End {
    let name = what.name();
    let named = matches!(what, What::Named(_));
    let mut config = fleet.ground.config();
    let found = match what {
        What::Named(named) => download::source(Path::new(&named.name), &mut config, &fleet.stop)
            .and_then(|found| still(&named, found.source.info_hash()).map(|()| found)),
        What::Seen(path, None) => {
            let is_ours =
                |file: &File| fleet.ground.owns(&path) || watch::is_noted(config.brought.as_deref(), &path, file);
            watch::read_again(&path, is_ours, || !fleet.is_stopped()).map(Found::from)
        }
        What::Seen(_, Some(magnet)) => {
            download::call_peers_of(&magnet, false, &mut config);
            Ok(Source::Magnet(magnet).into())
        }
    };
    let Found { source, kept } = match found {
        Ok(found) => found,
        Err(failure) => return fleet.failed(&name, None, &failure),
    };
    let info_hash = source.info_hash();
    if !fleet.claims.lock().claim(job, info_hash, named) {
        if named {
            fleet.named_before(&name);
        }
        return End::Same;
    }
    let session = fleet.ground.session(job, source, config, turn);
    let handle = session.handle();
    // Whoever says stop does so before looking for sessions: one that is not seen there sees it here.
    if fleet.is_stopped() {
        handle.stop();
    }
    let mut voices = voices(fleet, job, &handle);
    if let Some(what) = kept {
        voices.event(fleet.outputs.start.elapsed(), &Event::TorrentSaved { what });
    }
    let result = sail(fleet, session, voices);
    fleet.ground.ended(job);
    match outcome::verdict(result, &handle, fleet.patience) {
        Ok(()) => End::Whole,
        Err(Failure { code, message }) => {
            let name = clean(handle.name());
            let told = Failure::new(code, format!("{name}: {message}"));
            fleet.failed(&name, Some(info_hash), &told)
        }
    }
}

/// Refuses another torrent than was at the name at the start: a download that came before may have put one of its own there.
fn still(named: &Named, found: InfoHash) -> Result<(), Failure> {
    let Named { name, info_hash } = named;
    let is_file = |name: &str| {
        let is_read_once = Magnet::is_link(name) || fetch::is_url(Path::new(name)) || name == STDIN;
        !is_read_once && Path::new(name).is_file()
    };
    let is_it = match info_hash {
        Some(known) => *known == found,
        // What was a pipe.
        None => !is_file(name),
    };
    let why = "another file has this name since the start: it is not begun";
    if is_it { Ok(()) } else { Err(Failure::new(Exit::BadTorrent, printable(&format!("{name}: {why}")))) }
}

/// Runs the session on this thread, and its voices on another.
fn sail(fleet: &Fleet, session: Session, mut voices: Voices) -> Result<Outcome, SessionError> {
    let (tell, told) = bounded(1);
    let events = session.events();
    thread::scope(move |scope| {
        let speak = move || listen_since(fleet.outputs.start, &mut voices, &events, &told);
        // A system without a thread to spare for the voice still downloads.
        let spoken = thread::Builder::new().name("voice".to_owned()).spawn_scoped(scope, speak);
        let result = session.run();
        let _ = tell.send(outcome::ending(&result));
        if let Ok(thread) = spoken {
            let _ = thread.join();
        }
        result
    })
}

/// Those who tell how it goes: programs on stdout, people on stderr, the user's own command, and the fleet itself.
fn voices(fleet: &Fleet, job: Job, handle: &Handle) -> Voices {
    let folder = fleet.ground.config().out_dir.to_string_lossy().into_owned();
    let screen = fleet.outputs.screen.clone();
    let mut voices: Vec<Box<dyn Voice>> = Vec::new();
    if let Some(lines) = &fleet.outputs.lines {
        let json = Json::new(handle.clone(), lines.clone(), folder.clone());
        voices.push(Box::new(json.one_of_many(fleet.outputs.start.elapsed())));
    }
    match (fleet.quiet, screen.is_terminal()) {
        (true, _) => {}
        (false, true) => voices.push(Box::new(Teller::new(handle.clone(), screen.clone()))),
        (false, false) => {
            voices.push(Box::new(Plain::new(handle.clone(), screen.clone()).one_of_many(LONGEST_NAME)));
        }
    }
    if let Some((order, failed)) = fleet.hook.clone() {
        voices.push(Box::new(Hook::new(order, &folder, handle.clone(), fleet.outputs.clone(), failed)));
    }
    // Last: all have told of one that is whole before the next one begins.
    voices.push(Box::new(Bell { job, words: fleet.words.clone() }));
    Voices::new(voices)
}

/// Tells the fleet when a download is whole, so that the next one may begin.
struct Bell {
    job: Job,
    words: Sender<Word>,
}

impl Voice for Bell {
    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn event(&mut self, _: Duration, event: &Event) {
        if *event == Event::Completed {
            // Nobody listens to a fleet that is over.
            let _ = self.words.send(Word::Whole(self.job));
        }
    }

    fn beat(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, _: Ending) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_yet_has_a_name_too() {
        let name = |text: &str| What::Named(Named { name: text.to_owned(), info_hash: None }).name();
        assert_eq!(name("folder/x.torrent"), "x.torrent");
        assert_eq!(name("http://me:pw@h/x.torrent?key=1"), "http://h");
        let hash = "a".repeat(40);
        assert_eq!(name(&format!("magnet:?xt=urn:btih:{hash}&dn=x.iso")), "x.iso");
        assert_eq!(name(&format!("magnet:?xt=urn:btih:{hash}")), hash);
        assert_eq!(name("magnet:?bad\x1b[2J&tr=http://t/key"), "magnet:?…");
        assert_eq!(name(".."), "..");
    }

    #[test]
    fn a_name_stands_for_the_torrent_that_was_there_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (there, gone) = (dir.path().join("x.torrent"), dir.path().join("pipe"));
        std::fs::write(&there, "").unwrap();
        let [one, other] = [1, 2].map(|byte| InfoHash([byte; 20]));
        let is = |path: &Path, info_hash| {
            let name = path.to_string_lossy().into_owned();
            still(&Named { name, info_hash }, one).map_err(|failure| failure.code)
        };
        assert_eq!((is(&there, Some(one)), is(&there, Some(other))), (Ok(()), Err(Exit::BadTorrent)));
        assert_eq!((is(&gone, None), is(&there, None)), (Ok(()), Err(Exit::BadTorrent)), "it was a pipe");
        assert_eq!(is(Path::new("http://h/x.torrent"), None), Ok(()));
    }
}
