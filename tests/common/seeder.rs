//! Scripted peers: an honest seeder that a test can hold back block by block, and peers with any other behaviour.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::PATIENCE;
use super::payload::Payload;
use super::wire::{Message, Wire, handshake, id};

/// Limits a seeder: it serves as many blocks as the test granted, and counts the blocks it served.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    granted: usize,
    served: usize,
    given_up: bool,
}

impl Gate {
    /// A gate that grants `blocks` blocks.
    pub fn new(blocks: usize) -> Arc<Gate> {
        let gate = Gate::default();
        gate.state.lock().granted = blocks;
        Arc::new(gate)
    }

    /// Grants more blocks.
    pub fn grant(&self, blocks: usize) {
        let mut state = self.state.lock();
        state.granted = state.granted.saturating_add(blocks);
        drop(state);
        self.changed.notify_all();
    }

    /// Removes the limit.
    pub fn open(&self) {
        self.state.lock().granted = usize::MAX;
        self.changed.notify_all();
    }

    /// Blocks served so far.
    pub fn served(&self) -> usize {
        self.state.lock().served
    }

    /// Waits until the test has granted at least one block.
    pub fn wait_open(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        while state.granted == 0 {
            if state.given_up || self.changed.wait_for(&mut state, PATIENCE).timed_out() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the gate never opened"));
            }
        }
        Ok(())
    }

    /// Waits until a block may be served.
    fn pass(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        while state.served >= state.granted {
            if state.given_up || self.changed.wait_for(&mut state, PATIENCE).timed_out() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the gate never opened"));
            }
        }
        state.served += 1;
        Ok(())
    }

    fn give_up(&self) {
        self.state.lock().given_up = true;
        self.changed.notify_all();
    }
}

/// A peer that listens on loopback and runs the same script on every connection.
pub struct FakePeer {
    /// The address it listens on.
    pub addr: SocketAddr,
    outcomes: mpsc::Receiver<io::Result<()>>,
    stop: Arc<AtomicBool>,
    gate: Option<Arc<Gate>>,
    acceptor: Option<JoinHandle<()>>,
}

impl FakePeer {
    /// Runs `behave` on each connection, from its first byte.
    pub fn raw(behave: impl Fn(Wire) -> io::Result<()> + Send + Sync + 'static) -> FakePeer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let addr = listener.local_addr().expect("an address");
        let (told, outcomes) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, behave) = (stop.clone(), Arc::new(behave));
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (told, behave) = (told.clone(), behave.clone());
                if let Ok(stream) = stream {
                    // The thread ends with its connection, which btsync closes.
                    std::thread::spawn(move || drop(told.send(behave(Wire::raw(stream)))));
                }
            }
        });
        FakePeer { addr, outcomes, stop, gate: None, acceptor: Some(acceptor) }
    }

    /// Completes the handshake, then runs `behave`.
    pub fn new(info_hash: [u8; 20], behave: impl Fn(Wire) -> io::Result<()> + Send + Sync + 'static) -> FakePeer {
        FakePeer::raw(move |mut wire| {
            wire.read_handshake()?;
            wire.send_raw(&handshake(info_hash))?;
            behave(wire)
        })
    }

    /// An honest seeder. While its gate is closed it does not unchoke, so no peer waits for a block.
    pub fn honest(payload: &Payload, gate: &Arc<Gate>) -> FakePeer {
        let (held, for_peer) = (gate.clone(), payload.clone());
        let content = Arc::new(payload.content());
        let mut peer = FakePeer::new(payload.info_hash(), move |mut wire| {
            wire.send(id::BITFIELD, &full_bitfield(for_peer.pieces()))?;
            held.wait_open()?;
            wire.send(id::UNCHOKE, &[])?;
            serve(&mut wire, &for_peer, &content, &held)
        });
        peer.gate = Some(gate.clone());
        peer
    }

    /// The result of the next connection to end; panics when none ends in time.
    pub fn outcome(&self) -> io::Result<()> {
        self.outcomes.recv_timeout(PATIENCE * 2).expect("btsync never connected, or the connection never ended")
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(gate) = &self.gate {
            gate.give_up();
        }
        // Wakes the acceptor so that it sees the flag.
        drop(std::net::TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// Answers requests until the other side closes the connection.
pub fn serve(wire: &mut Wire, payload: &Payload, content: &[u8], gate: &Gate) -> io::Result<()> {
    loop {
        if let Message::Request(piece, begin, length) = wire.receive()? {
            gate.pass()?;
            wire.send_block(piece, begin, block(payload, content, piece, begin, length))?;
        }
    }
}

/// The block that a request names.
pub fn block<'a>(payload: &Payload, content: &'a [u8], piece: u32, begin: u32, length: u32) -> &'a [u8] {
    let start = piece as usize * payload.piece_length + begin as usize;
    assert!(begin as usize + length as usize <= payload.piece_length, "a request over the piece's end");
    content.get(start..start + length as usize).expect("a request within the torrent")
}

/// A bitfield with every piece set.
pub fn full_bitfield(pieces: usize) -> Vec<u8> {
    let mut bits = vec![0xff; pieces.div_ceil(8)];
    let spare = (8 - pieces % 8) % 8;
    if let Some(last) = bits.last_mut() {
        *last = (0xff_u16 << spare) as u8;
    }
    bits
}
