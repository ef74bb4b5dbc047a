//! `btsync magnet`: prints the magnet link of a torrent file.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

use crate::cli::commands::info;
use crate::cli::exit::Failure;
use crate::cli::options::host_and_port;
use btsync::{Magnet, PeerAddress};

/// print the magnet link of a torrent file
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "magnet")]
pub struct MagnetArgs {
    /// the torrent file; - is standard input
    #[argh(positional, arg_name = "FILE")]
    pub file: PathBuf,
    /// leave the trackers out of the link
    #[argh(switch)]
    pub no_trackers: bool,
    /// add this peer to the link
    #[argh(option, arg_name = "HOST:PORT", from_str_fn(peer))]
    pub peer: Vec<PeerAddress>,
}

/// Prints the magnet link.
///
/// # Errors
/// The torrent file cannot be read or is not valid.
pub fn run(args: MagnetArgs) -> Result<(), Failure> {
    let mut magnet = Magnet::of(&info::read(&args.file)?);
    if args.no_trackers {
        magnet.trackers.clear();
    }
    magnet.peers = args.peer;
    info::print(&format!("{magnet}\n"))
}

fn peer(text: &str) -> Result<PeerAddress, String> {
    let text = host_and_port(text)?;
    PeerAddress::parse(&text).ok_or_else(|| format!("`{text}` is neither an address nor a host's name, with a port"))
}
