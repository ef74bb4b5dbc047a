//! Downloads a torrent file: `cargo run --example download -- debian.torrent downloads`.

use btsync::{AddOptions, Client, Event, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(file), Some(folder)) = (words.next(), words.next()) else {
        return Err("usage: download FILE.torrent FOLDER".into());
    };
    let client = Client::builder().build()?;
    let torrent = client.add(Source::file(file)?, AddOptions::new(folder))?;
    for event in torrent.events() {
        match event {
            Event::Listening { port } => println!("listening on port {port}"),
            Event::Announced { tracker, peers, .. } => println!("{tracker} named {peers} peers"),
            Event::Completed => println!("complete"),
            _ => {}
        }
    }
    println!("{:?}", torrent.wait()?);
    Ok(())
}
