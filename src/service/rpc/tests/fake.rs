//! A service of made-up torrents that remembers what it was asked for.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::discovery::port_mapping::status::{MappingProtocol, MappingState, PortMappingStatus};
use crate::service::model::*;
use crate::service::settings::{SessionSettings, SettingsChange};
use crate::types::InfoHash;

/// A call that changes something.
#[allow(dead_code, reason = "tests compare some requests by their debug text")]
#[derive(Clone, Debug)]
pub enum Asked {
    Add(Box<AddRequest>),
    Start(Vec<u32>, bool),
    Stop(Vec<u32>),
    Verify(Vec<u32>),
    Reannounce(Vec<u32>),
    Remove(Vec<u32>, bool),
    Change(Vec<u32>, Box<TorrentChange>),
    SetFolder(Vec<u32>, PathBuf, bool),
    Rename(u32, String, String),
    Overwrite(u32),
    Queue(Vec<u32>, QueueMove),
    Settings(Box<SettingsChange>),
    Group(BandwidthGroup),
    ShutDown,
}

/// The service.
pub struct Fake {
    pub torrents: Vec<TorrentSummary>,
    pub settings: SessionSettings,
    pub groups: Vec<BandwidthGroup>,
    pub is_port_open: Option<bool>,
    /// Whether the torrents have files, peers, trackers and pieces.
    pub pieces: u32,
    /// What the next call of each method that may fail returns.
    pub failure: Option<ControlError>,
    asked: Mutex<Vec<Asked>>,
    read: Mutex<Vec<&'static str>>,
}

impl Fake {
    /// A service with this many torrents, numbered from 1. The first downloads; the second is a magnet link without metadata;
    /// the third seeds; the others are stopped.
    pub fn new(count: u32) -> Fake {
        Fake {
            torrents: (1..=count).map(torrent).collect(),
            settings: SessionSettings { download_folder: "/srv/downloads".into(), ..SessionSettings::default() },
            groups: Vec::new(),
            is_port_open: Some(true),
            pieces: 20,
            failure: None,
            asked: Mutex::default(),
            read: Mutex::default(),
        }
    }

    /// What it was asked to do since the last call of this method.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }

    /// The one change it was asked for.
    pub fn change(&self) -> (Vec<u32>, TorrentChange) {
        match &self.asked()[..] {
            [Asked::Change(ids, change)] => (ids.clone(), (**change).clone()),
            other => panic!("{other:?}"),
        }
    }

    /// The costly details that were read since the last call of this method.
    pub fn read(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.read.lock())
    }

    fn note(&self, asked: Asked) -> Result<(), ControlError> {
        self.asked.lock().push(asked);
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn has_metadata(&self, id: TorrentId) -> bool {
        self.torrents.get(id.0 as usize - 1).is_some_and(|torrent| torrent.metainfo.is_some())
    }
}

/// The info-hash of a torrent.
pub fn hash(id: u32) -> InfoHash {
    let mut bytes = [0xab; 20];
    bytes[16..].copy_from_slice(&id.to_be_bytes());
    InfoHash(bytes)
}

/// A torrent with this number.
pub fn torrent(id: u32) -> TorrentSummary {
    let metainfo = MetainfoSummary {
        entries: 3,
        piece_length: 16384,
        pieces: 20,
        files: 3,
        is_private: true,
        comment: "a comment".to_owned(),
        created_by: "btsync".to_owned(),
        created: UnixTime(1_600_000_000),
        web_seeds: vec!["http://seed.example/".to_owned()],
        mime_type: "video/x-matroska".to_owned(),
    };
    TorrentSummary {
        id: TorrentId(id),
        info_hash: hash(id),
        name: format!("Torrent {id}"),
        activity: match id {
            1 | 2 => Activity::Downloading,
            3 => Activity::Seeding,
            _ => Activity::Stopped,
        },
        problem: (id == 4).then(|| Problem { kind: ProblemKind::FilesInTheWay, message: "in the way".to_owned() }),
        settings: TorrentSettings { labels: vec!["tv".to_owned()], ..TorrentSettings::default() },
        folder: "/srv/downloads".into(),
        queue_position: id as usize - 1,
        times: TorrentTimes {
            added: UnixTime(1_700_000_000),
            started: UnixTime(1_700_000_001),
            downloading: Duration::from_secs(90),
            ..TorrentTimes::default()
        },
        transfer: TransferStats {
            total: 327_680,
            wanted: 327_680,
            missing: if id == 3 { 0 } else { 163_840 },
            verified: 163_840,
            downloaded: 170_000,
            uploaded: 163_840,
            down_rate: if id == 1 { 16384 } else { 0 },
            available: 327_680,
            ..TransferStats::default()
        },
        metainfo: (id != 2).then_some(metainfo),
        metadata_progress: if id == 2 { 0.5 } else { 1.0 },
        check_progress: 0.0,
        is_finished: false,
        is_stalled: false,
        is_moving: id == 4,
        peers: PeerCounts { connected: 2, sending: 1, ..PeerCounts::default() },
        magnet: format!("magnet:?xt=urn:btih:{}", hash(id).hex()),
        torrent_file: format!("/state/{}.torrent", hash(id).hex()).into(),
    }
}

fn numbers(ids: &[TorrentId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}

impl Control for Fake {
    fn torrents(&self) -> Vec<TorrentSummary> {
        self.torrents.clone()
    }

    fn torrent(&self, id: TorrentId) -> Option<TorrentSummary> {
        self.torrents.iter().find(|torrent| torrent.id == id).cloned()
    }

    fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.torrents.iter().find(|torrent| torrent.info_hash == *info_hash).map(|torrent| torrent.id)
    }

    fn recently_removed(&self) -> Vec<TorrentId> {
        vec![TorrentId(77)]
    }

    fn recently_active(&self) -> Vec<TorrentId> {
        self.read.lock().push("recently active");
        vec![TorrentId(1)]
    }

    fn file_link(&self, file: DataFileId) -> Result<String, ControlError> {
        Ok(format!("files/{}/{}?token=x", file.torrent.0, file.index))
    }

    fn is_file_link_valid(&self, _: DataFileId, token: &str) -> bool {
        token == "x"
    }

    fn open_file(&self, _: DataFileId, _: IpAddr) -> Result<OpenDataFile, ControlError> {
        Err(ControlError::Unsupported("a fake has no files"))
    }

    fn files(&self, id: TorrentId) -> Vec<FileDetails> {
        self.read.lock().push("files");
        let file = |index: u32| FileDetails {
            index,
            path: format!("Torrent/file {index}.mkv"),
            length: 100_000,
            have: 50_000,
            is_wanted: index != 1,
            priority: if index == 2 { Priority::High } else { Priority::Normal },
            pieces: index * 6..index * 6 + 7,
        };
        if self.has_metadata(id) { (0..3).map(file).collect() } else { Vec::new() }
    }

    fn peers(&self, _id: TorrentId) -> Vec<PeerDetails> {
        self.read.lock().push("peers");
        let peer = |addr: &str, down_rate| PeerDetails {
            addr: addr.parse().unwrap(),
            client: "Transmission 4.1".to_owned(),
            progress: 0.5,
            down_rate,
            up_rate: 0,
            downloaded: 1000,
            uploaded: 500,
            is_incoming: true,
            is_encrypted: true,
            is_utp: false,
            is_hole_punched: false,
            peer_choking: down_rate == 0,
            peer_interested: true,
            am_choking: true,
            am_interested: true,
            is_snubbing: false,
            source: 'H',
        };
        vec![peer("192.0.2.1:6881", 20_000), peer("[2001:db8::1]:6882", 0)]
    }

    fn trackers(&self, _id: TorrentId) -> Vec<TrackerDetails> {
        self.read.lock().push("trackers");
        let tracker = |id, tier, announce: &str, last| TrackerDetails {
            id,
            tier,
            announce: announce.to_owned(),
            scrape: announce.replace("announce", "scrape"),
            last,
            next: Some(UnixTime(1_700_001_800)),
            is_announcing: false,
            is_backup: id == 1,
        };
        let answer = TrackerAnswer {
            at: UnixTime(1_700_000_000),
            is_success: true,
            message: "Success".to_owned(),
            peers: 12,
            seeders: Some(5),
            leechers: Some(7),
            ..TrackerAnswer::default()
        };
        vec![
            tracker(0, 0, "https://tracker.example.org/announce", Some(answer)),
            tracker(1, 0, "http://two.example.co.uk:8080/announce", None),
            tracker(2, 1, "udp://192.0.2.9:6969/announce", None),
        ]
    }

    fn pieces(&self, id: TorrentId) -> PieceDetails {
        self.read.lock().push("pieces");
        if !self.has_metadata(id) {
            return PieceDetails::default();
        }
        let mut have = vec![0; self.pieces.div_ceil(8) as usize];
        have[0] = 0xc0;
        let availability =
            if id.0 == 1 { (0..self.pieces.cast_signed()).map(|piece| piece * 40).collect() } else { vec![] };
        PieceDetails { have, begun: vec![1, 5], availability }
    }

    fn add(&self, request: AddRequest) -> Result<AddedTorrent, ControlError> {
        let is_duplicate = matches!(&request.source, AddSource::Name(name) if name.contains("duplicate"));
        self.note(Asked::Add(Box::new(request)))?;
        Ok(AddedTorrent { id: TorrentId(9), info_hash: hash(9), name: "Torrent 9".to_owned(), is_duplicate })
    }

    fn start(&self, ids: &[TorrentId], now: bool) -> Result<(), ControlError> {
        self.note(Asked::Start(numbers(ids), now))
    }

    fn stop(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.note(Asked::Stop(numbers(ids)))
    }

    fn verify(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.note(Asked::Verify(numbers(ids)))
    }

    fn reannounce(&self, ids: &[TorrentId]) -> Result<(), ControlError> {
        self.note(Asked::Reannounce(numbers(ids)))
    }

    fn remove(&self, ids: &[TorrentId], delete_data: bool) -> Result<(), ControlError> {
        self.note(Asked::Remove(numbers(ids), delete_data))
    }

    fn change(&self, ids: &[TorrentId], change: &TorrentChange) -> Result<(), ControlError> {
        self.note(Asked::Change(numbers(ids), Box::new(change.clone())))
    }

    fn set_folder(&self, ids: &[TorrentId], folder: &Path, moves_files: bool) -> Result<(), ControlError> {
        self.note(Asked::SetFolder(numbers(ids), folder.to_owned(), moves_files))
    }

    fn rename(&self, id: TorrentId, path: &str, name: &str) -> Result<(), ControlError> {
        self.note(Asked::Rename(id.0, path.to_owned(), name.to_owned()))
    }

    fn overwrite(&self, id: TorrentId) -> Result<(), ControlError> {
        self.note(Asked::Overwrite(id.0))
    }

    fn move_in_queue(&self, ids: &[TorrentId], to: QueueMove) -> Result<(), ControlError> {
        self.note(Asked::Queue(numbers(ids), to))
    }

    fn settings(&self) -> SessionSettings {
        self.settings.clone()
    }

    fn change_settings(&self, change: &SettingsChange) -> Result<(), ControlError> {
        self.note(Asked::Settings(Box::new(change.clone())))
    }

    fn stats(&self) -> SessionStats {
        let sums = SessionSums { downloaded: 10, uploaded: 20, files_added: 3, sessions: 1, seconds: 60 };
        let torrents = self.torrents.len();
        SessionStats { active_torrents: 1, torrents, down_rate: 5, cumulative: sums, ..SessionStats::default() }
    }

    fn free_space(&self, folder: &Path) -> Result<(u64, u64), ControlError> {
        if folder.starts_with("/srv") {
            Ok((1 << 40, 1 << 41))
        } else {
            Err(ControlError::System("No such file or directory".to_owned()))
        }
    }

    fn is_port_open(&self) -> Option<bool> {
        self.is_port_open
    }

    fn is_utp_on(&self) -> bool {
        true
    }

    fn is_port_mapping_on(&self) -> bool {
        true
    }

    fn port_mapping(&self) -> Option<PortMappingStatus> {
        let ipv4 = MappingState::Mapped {
            protocol: MappingProtocol::Upnp,
            tcp_port: Some(51413),
            udp_port: Some(51413),
            external_address: None,
        };
        Some(PortMappingStatus { ipv4, ipv6: None })
    }

    fn peer_port(&self) -> u16 {
        51413
    }

    fn groups(&self) -> Vec<BandwidthGroup> {
        self.groups.clone()
    }

    fn set_group(&self, group: BandwidthGroup) -> Result<(), ControlError> {
        self.note(Asked::Group(group))
    }

    fn state_folder(&self) -> PathBuf {
        "/state".into()
    }

    fn shut_down(&self) {
        self.asked.lock().push(Asked::ShutDown);
    }
}
