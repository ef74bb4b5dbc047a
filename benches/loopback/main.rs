//! Whole downloads and uploads on loopback, each next to its floor: the least that it can cost on this machine.
//!
//! The floor of a download is one thread with one connection that receives, hashes and writes. The floor of seeding is a thread
//! that reads from a file and sends. Both, and the ideal other side of each, run in this process; btsync runs as its child
//! process. The scenarios alternate, round after round; the first round is a warm-up. All received data is compared. `BENCH_MIB`
//! (512) sets the size of the torrent, `BENCH_ROUNDS` (5) the number of rounds.

#[path = "../support/child.rs"]
mod child;
mod leech;
mod seeder;
mod table;

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};
use std::{env, thread};

use btsync::metainfo::{self, CreateOptions, Metainfo};
use btsync::util::slab::Slab;

use child::{Btsync, cpu_of, free_port, peak_kib};
use leech::{Leech, Sink};
use seeder::{Seeder, Source};
use table::{Figures, Table};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: usize = 1 << 20;
const PIECE: u32 = 1 << 20;
/// How often a seeder uploads the whole torrent: the system counts a process's CPU time in hundredths of a second.
const PASSES: u64 = 4;

fn main() -> Result<()> {
    // `cargo test --benches` runs this too, without `--bench`; then a small run is enough.
    let (mib, rounds) = if env::args().any(|arg| arg == "--bench") {
        (number("BENCH_MIB", 512)?, number("BENCH_ROUNDS", 5)?)
    } else {
        (8, 1)
    };
    let scene = Scene::new(mib)?;
    let mut table = Table::default();
    println!("{mib} MiB over loopback, medians of {rounds} rounds (least-most), ratios to the floor");
    for round in 0..=rounds {
        for (name, floor, figures) in scene.round()? {
            if round > 0 {
                table.add(name, floor, figures);
            }
        }
    }
    table.print();
    Ok(())
}

fn number(name: &str, otherwise: usize) -> Result<usize> {
    Ok(env::var(name).map_or(Ok(otherwise), |text| text.parse())?.max(1))
}

/// A payload in memory and on disk, and its torrent.
struct Scene {
    folder: tempfile::TempDir,
    payload: Arc<Slab>,
    torrent: Metainfo,
}

impl Scene {
    fn new(mib: usize) -> Result<Scene> {
        let folder = tempfile::tempdir()?;
        let mut payload = Slab::new(mib * MIB);
        fastrand::Rng::with_seed(1).fill(&mut payload);
        fs::create_dir(folder.path().join("seed"))?;
        let file = folder.path().join("seed/payload");
        fs::write(&file, &*payload)?;
        let options = CreateOptions { piece_length: Some(PIECE), ..CreateOptions::default() };
        let created = metainfo::create(&file, &options, &AtomicU64::new(0), &AtomicBool::new(false))?;
        fs::write(folder.path().join("payload.torrent"), &created.bytes)?;
        Ok(Scene { folder, payload: Arc::new(payload), torrent: Metainfo::parse(&created.bytes)? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs every scenario once. Returns its name, the name of its floor, and its figures.
    fn round(&self) -> Result<[(&'static str, &'static str, Figures); 5]> {
        let (down, up) = ("floor: download", "floor: seeding");
        Ok([
            (down, down, self.download_floor()?),
            ("btsync from 1 seeder", down, self.download(1)?),
            ("btsync from 8 seeders", down, self.download(8)?),
            (up, up, self.seed_floor()?),
            ("btsync seeding to 1", up, self.seed()?),
        ])
    }

    fn download_floor(&self) -> Result<Figures> {
        let seeder = Seeder::start(&self.torrent, &Source::Memory(self.payload.clone()))?;
        let path = self.path("floor");
        let file = File::create_new(&path)?;
        file.set_len(self.torrent.total())?;
        let figures = Leech::call(seeder.addr, &self.torrent, Sink::Disk(&file), 1)?.run()?;
        seeder.finish();
        self.compare(path)?;
        Ok(figures)
    }

    /// btsync from its start to its exit, downloading from this many seeders.
    fn download(&self, seeders: usize) -> Result<Figures> {
        let source = Source::Memory(self.payload.clone());
        let start = |_| Seeder::start(&self.torrent, &source);
        let seeders: Vec<Seeder> = (0..seeders).map(start).collect::<std::io::Result<_>>()?;
        let out = self.path("down");
        let mut args = vec![self.path("payload.torrent").into_os_string(), out.clone().into_os_string()];
        for seeder in &seeders {
            args.extend(["--peer".into(), seeder.addr.to_string().into()]);
        }
        let port = free_port()?;
        let (before, start) = (children_cpu(), Instant::now());
        let mut btsync = Btsync::start(port, args)?;
        let pid = btsync.pid();
        let watch = thread::spawn(move || watch_peak(pid));
        btsync.wait(0)?;
        let figures = Figures {
            bytes: self.torrent.total(),
            wall: start.elapsed(),
            cpu: children_cpu().saturating_sub(before),
            peak_kib: watch.join().ok().flatten(),
        };
        for seeder in seeders {
            seeder.finish();
        }
        self.compare(out.join("payload"))?;
        fs::remove_dir_all(out)?;
        Ok(figures)
    }

    fn seed_floor(&self) -> Result<Figures> {
        let file = File::open(self.path("seed/payload"))?;
        let seeder = Seeder::start(&self.torrent, &Source::File(Arc::new(file)))?;
        let mut leech = Leech::call(seeder.addr, &self.torrent, Sink::Compare(&self.payload), PASSES)?;
        leech.await_unchoke()?;
        let figures = leech.run()?;
        Ok(Figures { cpu: seeder.finish(), ..figures })
    }

    /// btsync from the first request to the last block.
    fn seed(&self) -> Result<Figures> {
        let port = free_port()?;
        let args = [self.path("payload.torrent").into_os_string(), self.path("seed").into_os_string(), "--seed".into()];
        let mut btsync = Btsync::start(port, args)?;
        let mut leech =
            Leech::call(([127, 0, 0, 1], port).into(), &self.torrent, Sink::Compare(&self.payload), PASSES)?;
        leech.await_unchoke()?;
        let spent = || cpu_of(btsync.pid()).map_or(Duration::ZERO, |(own, _)| own);
        let before = spent();
        let figures = leech.run()?;
        let (cpu, peak_kib) = (spent().saturating_sub(before), peak_kib(btsync.pid()));
        btsync.stop(0)?;
        Ok(Figures { cpu, peak_kib, ..figures })
    }

    /// Compares a file with the payload, then removes it.
    fn compare(&self, path: PathBuf) -> Result<()> {
        let file = File::open(&path)?;
        let mut slab = Slab::new(MIB);
        for (n, part) in self.payload.chunks(MIB).enumerate() {
            file.read_exact_at(&mut slab, (n * MIB) as u64)?;
            if *slab != *part {
                return Err(format!("{} differs from what was seeded", path.display()).into());
            }
        }
        Ok(fs::remove_file(path)?)
    }
}

/// The CPU time of all child processes that have exited.
fn children_cpu() -> Duration {
    cpu_of(std::process::id()).map_or(Duration::ZERO, |(_, children)| children)
}

/// The peak memory of the process in KiB, polled while it runs, because the figure disappears when it exits.
fn watch_peak(pid: u32) -> Option<u64> {
    let mut peak = None;
    while let Some(now) = peak_kib(pid) {
        peak = Some(now);
        thread::sleep(Duration::from_millis(10));
    }
    peak
}
