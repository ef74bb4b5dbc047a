//! The public face of the library: a change shows here, in review.

use std::collections::BTreeSet;
use std::path::Path;

/// The most public types, traits, functions and constants; methods, fields and variants do not count. 70 without the optional
/// feature `service`, which has six, and the priorities of files that it needs.
const MAX_ITEMS: usize = 85;

const FACE: &str = "
    AddOptions Allocation Bind BlockListStats ClaimPosition Client ClientBuilder ClientError DhtSettings DhtStatus Dscp Encryption Event Events FileEntry FilePattern
    FileView FlawedFile InfoHash InfoHashV2 LayoutError Limits Magnet MappingFailure MappingProtocol MappingState MagnetError Metainfo MetainfoError NetworkStatus Operation Outcome
    PeerAddress PeerSearchStats PeerView PieceIndex PieceState PortMapping PortMappingStatus ProxyCheck SeedGoal SelectError Selection Snapshot Source Stage StorageError
    StorageErrorKind Torrent TorrentEdit TorrentError TorrentHandle TorrentVersion TrackerState Transport Transports Verification Verifier
    create::CreateError create::CreateOptions create::CreatePlan create::CreatedTorrent create::Glob
    dht::DhtItem dht::DhtService dht::ItemError dht::ItemKey dht::ItemPutResult dht::ItemTarget
    tracker::Announce tracker::AnnounceEvent tracker::AnnounceResponse tracker::FetchedUrl tracker::PeerId
    PasswordHash RunPage Service ServiceError ServiceOptions WebOptions
    tracker::TrackerClient tracker::TrackerError tracker::TrackerServer tracker::TrackerServerConfig
    tracker::UrlFetcher
";

/// All that src/lib.rs makes public without the feature `internals`.
fn public_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut module = String::new();
    let mut is_internal = false;
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for statement in code.split_inclusive([';', '{', '}']).collect::<Vec<_>>().join("").replace('\n', " ").split(';') {
        let mut statement = statement.trim();
        while let Some(rest) = statement.strip_prefix('}') {
            (statement, module) = (rest.trim(), String::new());
        }
        while let Some(rest) = statement.strip_prefix("#[") {
            let (attribute, rest) = rest.split_once(']').expect("the attribute's end");
            let internals = "feature = \"internals\"";
            is_internal |= attribute.contains(internals) && !attribute.contains(&format!("not({internals})"));
            statement = rest.trim();
        }
        if let Some((name, rest)) = statement.strip_prefix("pub mod ").and_then(|rest| rest.split_once('{')) {
            module = format!("{}::", name.trim());
            statement = rest.trim();
        }
        match statement.strip_prefix("pub use ") {
            Some(path) => {
                let (_, items) = path.rsplit_once("::").expect("a path");
                let items = path.split_once('{').map_or(items, |(_, items)| items.trim_end_matches([' ', '}']));
                let items = items.split(',').map(str::trim).filter(|item| !item.is_empty());
                names.extend(items.map(|item| format!("{module}{item}")));
            }
            None => assert!(!statement.starts_with("pub ") || is_internal, "unknown statement: {statement}"),
        }
        is_internal = false;
    }
    names
}

#[test]
fn the_public_face_is_small_and_known() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let names = public_names(&std::fs::read_to_string(path).expect("src/lib.rs"));
    let known: BTreeSet<String> = FACE.split_whitespace().map(str::to_owned).collect();
    assert_eq!(names, known);
    assert!(names.len() <= MAX_ITEMS, "{} items", names.len());
}
