//! Saves the torrent file that a magnet link leads to: `cargo run --example magnet -- 'magnet:?xt=…' saved.torrent`.

use btsync::{AddOptions, Client, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(link), Some(file)) = (words.next(), words.next()) else {
        return Err("usage: magnet LINK FILE.torrent".into());
    };
    let client = Client::builder().build()?;
    let torrent = client.add(Source::magnet(&link)?, AddOptions::new(".").metadata_only(true))?;
    torrent.wait()?;
    let metainfo = torrent.metainfo().ok_or("stopped before the metadata arrived")?;
    std::fs::write(&file, metainfo.to_bytes())?;
    println!("{}: {} files, {} bytes", metainfo.name, metainfo.files.len(), metainfo.total());
    Ok(())
}
