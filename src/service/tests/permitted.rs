//! A saved torrent runs only in a folder that the service may use now.

use super::*;

fn is_refused(it: &TorrentSummary) -> bool {
    it.activity == Activity::Stopped
        && it.problem.as_ref().is_some_and(|problem| problem.message.contains("permit the folder with --allow-dir"))
}

#[test]
fn a_record_with_another_folder_neither_runs_nor_writes_there() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut it = Fixture::start(temp.path());
    let bytes = torrent(&temp.path().join("elsewhere"), "x", None);
    let request = AddRequest { source: AddSource::Metainfo(bytes), starts_paused: Some(true), ..AddRequest::default() };
    let id = it.control.add(request).expect("added").id;
    it.service = None;
    let documents = temp.path().join("documents");
    std::fs::create_dir_all(documents.join("x")).expect("a folder");
    std::fs::write(documents.join("x/a.bin"), "precious").expect("a document");
    let records = std::fs::read_dir(temp.path().join("state/torrents")).expect("the records").flatten();
    let path = records.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|kind| kind == "json"));
    let path = path.expect("a record");
    let mut record: serde_json::Value = read_json(&path).expect("a record").expect("a record");
    record["folder"] = documents.to_str().expect("a path").into();
    record["may_overwrite_in"] = record["folder"].clone();
    record["desired_state"] = "forced".into();
    std::fs::write(&path, record.to_string()).expect("planted");
    it.restart();
    it.wait_for("the problem", id, is_refused);
    let is_kept = || std::fs::read(documents.join("x/a.bin")).is_ok_and(|it| it == b"precious");
    for act in [0, 1, 2] {
        match act {
            0 => it.control.start(&[id], true).expect("started"),
            1 => it.control.overwrite(id).expect("permitted"),
            _ => it.control.verify(&[id]).expect("verified"),
        }
        it.wait_for("the problem again", id, is_refused);
        assert!(is_kept() && std::fs::read_dir(documents.join("x")).expect("a folder").count() == 1, "act {act}");
    }
    // Another folder helps.
    it.control.set_folder(&[id], &it.downloads().join("new"), false).expect("a permitted folder");
    it.wait_for("it downloads", id, |it| it.activity == Activity::Downloading);
    it.control.remove(&[id], true).expect("removed");
    until("it is gone", || it.control.torrent(id).is_none());
    assert!(is_kept());
}
