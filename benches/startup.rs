//! How soon the download of a large torrent begins, and how much memory btsync uses then: 204,800 pieces, first into an empty
//! folder, then with the sparse file of that run in place; for comparison, a torrent with a single piece.
//!
//! The hashes are random and the file is all holes, so hashing and disk I/O take no time.

#[path = "support/child.rs"]
mod child;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use btsync::metainfo::Metainfo;
use btsync::types::{Bitfield, PeerId};
use btsync::wire::message::{self, Message};
use btsync::wire::{Handshake, handshake};

use child::{Btsync, cpu_of, free_port, peak_kib};

/// Small pieces, because their number determines the cost, and btsync starts no download without enough free disk space.
const PIECE: u64 = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let pieces = if env::args().any(|arg| arg == "--bench") { 204_800 } else { 1_000 };
    println!("{:<44} {:>10} {:>12} {:>10} {:>9} {:>9}", "", "to dial", "to request", "peak MiB", "CPU s", "to stop");
    let folder = tempfile::tempdir()?;
    for (name, pieces) in [("small", 1), ("large", pieces)] {
        let file = folder.path().join(format!("{name}.torrent"));
        fs::write(&file, torrent(name, pieces))?;
        let torrent = Metainfo::read(&file)?;
        let out = folder.path().join(name);
        let gib = torrent.total() as f64 / f64::from(1 << 30);
        for (state, rounds) in [("nothing there", 3), ("a sparse file there", 5)] {
            let mut runs = Vec::new();
            for _ in 0..rounds {
                if state == "nothing there" && out.exists() {
                    fs::remove_dir_all(&out)?;
                }
                runs.push(start(&file, &out, &torrent)?);
            }
            runs.sort_by_key(|run| run.dialled);
            let label = format!("{gib:.1} GiB, {pieces} pieces, {state}");
            if let Some(run) = runs.get(runs.len() / 2) {
                run.print(&label);
            }
        }
    }
    Ok(())
}

/// The figures of one start.
struct Start {
    /// From the start to the first connection.
    dialled: Duration,
    /// From our handshake, bitfield and unchoke to the first request.
    requested: Duration,
    peak_kib: u64,
    cpu: Duration,
    /// From the signal to the exit.
    stopped: Duration,
}

impl Start {
    fn print(&self, label: &str) {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let (dialled, requested, stopped) = (ms(self.dialled), ms(self.requested), ms(self.stopped));
        let (peak, cpu) = (self.peak_kib as f64 / 1024.0, self.cpu.as_secs_f64());
        println!("{label:<44} {dialled:>10} {requested:>12} {peak:>10.1} {cpu:>9.2} {stopped:>9}");
    }
}

/// Starts btsync with a peer that has every piece, waits for its first request, and stops it.
fn start(file: &Path, out: &Path, torrent: &Metainfo) -> Result<Start, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let peer = listener.local_addr()?.to_string();
    let port = free_port()?;
    let begin = Instant::now();
    let mut btsync = Btsync::start(port, [file.as_os_str(), out.as_os_str(), "--peer".as_ref(), peer.as_ref()])?;
    let (mut stream, _) = listener.accept()?;
    let dialled = begin.elapsed();
    stream.read_exact(&mut [0; handshake::LENGTH])?;
    let mut hello = Handshake { reserved: [0; 8], info_hash: torrent.info_hash, peer_id: PeerId::generate() };
    hello.peer_id.0[..8].copy_from_slice(b"-XX0003-");
    let mut greeting = hello.encode().to_vec();
    message::write_bitfield(&mut greeting, Bitfield::full(torrent.piece_count()).as_bytes());
    message::write_choke(&mut greeting, false);
    let greeted = Instant::now();
    stream.write_all(&greeting)?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while !has_request(&received)? {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err("btsync closed the connection".into());
        }
        received.extend_from_slice(&buffer[..n]);
    }
    let requested = greeted.elapsed();
    let peak_kib = peak_kib(btsync.pid()).unwrap_or_default();
    let cpu = cpu_of(btsync.pid()).map_or(Duration::ZERO, |(own, _)| own);
    let signalled = Instant::now();
    btsync.stop(7)?;
    Ok(Start { dialled, requested, peak_kib, cpu, stopped: signalled.elapsed() })
}

fn has_request(mut bytes: &[u8]) -> Result<bool, Box<dyn Error>> {
    while let Some((message, length)) = message::parse(bytes)? {
        if matches!(message, Message::Request(_)) {
            return Ok(true);
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(false)
}

/// A torrent file with random hashes.
fn torrent(name: &str, pieces: u64) -> Vec<u8> {
    let mut hashes = vec![0; 20 * pieces as usize];
    fastrand::Rng::with_seed(1).fill(&mut hashes);
    let (total, length) = (pieces * PIECE, name.len());
    let mut bytes =
        format!("d4:infod6:lengthi{total}e4:name{length}:{name}12:piece lengthi{PIECE}e6:pieces").into_bytes();
    bytes.extend_from_slice(format!("{}:", hashes.len()).as_bytes());
    bytes.extend_from_slice(&hashes);
    bytes.extend_from_slice(b"ee");
    bytes
}
