//! The ideal seeder: one thread per connection, which answers requests in order with one `writev` per batch.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use btsync::metainfo::Metainfo;
use btsync::types::{BLOCK_SIZE, Bitfield, BlockInfo, PeerId};
use btsync::util::slab::Slab;
use btsync::wire::Handshake;
use btsync::wire::handshake::LENGTH;
use btsync::wire::message::{self, Message, PIECE_HEADER_LENGTH};

use crate::table::thread_cpu;

/// The most blocks per `writev`: 256 KiB.
const BATCH: usize = 16;

/// Where the blocks come from.
#[derive(Clone)]
pub enum Source {
    /// Memory: only sending costs anything.
    Memory(Arc<Slab>),
    /// A file, with one `pread` for adjacent blocks: the least that a seeder must do.
    File(Arc<File>),
}

/// A seeder that listens on loopback.
pub struct Seeder {
    /// The address it listens on.
    pub addr: SocketAddr,
    closing: Arc<AtomicBool>,
    acceptor: JoinHandle<Duration>,
}

impl Seeder {
    /// Starts a seeder that has every piece.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(torrent: &Metainfo, source: &Source) -> io::Result<Seeder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let mut hello = Handshake { reserved: [0; 8], info_hash: torrent.info_hash, peer_id: PeerId::generate() };
        hello.peer_id.0[..8].copy_from_slice(b"-XX0001-");
        let mut greeting = hello.encode().to_vec();
        message::write_bitfield(&mut greeting, Bitfield::full(torrent.piece_count()).as_bytes());
        let (source, piece_length) = (source.clone(), torrent.piece_length);
        let closing = Arc::new(AtomicBool::new(false));
        let closed = closing.clone();
        let acceptor = thread::spawn(move || {
            thread::scope(|scope| {
                let mut connections = Vec::new();
                for stream in listener.incoming().map_while(Result::ok) {
                    if closed.load(Ordering::Acquire) {
                        break;
                    }
                    let mut connection = Connection::new(stream, &source, piece_length);
                    let greeting = &greeting;
                    connections.push(scope.spawn(move || {
                        // An error only means that the other side has everything and left; the measuring side compares the data.
                        let _ = connection.serve(greeting);
                        thread_cpu()
                    }));
                }
                connections.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
            })
        });
        Ok(Seeder { addr, closing, acceptor })
    }

    /// Waits until all peers have left. Returns the CPU time spent serving them.
    pub fn finish(self) -> Duration {
        self.closing.store(true, Ordering::Release);
        drop(TcpStream::connect(self.addr)); // wakes the acceptor
        self.acceptor.join().unwrap_or_default()
    }
}

struct Connection<'a> {
    stream: TcpStream,
    source: &'a Source,
    piece_length: u64,
    slab: Slab,
    received: Vec<u8>,
}

impl Connection<'_> {
    fn new(stream: TcpStream, source: &Source, piece_length: u32) -> Connection<'_> {
        let slab = Slab::new(BATCH * BLOCK_SIZE as usize);
        Connection { stream, source, piece_length: u64::from(piece_length), slab, received: Vec::new() }
    }

    fn serve(&mut self, greeting: &[u8]) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.read_exact(&mut [0; LENGTH])?;
        self.stream.write_all(greeting)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut asked = Vec::new();
        loop {
            let n = self.stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            self.received.extend_from_slice(&buffer[..n]);
            self.walk(&mut asked)?;
            for batch in asked.chunks(BATCH) {
                self.answer(batch)?;
            }
            asked.clear();
        }
    }

    /// Processes the complete messages.
    fn walk(&mut self, asked: &mut Vec<BlockInfo>) -> io::Result<()> {
        let mut at = 0;
        while let Some((message, length)) = message::parse(&self.received[at..]).map_err(io::Error::other)? {
            at += length;
            match message {
                Message::Interested => {
                    let mut unchoke = Vec::new();
                    message::write_choke(&mut unchoke, false);
                    self.stream.write_all(&unchoke)?;
                }
                Message::Request(block) => asked.push(block),
                _ => {}
            }
        }
        self.received.drain(..at);
        Ok(())
    }

    fn answer(&mut self, blocks: &[BlockInfo]) -> io::Result<()> {
        let start = |b: &BlockInfo| u64::from(b.piece.0) * self.piece_length + u64::from(b.begin);
        for run in blocks.chunk_by(|a, b| start(a) + u64::from(a.length) == start(b)) {
            let (from, bytes) = (start(&run[0]), run.iter().map(|b| b.length as usize).sum::<usize>());
            let mut data = match self.source {
                Source::Memory(payload) => &payload[from as usize..from as usize + bytes],
                Source::File(file) => {
                    file.read_exact_at(&mut self.slab[..bytes], from)?;
                    &self.slab[..bytes]
                }
            };
            let heads: Vec<[u8; PIECE_HEADER_LENGTH]> = run.iter().map(|b| message::piece_header(*b)).collect();
            let mut slices = Vec::with_capacity(2 * run.len());
            for (head, block) in heads.iter().zip(run) {
                let (block, rest) = data.split_at(block.length as usize);
                data = rest;
                slices.extend([IoSlice::new(head), IoSlice::new(block)]);
            }
            write_all(&mut self.stream, &mut slices)?;
        }
        Ok(())
    }
}

fn write_all(stream: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => IoSlice::advance_slices(&mut slices, n),
        }
    }
    Ok(())
}
