//! The ideal downloader: one connection on one thread that only receives, hashes and writes, or receives and compares.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use btsync::metainfo::Metainfo;
use btsync::types::{BLOCK_SIZE, BlockInfo, PeerId, PieceIndex};
use btsync::util::slab::Slab;
use btsync::wire::Handshake;
use btsync::wire::handshake::LENGTH;
use btsync::wire::message::{self, Message};
use sha1::{Digest, Sha1};

use crate::table::{Figures, thread_cpu};

/// Requests in flight.
const DEPTH: u64 = 128;
/// The most bytes received at once.
const SLAB: usize = 256 * 1024;
/// How long to retry until the other side listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to received data.
pub enum Sink<'a> {
    /// It is hashed and written: a download.
    Disk(&'a File),
    /// It is compared with this payload: measures a seeder.
    Compare(&'a [u8]),
}

/// One connection that downloads the whole torrent, block after block.
pub struct Leech<'a> {
    torrent: &'a Metainfo,
    sink: Sink<'a>,
    stream: TcpStream,
    slab: Slab,
    /// How many bytes of the slab hold received data.
    held: usize,
    sha: Sha1,
    /// Blocks requested, received, and to receive in total.
    asked: u64,
    received: u64,
    goal: u64,
    open: bool,
}

impl<'a> Leech<'a> {
    /// Connects to `addr`, retrying until someone listens, and exchanges handshakes. The torrent is downloaded `passes` times;
    /// its size must be a multiple of the piece length.
    ///
    /// # Errors
    /// The connection error, if nobody listens for a minute.
    pub fn call(addr: SocketAddr, torrent: &'a Metainfo, sink: Sink<'a>, passes: u64) -> io::Result<Leech<'a>> {
        assert!(torrent.total().is_multiple_of(u64::from(torrent.piece_length)), "a last piece that is short");
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            match TcpStream::connect(addr) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_nodelay(true)?;
        let mut hello = Handshake { reserved: [0; 8], info_hash: torrent.info_hash, peer_id: PeerId::generate() };
        hello.peer_id.0[..8].copy_from_slice(b"-XX0002-");
        let mut greeting = hello.encode().to_vec();
        message::write_interested(&mut greeting, true);
        stream.write_all(&greeting)?;
        stream.read_exact(&mut [0; LENGTH])?;
        let goal = torrent.total() / u64::from(BLOCK_SIZE) * passes;
        let slab = Slab::new(SLAB);
        Ok(Leech { torrent, sink, stream, slab, held: 0, sha: Sha1::new(), asked: 0, received: 0, goal, open: false })
    }

    /// Waits for the unchoke.
    ///
    /// # Errors
    /// If the other side disconnects.
    pub fn await_unchoke(&mut self) -> io::Result<()> {
        while !self.open {
            self.receive()?;
        }
        Ok(())
    }

    /// Downloads everything. Returns the time it took and the CPU time of this thread.
    ///
    /// # Errors
    /// If the other side disconnects or sends wrong data.
    pub fn run(mut self) -> io::Result<Figures> {
        let (start, cpu) = (Instant::now(), thread_cpu());
        while self.received < self.goal {
            self.ask()?;
            self.receive()?;
        }
        let bytes = self.goal * u64::from(BLOCK_SIZE);
        Ok(Figures { bytes, wall: start.elapsed(), cpu: thread_cpu().saturating_sub(cpu), peak_kib: None })
    }

    fn block(&self, number: u64) -> BlockInfo {
        let in_piece = u64::from(self.torrent.piece_length / BLOCK_SIZE);
        let piece = number / in_piece % u64::from(self.torrent.piece_count());
        BlockInfo {
            piece: PieceIndex(piece as u32),
            begin: (number % in_piece) as u32 * BLOCK_SIZE,
            length: BLOCK_SIZE,
        }
    }

    /// Requests more blocks once a quarter of the requests was answered.
    fn ask(&mut self) -> io::Result<()> {
        let flying = self.asked - self.received;
        if !self.open || flying > DEPTH * 3 / 4 {
            return Ok(());
        }
        let until = (self.received + DEPTH).min(self.goal);
        let mut batch = Vec::new();
        for number in self.asked..until {
            message::write_request(&mut batch, self.block(number));
        }
        self.asked = until;
        self.stream.write_all(&batch)
    }

    /// Reads once and processes the data.
    fn receive(&mut self) -> io::Result<()> {
        let n = self.stream.read(&mut self.slab[self.held..])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.held += n;
        let slab = std::mem::replace(&mut self.slab, Slab::new(0));
        let taken = self.walk(&slab[..self.held]);
        self.slab = slab;
        let taken = taken?;
        self.slab.copy_within(taken..self.held, 0);
        self.held -= taken;
        Ok(())
    }

    /// Processes the complete frames, and returns their total length in bytes.
    fn walk(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = self.received;
        let (mut at, mut run) = (0, Vec::new());
        while let Some((message, length)) = message::parse(&bytes[at..]).map_err(io::Error::other)? {
            at += length;
            match message {
                Message::Unchoke => self.open = true,
                Message::Piece(block, data) => {
                    if block != self.block(self.received) {
                        return Err(io::Error::other(format!("{block:?} is not what comes next")));
                    }
                    self.take(block, data)?;
                    run.push(IoSlice::new(data));
                }
                _ => {}
            }
        }
        if let Sink::Disk(file) = self.sink {
            let mut offset = first * u64::from(BLOCK_SIZE);
            let mut slices = &mut run[..];
            while !slices.is_empty() {
                let n = rustix::io::pwritev(file, slices, offset)?;
                offset += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
        }
        Ok(at)
    }

    /// Hashes or compares a block.
    fn take(&mut self, block: BlockInfo, data: &[u8]) -> io::Result<()> {
        self.received += 1;
        let right = match self.sink {
            Sink::Compare(payload) => {
                let start = block.piece.as_usize() * self.torrent.piece_length as usize + block.begin as usize;
                payload.get(start..start + data.len()) == Some(data)
            }
            Sink::Disk(_) => {
                self.sha.update(data);
                let whole = block.begin + block.length == self.torrent.piece_length;
                !whole || self.torrent.pieces.get(block.piece.as_usize()) == Some(&self.sha.finalize_reset().into())
            }
        };
        if right { Ok(()) } else { Err(io::Error::other(format!("piece {} is wrong", block.piece.0))) }
    }
}
