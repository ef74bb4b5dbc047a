//! The watch folder: a file is read once, and files of downloads are not added.

use super::*;

/// The user saves another torrent under the same name while the service adds the first one.
#[test]
fn a_file_that_takes_the_name_of_an_added_one_is_added_too() {
    for deletes in [false, true] {
        let temp = tempfile::tempdir().expect("a folder");
        let (watched, elsewhere) = (temp.path().join("watched"), temp.path().join("elsewhere"));
        std::fs::create_dir(&watched).expect("a folder");
        let mut options = options(temp.path());
        options.watch_folder = Some(watched.clone());
        let service = Service::start(options).expect("a service");
        let control = service.control();
        let change = SettingsChange { deletes_watched: Some(deletes), ..SettingsChange::default() };
        control.change_settings(&change).expect("set");
        for number in 0..40 {
            let name = format!("n{number}");
            std::fs::write(temp.path().join("new"), torrent(&elsewhere, &name, None)).expect("written");
            // It may come while the service puts away the one before.
            std::fs::rename(temp.path().join("new"), watched.join("x.torrent")).expect("moved");
            until("the torrent", || control.torrents().iter().any(|it| it.name == name));
        }
        until("the file", || !watched.join("x.torrent").exists());
    }
}

/// As on a file system that cannot mark files.
#[test]
fn a_torrent_file_that_a_download_of_the_command_line_brought_is_not_added() {
    let temp = tempfile::tempdir().expect("a folder");
    let (watched, elsewhere) = (temp.path().join("watched"), temp.path().join("elsewhere"));
    std::fs::create_dir(&watched).expect("a folder");
    let (brought, records) = (watched.join("a.torrent"), temp.path().join("records"));
    std::fs::write(&brought, torrent(&elsewhere, "brought", None)).expect("written");
    let path = brought.canonicalize().expect("the file");
    std::fs::create_dir(&records).expect("a folder");
    std::fs::write(records.join("x"), format!("btsync brought 1\0- {}\0", path.display())).expect("written");
    std::fs::write(watched.join("b.torrent"), torrent(&elsewhere, "own", None)).expect("written");
    let mut options = options(temp.path());
    (options.watch_folder, options.downloaded_torrents_folders) = (Some(watched.clone()), vec![records]);
    let service = Service::start(options).expect("a service");
    let control = service.control();
    // Files are added in the order of their names.
    until("the torrent", || control.torrents().iter().any(|it| it.name == "own"));
    assert_eq!(control.torrents().len(), 1);
    assert!(brought.exists());
}
