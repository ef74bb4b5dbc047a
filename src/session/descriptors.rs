//! File descriptors: a connection needs one, a file one. The process asks for as many as it may have, and serves fewer peers
//! where that is not enough.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything else: listening, trackers, the terminal, the program itself.
const SPARE: u64 = 40;

/// How many of `wanted` peers there are descriptors for, beside `files` files; and how many there are in all.
pub fn room_for_peers(wanted: usize, files: usize) -> (usize, u64) {
    let needed = wanted as u64 + files as u64 + SPARE;
    let limit = getrlimit(Resource::Nofile);
    let mut have = limit.current.unwrap_or(u64::MAX);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if have < needed && have < most {
        let asked = needed.min(most);
        if setrlimit(Resource::Nofile, Rlimit { current: Some(asked), maximum: limit.maximum }).is_ok() {
            have = asked;
        }
    }
    let room = usize::try_from(have.saturating_sub(files as u64 + SPARE)).unwrap_or(usize::MAX).max(1);
    (room.min(wanted), have)
}
