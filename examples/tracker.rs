//! Runs a tracker for a closed network for an hour, and announces to it: `cargo run --example tracker -- 127.0.0.1:6969`.

use std::time::Duration;

use btsync::InfoHash;
use btsync::tracker::{Announce, AnnounceEvent, TrackerClient, TrackerServer, TrackerServerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let server = TrackerServer::start(listen.parse()?, TrackerServerConfig::default())?;
    let url = format!("http://{}/announce", server.addr());
    println!("listening on {url}");

    let announce = Announce::new(InfoHash([7; 20]), 6881).event(AnnounceEvent::Started);
    let response = TrackerClient::default().announce(&url, &announce, false, Duration::from_secs(10), drop)?;
    println!("peers: {:?}, next announce in {:?}", response.peers, response.interval);

    if std::env::args().len() > 1 {
        std::thread::sleep(Duration::from_secs(3600));
    }
    server.stop();
    Ok(())
}
