//! Seeds a download until its ratio is 2: `cargo run --example seed -- debian.torrent downloads`.

use btsync::{AddOptions, Client, Limits, SeedGoal, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(file), Some(folder)) = (words.next(), words.next()) else {
        return Err("usage: seed FILE.torrent FOLDER".into());
    };
    // Upload at most 1 MiB a second.
    let client = Client::builder().limits(Limits { down: 0, up: 1 << 20 }).build()?;
    let options = AddOptions::new(folder).seed(SeedGoal::default().ratio(2.0));
    let torrent = client.add(Source::file(file)?, options)?;
    let outcome = torrent.wait()?;
    println!("{outcome:?}: {} bytes uploaded", torrent.snapshot().uploaded);
    Ok(())
}
