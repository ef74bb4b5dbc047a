//! `btsync magnet`: prints the magnet link of a torrent file.

use crate::cli::exit::Failure;
use crate::cli::options::MagnetArgs;
use crate::cli::source;
use crate::cli::terminal::stdout;
use btsync::Magnet;

/// Prints the magnet link.
///
/// # Errors
/// The torrent file cannot be read or is not valid.
pub fn run(args: MagnetArgs) -> Result<(), Failure> {
    let mut magnet = Magnet::of(&source::read_torrent(&args.file)?);
    if args.no_trackers {
        magnet.trackers.clear();
    }
    magnet.peers = args.peer;
    stdout::print(&format!("{magnet}\n"))
}
