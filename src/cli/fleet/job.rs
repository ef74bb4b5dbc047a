//! One torrent of several, on a thread of its own: found, claimed, run, and lent its voices.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::queue::{End, Job};
use super::teller::Teller;
use super::{Fleet, LONGEST_NAME, Word, fetch, watch};
use crate::cli::download::{self, Found};
use crate::cli::exit::Failure;
use crate::cli::hook::Hook;
use crate::cli::json::Json;
use crate::cli::plain::Plain;
use crate::cli::verdict;
use crate::cli::voice::{Ending, Voice, Voices, clean, listen_since};
use crate::metainfo::Magnet;
use crate::session::{Event, Handle, Outcome, Session, SessionError, Source, Turn};
use crate::sources::redact::{public_name, redacted};

/// What a job is to fetch.
pub(super) enum What {
    /// A file, a link or a URL, as it was named.
    Named(String),
    /// A file in the watched folder, or a link that it holds.
    Seen(PathBuf, Option<Box<Magnet>>),
}

impl What {
    /// What to call it until it has told its own name.
    pub fn name(&self) -> String {
        let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        clean(&match self {
            What::Named(name) if fetch::is_url(Path::new(name)) => public_name(name),
            What::Named(name) if Magnet::is_link(name) => {
                let magnet = Magnet::parse(name).ok();
                magnet.map_or_else(|| redacted(name), |link| link.name.unwrap_or_else(|| link.info_hash.to_string()))
            }
            What::Named(name) => file_name(Path::new(name)).unwrap_or_else(|| name.clone()),
            What::Seen(path, _) => file_name(path).unwrap_or_default(),
        })
    }

    /// Whether it can be read at once.
    pub fn is_near(&self) -> bool {
        match self {
            What::Named(name) => Path::new(name).is_file(),
            What::Seen(_, link) => link.is_none(),
        }
    }
}

/// From its name to its end. What goes wrong has been told when it returns.
pub(super) fn run(fleet: &Fleet, job: Job, what: What, turn: Turn) -> End {
    let name = what.name();
    let named = matches!(what, What::Named(_));
    let mut config = fleet.ground.config();
    let found = match what {
        What::Named(name) => download::source(Path::new(&name), &mut config, &fleet.stop),
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
    let info_hash = match &source {
        Source::Torrent(torrent) => torrent.info_hash,
        Source::Magnet(magnet) => magnet.info_hash,
    };
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
    match verdict::verdict(result, &handle, fleet.patience) {
        Ok(()) => End::Whole,
        Err(Failure { code, message }) => {
            let name = clean(handle.name());
            let told = Failure::new(code, format!("{name}: {message}"));
            fleet.failed(&name, Some(info_hash), &told)
        }
    }
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
        let _ = tell.send(verdict::ending(&result));
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
        let name = |text: &str| What::Named(text.to_owned()).name();
        assert_eq!(name("folder/x.torrent"), "x.torrent");
        assert_eq!(name("http://me:pw@h/x.torrent?key=1"), "http://h");
        let hash = "a".repeat(40);
        assert_eq!(name(&format!("magnet:?xt=urn:btih:{hash}&dn=x.iso")), "x.iso");
        assert_eq!(name(&format!("magnet:?xt=urn:btih:{hash}")), hash);
        assert_eq!(name("magnet:?bad\x1b[2J&tr=http://t/key"), "magnet:?…");
        assert_eq!(name(".."), "..");
    }
}
