//! Asks the DHT for peers of a torrent for a minute: `cargo run --example dht_lookup -- INFO-HASH`.

use std::time::Duration;

use btsync::{Bind, DhtSettings, Magnet};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let info_hash = std::env::args().nth(1).ok_or("usage: dht_lookup INFO-HASH")?;
    let magnet = Magnet::parse(&format!("magnet:?xt=urn:btih:{info_hash}"))?;
    let dht = DhtSettings::default().start(0, &Bind::Any)?;
    for peer in dht.find_peers(magnet.info_hash, None, Duration::from_secs(60)) {
        println!("{peer}");
    }
    dht.stop()?;
    Ok(())
}
