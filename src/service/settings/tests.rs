use super::*;
use crate::service::model::TorrentSettings;

/// The files of earlier versions must remain readable, so the names in them never change.
#[test]
fn saved_settings_keep_the_names_of_their_fields() {
    let saved = r#"{"down_limit": {"kilobytes": 7, "enabled": true}, "alternative": {"enabled": true},
        "network": {"dht": false, "lsd": false, "pex": false, "port_mapping": false, "utp": false}, "block_list": {"enabled": true}}"#;
    let read: SessionSettings = serde_json::from_str(saved).expect("settings");
    assert!(read.down_limit.is_enabled && read.alternative.is_enabled && read.block_list.is_enabled);
    assert!(!read.network.uses_dht && !read.network.uses_lsd && !read.network.uses_pex);
    assert_eq!((read.network.maps_port, read.network.uses_utp), (Some(false), Some(false)));
    let written: serde_json::Value = serde_json::to_value(&read).expect("JSON");
    assert_eq!(written["down_limit"]["enabled"], true);
    assert_eq!(written["network"]["dht"], false);
    let torrent: TorrentSettings = serde_json::from_str(r#"{"sequential": true}"#).expect("settings");
    assert!(torrent.is_sequential && serde_json::to_string(&torrent).expect("JSON").contains(r#""sequential":true"#));
}
