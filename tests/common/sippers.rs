//! Peers that download one byte a second, to occupy a connection and an upload slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wire::{Message, Wire, id};

const BLOCK_SIZE: u32 = 16 << 10;

/// Such peers; they continue until this is dropped.
pub struct Sippers {
    over: Arc<AtomicBool>,
    /// How many of them have received all their blocks.
    pub fed: Arc<AtomicUsize>,
    /// How many times they were unchoked, in total.
    pub unchoked: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Sippers {
    /// On each connection, downloads `blocks` blocks at full speed and also requests one byte a second.
    pub fn start(wires: Vec<Wire>, blocks: usize) -> Sippers {
        let (over, fed, unchoked) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let start = |wire| {
            let (over, fed, unchoked) = (over.clone(), fed.clone(), unchoked.clone());
            std::thread::spawn(move || _ = sip(wire, blocks, &over, [&fed, &unchoked]))
        };
        let threads = wires.into_iter().map(start).collect();
        Sippers { over, fed, unchoked, threads }
    }
}

impl Drop for Sippers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no panic"));
    }
}

fn sip(mut wire: Wire, blocks: usize, over: &AtomicBool, counts: [&AtomicUsize; 2]) -> std::io::Result<()> {
    wire.send(id::INTERESTED, &[])?;
    let mut writer = wire.again()?;
    std::thread::scope(|scope| {
        scope.spawn(|| take(&mut wire, blocks, counts));
        while !over.load(Ordering::Relaxed) && writer.request(0, 0, 1).is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
        writer.shut();
    });
    Ok(())
}

/// Downloads `blocks` blocks one after the other, then reads everything that arrives.
fn take(wire: &mut Wire, blocks: usize, [fed, unchoked]: [&AtomicUsize; 2]) {
    let mut left = blocks;
    while let Ok(message) = wire.receive() {
        match message {
            Message::Piece(_, _, block) if block.len() > 1 && left > 0 => {
                left -= 1;
                fed.fetch_add(usize::from(left == 0), Ordering::Relaxed);
            }
            Message::Unchoke => _ = unchoked.fetch_add(1, Ordering::Relaxed),
            _ => continue,
        }
        if left > 0 && wire.request(0, 0, BLOCK_SIZE).is_err() {
            return;
        }
    }
}
