//! Creates a torrent file: `cargo run --example create -- photos photos.torrent http://tracker.example/announce`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};

use btsync::create::{CreateOptions, CreatePlan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(source), Some(file)) = (words.next(), words.next()) else {
        return Err("usage: create FILE-OR-FOLDER FILE.torrent [TRACKER…]".into());
    };
    let plan = CreatePlan::scan(Path::new(&source), &[])?;
    println!("{}: {} bytes", plan.name(), plan.total());
    let mut options = CreateOptions::default();
    options.tiers.extend(words.map(|tracker| vec![tracker]));
    let created = plan.create(&options, &AtomicU64::new(0), &AtomicBool::new(false))?;
    std::fs::write(&file, &created.bytes)?;
    println!("{file} {}", created.info_hash);
    Ok(())
}
