use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::time::Instant;

use super::*;

/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(5);
const FIRST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1));
const SECOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(2, 2, 2, 2));

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(OFTEN);
    }
}

#[test]
fn urls_and_files_are_told_apart() {
    assert_eq!(BlockListSource::new("HTTPS://h/x"), BlockListSource::Url("HTTPS://h/x".into()));
    assert_eq!(BlockListSource::new("http.p2p"), BlockListSource::File("http.p2p".into()));
    assert_eq!(BlockListSource::new("é"), BlockListSource::File("é".into()));
    assert_eq!(BlockListSource::new("https://me:pw@h/secret?key").public_name(), "https://h");
}

#[test]
fn a_file_is_loaded_at_once_and_again_when_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, new) = (folder.path().join("list"), folder.path().join("new"));
    fs::write(&path, "1.1.1.1\n").expect("a file");
    let filter = Arc::new(AddressFilter::default());
    let source = BlockListSource::File(path.clone());
    let watch = BlockListWatch::with_interval(&source, &Bind::Any, &filter, OFTEN).expect("a list");
    assert!(filter.is_blocked(FIRST) && !filter.is_blocked(SECOND));

    fs::write(&new, "2.2.2.2\n").expect("a file");
    fs::rename(&new, &path).expect("another file");
    wait_until("the list is replaced", || filter.is_blocked(SECOND) && !filter.is_blocked(FIRST));

    let version = filter.version();
    fs::remove_file(&path).expect("the file");
    fs::write(&new, "no list at all\n").expect("a file");
    fs::rename(&new, &path).expect("another file");
    fs::write(&new, "1.1.1.1\n2.2.2.2\n").expect("a file");
    assert!(filter.is_blocked(SECOND), "the former list stays in force");
    fs::rename(&new, &path).expect("another file");
    wait_until("the next list is loaded", || filter.is_blocked(FIRST));
    assert_eq!(filter.version(), version + 1);
    drop(watch);
}

#[test]
fn a_list_that_is_missing_or_no_list_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let filter = Arc::new(AddressFilter::default());
    let start = |name: &str| {
        let source = BlockListSource::File(folder.path().join(name));
        BlockListWatch::start(&source, &Bind::Any, &filter).map(drop).map_err(|error| block_list_reason(&error))
    };
    assert!(start("missing").is_err() && start("").is_err());
    fs::write(folder.path().join("page"), "<!DOCTYPE html>\n").expect("a file");
    assert_eq!(start("page"), Err("line 1 and others are not in P2P, DAT or CIDR form".to_owned()));
    assert_eq!(filter.stats(), None);
}

#[test]
fn a_list_is_fetched_by_url() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/list", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n1.1.1.1").expect("sent");
    });
    let filter = Arc::new(AddressFilter::default());
    // Bound, because the environment of the test may name a proxy.
    let bind = Bind::Address([127, 0, 0, 1].into());
    let watch = BlockListWatch::start(&BlockListSource::new(&url), &bind, &filter).expect("a list");
    assert!(filter.is_blocked(FIRST));
    server.join().expect("no panic");
    drop(watch);
}
