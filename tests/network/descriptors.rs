//! How many file descriptors a client needs before it has a connection.

use crate::common::netns::in_network_namespace;
use btsync::client::{Client, LISTEN_DESCRIPTORS, UDP_PER_FAMILY};
use btsync::{DhtSettings, Transports};

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count() as u64
}

#[test]
fn a_client_with_utp_and_the_dht_needs_the_descriptors_that_are_kept_for_it() {
    in_network_namespace("a_client_with_utp_and_the_dht_needs_the_descriptors_that_are_kept_for_it", &[], || {
        let mut dht = DhtSettings::default();
        dht.routers.clear(); // looking their names up needs descriptors for a moment
        let before = open_descriptors();
        let builder = Client::builder().listen_ports(0..=0).transports(Transports::Both).dht(Some(dht)).lsd(false);
        let client = builder.build().expect("a client");
        let dht = client.dht_node().expect("a node").expect("the DHT is on");
        let families = dht.local_addrs().len() as u64;
        assert!(families > 0);
        assert_eq!(open_descriptors() - before, LISTEN_DESCRIPTORS + families * UDP_PER_FAMILY);
    });
}
