//! Peers that download one byte a second, to occupy a connection and an upload slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wire::{Message, Wire, id};

const BLOCK_SIZE: u32 = 16 << 10;

/// Such peers; they continue until this is dropped.
pub struct TrickleLeechers {
    over: Arc<AtomicBool>,
    /// How many of them have received all their blocks.
    pub completed: Arc<AtomicUsize>,
    /// How many times they were unchoked, in total.
    pub unchoked: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl TrickleLeechers {
    /// On each connection, downloads `blocks` blocks at full speed and also requests one byte a second.
    pub fn start(wires: Vec<Wire>, blocks: usize) -> TrickleLeechers {
        let (over, completed, unchoked) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let start = |wire| {
            let (over, completed, unchoked) = (over.clone(), completed.clone(), unchoked.clone());
            std::thread::spawn(move || _ = run_trickle(wire, blocks, &over, [&completed, &unchoked]))
        };
        let threads = wires.into_iter().map(start).collect();
        TrickleLeechers { over, completed, unchoked, threads }
    }
}

impl Drop for TrickleLeechers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no panic"));
    }
}

fn run_trickle(mut wire: Wire, blocks: usize, over: &AtomicBool, counts: [&AtomicUsize; 2]) -> std::io::Result<()> {
    wire.send(id::INTERESTED, &[])?;
    let mut writer = wire.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(|| download_blocks(&mut wire, blocks, counts));
        while !over.load(Ordering::Relaxed) && writer.request(0, 0, 1).is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
        writer.shut();
    });
    Ok(())
}

/// Downloads `blocks` blocks one after the other, then reads everything that arrives.
fn download_blocks(wire: &mut Wire, blocks: usize, [completed, unchoked]: [&AtomicUsize; 2]) {
    let mut left = blocks;
    while let Ok(message) = wire.receive() {
        match message {
            Message::Piece(_, _, block) if block.len() > 1 && left > 0 => {
                left -= 1;
                completed.fetch_add(usize::from(left == 0), Ordering::Relaxed);
            }
            Message::Unchoke => _ = unchoked.fetch_add(1, Ordering::Relaxed),
            _ => continue,
        }
        if left > 0 && wire.request(0, 0, BLOCK_SIZE).is_err() {
            return;
        }
    }
}
