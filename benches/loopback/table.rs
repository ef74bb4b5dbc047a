//! The measured figures, and their medians next to the floor's.

use std::time::Duration;

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Payload bytes.
    pub bytes: u64,
    /// The duration.
    pub wall: Duration,
    /// User and system time of the measured side.
    pub cpu: Duration,
    /// Its peak memory in KiB, if known.
    pub peak_kib: Option<u64>,
}

/// All runs, with one row per scenario.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    floor: &'static str,
    runs: Vec<Figures>,
}

impl Table {
    /// Adds a run of the scenario `name`, which is compared with the scenario `floor`.
    pub fn add(&mut self, name: &'static str, floor: &'static str, figures: Figures) {
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.runs.push(figures),
            None => self.rows.push(Row { name, floor, runs: vec![figures] }),
        }
    }

    /// Prints medians, ranges in brackets, and the ratios of the medians to the floor's.
    pub fn print(&self) {
        println!("{:<28} {:>8}  {:<25} {:<25} {:>8}", "", "MiB/s", "wall s", "CPU s/GiB", "peak MiB");
        for row in &self.rows {
            let floor = self.rows.iter().find(|other| other.name == row.floor).unwrap_or(row);
            let figure = |of: fn(&Figures) -> f64| {
                let (low, median, high) = spread(&row.runs, of);
                let ratio = median / spread(&floor.runs, of).1;
                format!("{median:.3} ({low:.3}-{high:.3}) {ratio:.2}x")
            };
            let rate = spread(&row.runs, |f| f.bytes as f64 / MIB / f.wall.as_secs_f64()).1;
            let peak = row.runs.iter().filter_map(|f| f.peak_kib).max();
            let peak = peak.map_or_else(String::new, |kib| format!("{:.1}", kib as f64 / 1024.0));
            let (wall, cpu) = (figure(wall), figure(cpu));
            println!("{:<28} {rate:>8.0}  {wall:<25} {cpu:<25} {peak:>8}", row.name);
        }
    }
}

fn wall(figures: &Figures) -> f64 {
    figures.wall.as_secs_f64()
}

fn cpu(figures: &Figures) -> f64 {
    figures.cpu.as_secs_f64() * GIB / figures.bytes as f64
}

/// The minimum, the median and the maximum.
fn spread(runs: &[Figures], of: impl Fn(&Figures) -> f64) -> (f64, f64, f64) {
    let mut all: Vec<f64> = runs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    let at = |n: usize| all.get(n).copied().unwrap_or(f64::NAN);
    (at(0), at(all.len() / 2), at(all.len().saturating_sub(1)))
}

/// The CPU time of this thread so far.
pub fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
