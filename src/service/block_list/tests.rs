use super::*;
use crate::client::block_list::test_server::{serve_once, wait_until};
use crate::net::route::Route;

fn on(url: &str) -> BlockListSettings {
    BlockListSettings { is_enabled: true, url: url.to_owned() }
}

#[test]
fn a_remote_control_turns_a_list_on_and_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let list =
        ServiceBlockList::start(None, &BlockListSettings::default(), folder.path().join("list"), &Route::default())
            .expect("a list");
    assert!(list.update().is_err(), "there is none");
    let (url, server) = serve_once("1.1.1.1");
    list.apply(&on(&url));
    wait_until("the list is loaded", || list.filter().is_blocked([1, 1, 1, 1].into()));
    server.join().expect("no panic");
    assert_eq!(list.view(), BlockListView { is_enabled: true, url: url.clone(), ranges: 1, hits: 0 });
    assert!(list.update().is_err_and(|why| !why.contains("os error")), "the server is gone");
    assert_eq!(list.view().ranges, 1, "the former list stays");

    list.apply(&BlockListSettings { is_enabled: false, url: url.clone() });
    assert!(!list.filter().is_blocked([1, 1, 1, 1].into()));
    assert_eq!(list.view(), BlockListView { is_enabled: false, url, ranges: 0, hits: 0 });
}

#[test]
fn the_list_of_the_last_time_is_in_force_before_the_server_has_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("list");
    let (url, server) = serve_once("1.1.1.1\n2.2.2.2");
    let first =
        ServiceBlockList::start(None, &BlockListSettings::default(), copy.clone(), &Route::default()).expect("a list");
    first.apply(&on(&url));
    wait_until("the list is loaded and kept", || first.view().ranges == 2 && copy.exists());
    server.join().expect("no panic");
    let again = ServiceBlockList::start(None, &on(&url), copy.clone(), &Route::default()).expect("a list");
    assert_eq!(again.view().ranges, 2);
    let other = ServiceBlockList::start(None, &on(&(url + "2")), copy, &Route::default())
        .expect("a service starts all the same");
    assert_eq!(other.view().ranges, 0, "that is the list of another URL");
}

#[test]
fn the_list_of_the_option_stays_whatever_a_remote_control_sets() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.p2p");
    std::fs::write(&file, "2.2.2.2\n").expect("a file");
    let copy = folder.path().join("list");
    let start = |place: &str| {
        ServiceBlockList::start(Some(place), &BlockListSettings::default(), copy.clone(), &Route::default())
    };
    let list = start(file.to_str().expect("a name")).expect("a list");
    list.apply(&on("http://127.0.0.1:9/list"));
    assert_eq!(list.view(), BlockListView { is_enabled: true, url: String::new(), ranges: 1, hits: 0 });
    assert_eq!(list.update(), Ok(1));
    assert!(start("/does/not/exist").is_err(), "without its list, the service does not start");
}

#[test]
fn a_remote_control_cannot_name_a_file() {
    assert_eq!(chosen(&on("/etc/passwd")), None);
    assert_eq!(chosen(&on("")), None);
}
