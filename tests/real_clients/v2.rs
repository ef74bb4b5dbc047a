//! Torrents for BitTorrent v2 and hybrids (BEP 52), beside libtorrent: both create the same torrents and read each other's, and
//! hybrids are exchanged as v1 torrents.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::netns::{address, in_network_namespace, installed};
use crate::common::real::{PYTHON, libtorrent};
use crate::common::{TestDir, btsync, free_port, until};

/// The address of libtorrent on the test's network.
const OTHER: u8 = 2;

const PIECE: usize = 32 << 10;

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

/// Files of every kind of length, and names whose order as paths differs from their order as texts.
fn write_all_shapes(root: &Path) {
    let same = noise(3 * PIECE + 1, 1);
    let files = [
        ("1", noise(1, 2)),
        ("a.b", noise(16 << 10, 3)),
        ("a/b", Vec::new()),
        ("b/c/d", same.clone()),
        ("b/c/e", same),
        ("b/ä ö", noise(PIECE, 4)),
        ("b.c", noise(PIECE + (16 << 10) + 1, 5)),
        ("none", Vec::new()),
        ("p2", noise(4 * PIECE, 6)),
        ("p5", noise(5 * PIECE - 1, 7)),
        ("z/last", noise((16 << 10) - 1, 8)),
    ];
    for (path, content) in &files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    symlink("p2", root.join("link")).expect("a link");
}

/// The output of the script that asks libtorrent.
fn ask_libtorrent(words: &[&str]) -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(repository.join(PYTHON));
    let output = command.arg(repository.join("scripts/lt_create.py")).args(words).output().expect("python");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What btsync says of a torrent, as [`ask_libtorrent`] says it.
fn ask_btsync(torrent: &Path) -> String {
    let output = btsync().args(["info", "--json"]).arg(torrent).output().expect("the program runs");
    if output.status.code() != Some(0) {
        assert!(matches!(output.status.code(), Some(25 | 26)), "{}", String::from_utf8_lossy(&output.stderr));
        return "refused\n".to_owned();
    }
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let v2 = said["info_hash_v2"].as_str().unwrap_or("-");
    let v1 = said["info_hash"].as_str().expect("a hash");
    let mut line = format!("{} {v2}", if v2.starts_with(v1) { "-" } else { v1 });
    for file in
        said["files"].as_array().expect("files").iter().filter(|file| file["pad"] != true && file["length"] != 0)
    {
        let (length, path) = (&file["length"], file["path"].as_str().expect("a path"));
        line.extend([" ", &length.to_string(), ":", path]);
    }
    line + "\n"
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn libtorrent_and_we_create_the_same_torrents() {
    if !installed("libtorrent_and_we_create_the_same_torrents", &[PYTHON]) {
        return;
    }
    let temp = TestDir::new();
    write_all_shapes(&temp.folder("t"));
    fs::create_dir_all(temp.path("one")).expect("a folder");
    fs::write(temp.path("one/file"), noise(100_000, 9)).expect("a file");
    for (length, name) in
        [(1, "byte"), (16 << 10, "block"), (PIECE, "piece"), (PIECE + 1, "more"), (7 * PIECE, "seven")]
    {
        fs::write(temp.path(name), noise(length, 10)).expect("a file");
    }
    for name in ["t", "one", "byte", "block", "piece", "more", "seven"] {
        for version in ["v2", "hybrid"] {
            for piece in ["16384", "32768", "262144"] {
                let (ours, theirs) = (temp.path("ours.torrent"), temp.path("theirs.torrent"));
                let source = temp.path(name);
                ask_libtorrent(&["create", version, text(&source), piece, text(&theirs)]);
                let mut create = btsync();
                create.args(["create", &format!("--{version}"), "--force", "--piece-length", piece]);
                let made = create.arg(&source).arg("-o").arg(&ours).output().expect("the program runs");
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                let read = ask_libtorrent(&["read", text(&ours), text(&theirs)]);
                let (of_ours, of_theirs) = read.split_once('\n').expect("two lines");
                let what = format!("{name}, {version}, pieces of {piece}");
                assert!(!of_ours.contains("refused"), "{what}");
                assert_eq!(of_ours, of_theirs.trim_end(), "{what}");
                assert_eq!(ask_btsync(&ours), format!("{of_ours}\n"), "{what}");
                assert_eq!(ask_btsync(&theirs), format!("{of_ours}\n"), "{what}");
                // A folder with one file becomes a v2 torrent of that file.
                let folder = temp.path(if (name, version) == ("one", "v2") { "one" } else { "" });
                let verified = btsync().arg("verify").arg(&theirs).arg(folder).output().expect("the program runs");
                assert!(verified.status.success(), "{what}: {}", String::from_utf8_lossy(&verified.stderr));
            }
        }
    }
}

/// A seeder sends a hybrid to the other client; the files arrive, and no padding.
fn exchange_hybrid(we_seed: bool) {
    let temp = TestDir::new();
    let source = temp.folder("seeder/t");
    write_all_shapes(&source);
    let torrent = temp.path("x.torrent");
    let mut create = btsync();
    create.args(["create", "--hybrid", "--piece-length", "32K"]).arg(&source).arg("-o").arg(&torrent);
    assert!(create.stdout(Stdio::null()).status().expect("the program runs").success());
    let (out, port) = (temp.folder("out"), free_port());
    if we_seed {
        let _seeder = temp.btsync("seeder", &torrent, &temp.path("seeder"), port, &["--seed"]);
        let mut leecher = libtorrent(&address(OTHER), &free_port().to_string(), &torrent, &out);
        leecher.arg(format!("peer={}:{port}", address(1)));
        let mut leecher = temp.start("leecher", &mut leecher);
        leecher.wait_for_output("complete");
        until("the files are there", || verified(&torrent, &out));
    } else {
        let mut seeder = libtorrent(&address(OTHER), &port.to_string(), &torrent, &temp.path("seeder"));
        let _seeder = temp.start("seeder", &mut seeder);
        let peer = format!("{}:{port}", address(OTHER));
        temp.btsync("leecher", &torrent, &out, free_port(), &["--peer", &peer]).expect_exit(0);
        assert!(verified(&torrent, &out));
        assert!(!out.join("t/.pad").exists(), "padding is not stored");
    }
}

fn verified(torrent: &Path, folder: &Path) -> bool {
    btsync().args(["verify", "-q"]).arg(torrent).arg(folder).output().expect("the program runs").status.success()
}

#[test]
fn libtorrent_downloads_a_hybrid_from_us() {
    in_network_namespace("libtorrent_downloads_a_hybrid_from_us", &[PYTHON], || exchange_hybrid(true));
}

#[test]
fn we_download_a_hybrid_from_libtorrent() {
    in_network_namespace("we_download_a_hybrid_from_libtorrent", &[PYTHON], || exchange_hybrid(false));
}

/// The torrents of libtorrent's own tests, which scripts/test-setup.sh fetches with Debian's source package.
#[test]
fn libtorrents_test_torrents_are_read_and_refused_as_by_libtorrent() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/libtorrent-test-torrents");
    let test = "libtorrents_test_torrents_are_read_and_refused_as_by_libtorrent";
    if !installed(test, &[PYTHON]) {
        return;
    }
    let Ok(entries) = fs::read_dir(&folder) else {
        return crate::common::netns::not_run(test, "there are no torrents; scripts/test-setup.sh fetches them");
    };
    let mut torrents: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    torrents.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("v2")));
    torrents.sort();
    assert!(torrents.len() >= 20, "{} torrents", torrents.len());
    let paths: Vec<&str> = torrents.iter().map(|path| text(path)).collect();
    let said = ask_libtorrent(&[&["read"][..], &paths].concat());
    // libtorrent hashes piece layers only when a torrent is added.
    let is_wrong = |name: &str| matches!(name, "v2_invalid_piece_layer_root" | "v2_invalid_root_hash");
    for (torrent, theirs) in torrents.iter().zip(said.lines()) {
        let ours = ask_btsync(torrent);
        let name = torrent.file_stem().and_then(|name| name.to_str()).expect("UTF-8");
        if is_wrong(name) {
            assert_eq!(ours, "refused\n", "{name}");
        } else if name.contains("invalid_filename") {
            // Safe names have another form.
            let hashes = |line: &str| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(hashes(&ours), hashes(theirs), "{name}");
        } else {
            assert_eq!(ours.trim_end(), theirs, "{name}");
        }
    }
}
