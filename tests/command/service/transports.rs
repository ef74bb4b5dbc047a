//! The protocols of a service's connections to peers: the option and the remote control.

use std::net::UdpSocket;

use serde_json::json;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::{Service, base64};
use crate::common::{PATIENCE, TestDir, until};

/// Whether a uTP connection to the service's port is accepted; otherwise nobody uses that UDP port.
fn accepts_utp(service: &Service) -> bool {
    let port = service.rpc("session_get", json!({}))["peer_port"].as_u64().expect("a port");
    let probe = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    probe.set_read_timeout(Some(PATIENCE)).expect("a socket");
    probe.connect(("127.0.0.1", port as u16)).expect("an address");
    // A SYN; the rest of the header is 0.
    probe.send(&[&[0x41, 0, 0x12, 0x34][..], &[0; 16]].concat()).expect("sent");
    probe.recv(&mut [0; 100]).is_ok()
}

#[test]
fn the_remote_control_turns_utp_off_and_on_while_a_torrent_runs() {
    in_network_namespace("the_remote_control_turns_utp_off_and_on_while_a_torrent_runs", &[], || {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 100_000, 32 * 1024));
        let service = Service::start(&temp, "service", &[]);
        // Without the DHT, which would use the port too.
        service.rpc("session_set", json!({"dht_enabled": false, "lpd_enabled": false}));
        payload.write_files(&Service::downloads(&temp, "service"));
        service.rpc("torrent_add", json!({"metainfo": base64(&payload.torrent("http://127.0.0.1:9/announce"))}));
        service.wait_until_seeding(1);
        let in_use = || {
            let session = service.rpc("session_get", json!({}));
            (session["utp_enabled"].clone(), session["tcp_enabled"].clone(), session["preferred_transports"].clone())
        };
        until("uTP is on by default", || accepts_utp(&service));
        assert_eq!(in_use(), (json!(true), json!(true), json!(["tcp", "utp"])));
        service.rpc("session_set", json!({"utp_enabled": false}));
        until("uTP is off", || !accepts_utp(&service));
        until("TCP is in use", || in_use() == (json!(false), json!(true), json!(["tcp"])));
        service.wait_until_seeding(1);
        service.rpc("session_set", json!({"utp_enabled": true}));
        until("uTP is on again", || accepts_utp(&service));
        service.wait_until_seeding(1);
        service.rpc("session_set", json!({"utp_enabled": false}));
        service.kill();

        let service = Service::start(&temp, "service", &[]);
        assert!(!accepts_utp(&service), "the setting is saved");
        service.kill();
        let service = Service::start(&temp, "service", &["--transport", "both"]);
        assert!(accepts_utp(&service), "the option replaces it");
        service.kill();
        let service = Service::start(&temp, "service", &["--transport", "utp"]);
        assert!(accepts_utp(&service));
        let session = service.rpc("session_get", json!({}));
        assert_eq!((&session["tcp_enabled"], &session["preferred_transports"]), (&json!(false), &json!(["utp"])));
    });
}
