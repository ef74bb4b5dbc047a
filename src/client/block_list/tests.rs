use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::client::block_list::test_server::{serve_once, wait_until};
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::net::route::Route;

const OFTEN: Duration = Duration::from_millis(5);
const FIRST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1));
const SECOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(2, 2, 2, 2));

fn loader(source: BlockListSource, copy: Option<PathBuf>) -> BlockListLoader {
    // Bound, because the environment of the test may name a proxy.
    let route = Route::direct(Bind::Address([127, 0, 0, 1].into()));
    BlockListLoader { source, copy, route, filter: Arc::new(AddressFilter::default()), is_outdated: Arc::default() }
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
    let loader = loader(BlockListSource::File(path.clone()), None);
    let filter = loader.filter.clone();
    let watch = BlockListWatch::with_interval(loader, OFTEN).expect("a list");
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
    let start = |name: &str| {
        let loader = loader(BlockListSource::File(folder.path().join(name)), None);
        let filter = loader.filter.clone();
        let started = BlockListWatch::start(loader).map(drop).map_err(|error| error.to_string());
        assert_eq!(filter.stats(), None);
        started.expect_err("no list")
    };
    assert!(start("missing").contains("no such file") && !start("").is_empty());
    fs::write(folder.path().join("page"), "<!DOCTYPE html>\n").expect("a file");
    assert!(start("page").contains("line 1 and others are not in P2P, DAT or CIDR form"));
}

#[test]
fn a_list_is_fetched_by_url_and_kept_for_a_start_without_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("own").join("copy");
    let (url, server) = serve_once("1.1.1.1");
    let first = loader(BlockListSource::new(&url), Some(copy.clone()));
    let filter = first.filter.clone();
    drop(BlockListWatch::start(first).expect("a list"));
    server.join().expect("no panic");
    assert!(filter.is_blocked(FIRST));

    let again = loader(BlockListSource::new(&url), Some(copy.clone()));
    assert_eq!(again.load_or_use_copy().map_err(|error| error.to_string()), Ok(false), "the server is gone");
    assert!(again.filter.is_blocked(FIRST));
    let other = loader(BlockListSource::new(&(url + "2")), Some(copy));
    assert!(other.load_or_use_copy().is_err(), "the kept list is that of another URL");
    assert_eq!(other.filter.stats(), None);
}

#[test]
fn a_list_that_is_loaded_later_applies_when_it_has_come() {
    let (url, server) = serve_once("2.2.2.2");
    let loader = loader(BlockListSource::new(&url), None);
    let filter = loader.filter.clone();
    let watch = BlockListWatch::start_later(loader).expect("a thread");
    wait_until("the list is loaded", || filter.is_blocked(SECOND));
    server.join().expect("no panic");
    drop(watch);
}

#[cfg(feature = "service")]
#[test]
fn a_list_that_comes_after_the_end_of_its_watch_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    let (url, server) = serve_once("1.1.1.1");
    let watch = BlockListWatch::start(loader(BlockListSource::new(&url), Some(copy.clone()))).expect("a list");
    server.join().expect("no panic");
    let (list, kept) = (watch.loader(), fs::read(&copy).expect("a copy"));
    drop(watch);

    let (url, server) = serve_once("2.2.2.2");
    let late = BlockListLoader { source: BlockListSource::new(&url), ..list };
    late.load().expect("a list");
    server.join().expect("no panic");
    assert!(late.filter.is_blocked(FIRST) && !late.filter.is_blocked(SECOND));
    assert_eq!(fs::read(&copy).expect("a copy"), kept);
}

#[test]
fn a_file_that_is_not_ours_is_not_replaced_by_a_kept_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    fs::write(&copy, "a letter").expect("a file");
    let (url, server) = serve_once("1.1.1.1");
    loader(BlockListSource::new(&url), Some(copy.clone())).load().expect("a list");
    server.join().expect("no panic");
    assert_eq!(fs::read(&copy).expect("the file"), b"a letter");
}
