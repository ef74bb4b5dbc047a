//! What the service writes to standard error.

use crate::common::TestDir;
use crate::common::netns::in_network_namespace;
use crate::common::service::Service;

#[test]
fn the_log_names_torrents_that_are_left_out() {
    in_network_namespace("the_log_names_torrents_that_are_left_out", &[], || {
        let temp = TestDir::new();
        Service::start(&temp, "service", &[]).kill();
        let torrents = temp.path("service-state/torrents");
        std::fs::write(torrents.join(format!("{}.json", "ab".repeat(20))), "{").expect("a file");
        let mut service = Service::start(&temp, "service", &[]);
        service.running.wait_for_output("this torrent is left out");
        assert!(service.torrents(&["id"]).is_empty());
    });
}
