//! The torrents in testdata/, which another program made: btsync must read the values in `hashes.json`.

use std::path::Path;

use btsync::metainfo::Metainfo;
use serde_json::{Value, json};

#[test]
fn testdata_is_read_as_its_maker_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("hashes.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 4);
    for (name, expected) in expected {
        let torrent = Metainfo::read(&folder.join(format!("{name}.torrent"))).unwrap();
        let files: Vec<_> = torrent.files.iter().map(|f| json!([f.path.to_str(), f.length, f.is_virtual])).collect();
        let read = json!({"info_hash": torrent.info_hash.hex(), "pieces": torrent.piece_count(), "files": files});
        assert_eq!(&read, expected, "{name}");
    }
}
