//! `btsync serve` below systemd: its sockets, and what it tells systemd.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::common::netns::in_network_namespace;
use crate::common::process::without_settings;
use crate::common::{PATIENCE, TestDir, free_port};

/// Within its namespace, the service reaches nobody.
#[test]
fn the_first_connection_starts_the_service_and_systemd_is_told_of_its_state() {
    const TEST: &str = "the_first_connection_starts_the_service_and_systemd_is_told_of_its_state";
    in_network_namespace(TEST, &["systemd-socket-activate"], || {
        let temp = TestDir::new();
        let socket = UnixDatagram::bind(temp.path("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let told = || {
            let mut text = [0; 1000];
            let length = socket.recv(&mut text).expect("a message");
            String::from_utf8_lossy(&text[..length]).into_owned()
        };
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new("systemd-socket-activate");
        command.args(["-l", &address, "-l", &temp.path("page").display().to_string(), "-E", "NOTIFY_SOCKET"]);
        command.env("NOTIFY_SOCKET", temp.path("notify")).arg(env!("CARGO_BIN_EXE_btsync"));
        command
            .arg("serve")
            .arg("--no-port-mapping")
            .arg("--state-dir")
            .arg(temp.path("state"))
            .arg("--dir")
            .arg(temp.path("downloads"));
        let mut service = temp.start("service", without_settings(&mut command));
        service.wait_for_output("Listening on");
        let mut page = loop {
            // The second socket is announced after the first one.
            if let Ok(page) = TcpStream::connect(&address) {
                break page;
            }
        };
        write!(page, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        page.read_to_end(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        let ready = told();
        assert!(ready.contains("READY=1\n"), "{ready}");
        assert!(ready.contains(&format!("http://{address}/")) && ready.contains("unix:"), "{ready}");
        service.terminate(0);
        assert!(told().contains("STOPPING=1\n"));
        assert!(!service.log().contains(":9091"), "{}", service.log());
    });
}
