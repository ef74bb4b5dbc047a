//! Distribution: `make install`, the static program in an empty chroot, the Debian package, the systemd unit.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::netns::{address, find, in_network_namespace, installed, not_run};
use crate::common::payload::Payload;
use crate::common::{TestDir, btsync, free_port};

const BTSYNC: &str = env!("CARGO_BIN_EXE_btsync");

/// Runs `make` in the repository as a user would; returns its output.
fn make(words: &[&str]) -> String {
    let mut command = Command::new("make");
    command.arg("--no-print-directory").args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
    // The tests may run below another make, whose options must not apply here.
    command.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
    // Skipping debug info saves a third of the build time, and nobody debugs this program.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
    ends_well(&mut command)
}

/// Runs a program that must succeed; returns its output.
fn ends_well(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{said}{complained}");
    said.into_owned()
}

/// The files below a folder, with paths relative to it.
fn files(root: &Path) -> BTreeSet<String> {
    let paths = ends_well(Command::new("find").arg(root).args(["-type", "f", "-printf", "%P\n"]));
    paths.lines().map(str::to_owned).collect()
}

fn version() -> String {
    format!("btsync {}\n", env!("CARGO_PKG_VERSION"))
}

#[test]
fn installed_files_can_be_uninstalled() {
    let temp = TestDir::new();
    let root = temp.folder("stage");
    let destination = format!("DESTDIR={}", root.display());
    let bin = format!("BIN={BTSYNC}");
    let foreign = temp.folder("stage/opt/b/share/doc/btsync").join("NOTES");
    std::fs::write(&foreign, "not ours").expect("a file");
    make(&["install", &bin, "PREFIX=/opt/b", &destination]);

    let wanted = [
        "bin/btsync",
        "lib/systemd/system/btsync-serve.service",
        "lib/systemd/system/btsync-serve.socket",
        "lib/systemd/system/btsync@.service",
        "share/bash-completion/completions/btsync",
        "share/doc/btsync/CHANGELOG.md",
        "share/doc/btsync/LICENSE-APACHE",
        "share/doc/btsync/LICENSE-MIT",
        "share/doc/btsync/NOTES",
        "share/doc/btsync/README.md",
        "share/fish/vendor_completions.d/btsync.fish",
        "share/man/man1/btsync.1",
        "share/zsh/site-functions/_btsync",
    ];
    let (pages, others): (BTreeSet<_>, BTreeSet<_>) =
        files(&root).into_iter().partition(|path| path.starts_with("opt/b/share/doc/btsync/docs/"));
    assert_eq!(others, wanted.iter().map(|path| format!("opt/b/{path}")).collect());
    let readme = include_str!("../../README.md");
    let links: Vec<_> = readme.split("](").skip(1).filter_map(|link| link.split([')', '#']).next()).collect();
    for link in links.iter().filter(|link| link.starts_with("docs/") && **link != "docs/btsync.1") {
        assert!(pages.contains(&format!("opt/b/share/doc/btsync/{link}")), "README.md links to {link}: {pages:?}");
    }
    assert!(pages.contains("opt/b/share/doc/btsync/docs/config.example"), "{pages:?}");
    assert_eq!(ends_well(Command::new(root.join("opt/b/bin/btsync")).arg("--version")), version());
    for unit in ["btsync@.service", "btsync-serve.service"] {
        let unit = std::fs::read_to_string(root.join("opt/b/lib/systemd/system").join(unit)).expect("the unit");
        assert!(unit.contains("\nExecStart=/opt/b/bin/btsync ") && !unit.contains("/usr/bin/btsync"), "{unit}");
    }

    make(&["uninstall", "PREFIX=/opt/b", &destination]);
    assert_eq!(files(&root), BTreeSet::from(["opt/b/share/doc/btsync/NOTES".to_owned()]));
}

#[test]
fn the_unit_is_one_that_systemd_likes() {
    const TEST: &str = "the_unit_is_one_that_systemd_likes";
    if !installed(TEST, &["systemd-analyze"]) {
        return;
    }
    let temp = TestDir::new();
    // Without DESTDIR, because systemd-analyze checks that the program is where the unit says.
    make(&["install", &format!("BIN={BTSYNC}"), &format!("PREFIX={}", temp.path("usr").display())]);
    for unit in ["btsync@.service", "btsync-serve.service", "btsync-serve.socket"] {
        let path = temp.path("usr/lib/systemd/system").join(unit);
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().expect("it starts");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaint.is_empty(), "{unit}: {complaint}");
        if unit.ends_with(".service") {
            // The exposure is rated from 0 to 100; a unit without a sandbox is above 90.
            let words = ["security", "--offline=true", "--threshold=20"];
            ends_well(Command::new("systemd-analyze").args(words).arg(&path));
        }
    }
}

/// The sandbox of both units is the same.
#[test]
fn the_units_have_the_same_sandbox() {
    let sandbox = |unit: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(unit);
        let text = std::fs::read_to_string(path).expect("the unit");
        text.split_once("CapabilityBoundingSet=").expect("a sandbox").1.to_owned()
    };
    assert_eq!(sandbox("btsync@.service"), sandbox("btsync-serve.service"));
}

/// The command of the container's image starts a service, with folders and addresses of the test in place of the image's.
#[test]
fn the_command_of_the_image_starts_a_service() {
    in_network_namespace("the_command_of_the_image_starts_a_service", &[], || {
        let temp = TestDir::new();
        std::fs::write(temp.path("password"), "me:a long password\n").expect("a file");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/Dockerfile");
        let file = std::fs::read_to_string(file).expect("the file");
        let command = file.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).expect("a command");
        let words: Vec<String> = command.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(words.first().map(String::as_str), Some("/btsync"));
        let words = words.iter().skip(1).map(|word| match word.as_str() {
            "/downloads" | "/state" => temp.path(&word[1..]).display().to_string(),
            "/run/secrets/btsync-password" => temp.path("password").display().to_string(),
            _ => word.clone(),
        });
        let mut service = temp.start("service", btsync().args(words));
        service.wait_for_output("the page is at http://0.0.0.0:9091/");
        service.terminate(0);
    });
}

/// Fast resume works with the restricted view of /proc that the unit sets: the second start hashes nothing.
#[test]
fn fast_resume_works_within_the_units_sandbox() {
    in_network_namespace("fast_resume_works_within_the_units_sandbox", &["mount"], || {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/btsync@.service");
        let unit = std::fs::read_to_string(unit).expect("the unit");
        let setting = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        assert_eq!(setting("ProtectProc"), Some("invisible"), "a setting that this test does not know how to repeat");
        let subset = if setting("ProcSubset") == Some("pid") { ",subset=pid" } else { "" };
        let options = format!("hidepid=invisible{subset}");
        ends_well(Command::new("mount").args(["-t", "proc", "-o", &options, "proc", "/proc"]));
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 3_000_001, 64 * 1024));
        let (torrent, home) =
            (temp.torrent(&payload, "http://127.0.0.1:9/announce"), temp.folder_with("home", &payload));
        let start = || {
            let mut seed = temp.btsync("seed", &torrent, &home, free_port(), &["--seed"]);
            seed.wait_for_output("seeding");
            seed.terminate(0);
            seed.log()
        };
        assert!(start().contains("checking 2.9 MiB"), "the first time all is hashed");
        let said = start();
        assert!(!said.contains("checking"), "{said}");
    });
}

/// Builds the Debian package from the program under test; the tests check only the packaging.
fn package(temp: &TestDir) -> PathBuf {
    let printed = make(&["deb", &format!("BIN={BTSYNC}"), &format!("DEB_DIR={}", temp.path("deb").display())]);
    PathBuf::from(printed.trim())
}

#[test]
fn the_debian_package_installs_and_goes() {
    if !installed("the_debian_package_installs_and_goes", &["dpkg", "dpkg-deb", "dpkg-shlibdeps", "strip"]) {
        return;
    }
    let temp = TestDir::new();
    let package = package(&temp);
    let depends = ends_well(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Depends"));
    assert!(depends.contains("libc6"), "a program of shared libraries that depends on {depends:?}");

    let root = temp.folder("root");
    for file in ["status", "available"] {
        std::fs::write(temp.folder("root/var/lib/dpkg").join(file), "").expect("a file of dpkg's");
    }
    for folder in ["info", "updates"] {
        temp.folder(&format!("root/var/lib/dpkg/{folder}"));
    }
    let dpkg = |words: &[&str], last: &str| {
        // In a user namespace, any user can give files to root.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let mut command = Command::new(if is_root { "env" } else { "unshare" });
        command.args(if is_root { &[][..] } else { &["-r"] }).arg("dpkg").arg(format!("--root={}", root.display()));
        command.args(["--log=/dev/null", "--force-depends", "--force-bad-path"]).args(words).arg(last);
        ends_well(&mut command)
    };
    dpkg(&["--install"], &package.display().to_string());
    assert_eq!(dpkg(&["--verify"], "btsync"), "", "files differ from what the package says of them");
    assert_eq!(ends_well(Command::new(root.join("usr/bin/btsync")).arg("--version")), version());
    for path in ["man/man1/btsync.1.gz", "zsh/vendor-completions/_btsync", "doc/btsync/copyright"] {
        assert!(root.join("usr/share").join(path).is_file(), "{path}");
    }
    dpkg(&["--purge"], "btsync");
    assert!(!root.join("usr").exists(), "the package leaves something behind");
}

#[test]
fn lintian_has_nothing_to_say() {
    const TEST: &str = "lintian_has_nothing_to_say";
    if !installed(TEST, &["lintian", "dpkg-deb", "dpkg-shlibdeps", "strip"]) {
        return;
    }
    let temp = TestDir::new();
    let package = package(&temp);
    let mut command = Command::new("lintian");
    // The publisher of the package sets an address by DEB_MAINTAINER.
    command.args(["--suppress-tags", "bogus-mail-host,bogus-mail-host-in-debian-changelog"]);
    command.args(["--fail-on", "error,warning", "--allow-root"]).arg(package).env("LC_ALL", "C.UTF-8");
    ends_well(&mut command);
}

/// Builds the static program with the tests' profile; returns its path.
fn static_program() -> PathBuf {
    let printed = make(&["static", "PROFILE=dev"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(printed.lines().last().expect("its path").trim());
    assert!(path.is_file(), "no program at {}", path.display());
    path
}

#[test]
fn the_static_program_needs_no_library() {
    const TEST: &str = "the_static_program_needs_no_library";
    if !installed(TEST, &["readelf"]) {
        return;
    }
    let program = static_program();
    let read = |path: &Path| ends_well(Command::new("readelf").args(["--wide", "--segments", "--dynamic"]).arg(path));
    let needs = |text: &str| text.contains("(NEEDED)") || text.contains("INTERP");
    assert!(needs(&read(Path::new(BTSYNC))), "readelf has other words than this test knows");
    assert!(!needs(&read(&program)), "{}", read(&program));
}

/// A host name that only the test's own name server knows.
const NAME: &str = "seeder.btsync.test";

/// The answer of a name server that resolves every name to one IPv4 address (RFC 1035); `None` if `question` is malformed.
fn dns_answer(question: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(*question.get(end)?);
    }
    let asked = question.get(12..end + 5)?;
    let is_v4 = question.get(end + 1..end + 3)? == [0, 1];
    let mut answer = question.get(..2)?.to_vec();
    // A response, recursion available; one question, at most one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
    answer.extend(asked);
    if is_v4 {
        // The name of the question; A, IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
    }
    Some(answer)
}

/// Serves DNS at 127.0.0.1, which a system without /etc/resolv.conf queries, until the test process ends.
fn serve_names() {
    let socket = UdpSocket::bind(("127.0.0.1", 53)).expect("the port of DNS in a network of our own");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let host: std::net::Ipv4Addr = address(1).parse().expect("an address");
            if let Some(answer) = buffer.get(..length).and_then(|question| dns_answer(question, host.octets())) {
                // A lost answer is repeated when the client asks again.
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

/// A chroot with nothing but the program and a payload: no library, no /etc, /proc or /dev. Host names resolve all the same.
#[test]
fn the_static_program_works_in_an_empty_chroot() {
    const TEST: &str = "the_static_program_works_in_an_empty_chroot";
    let program = static_program();
    // An ordinary user is root in the namespace.
    in_network_namespace(TEST, &["chroot"], || {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 3_000_001, 64 * 1024));
        let root = temp.folder_with("root", &payload);
        std::fs::copy(&program, root.join("btsync")).expect("a copy of the program");
        let inside = |words: &[&str]| {
            let mut command = Command::new(find("chroot").expect("it was there a moment ago"));
            command.env_clear().arg(&root).arg("/btsync").args(words);
            command
        };
        if !inside(&["--version"]).output().is_ok_and(|output| output.status.success()) && !may_chroot(&root) {
            return not_run(TEST, "this machine allows no chroot");
        }
        assert_eq!(ends_well(&mut inside(&["--version"])), version());
        ends_well(&mut inside(&["create", "/payload.bin", "-o", "/made.torrent", "--piece-length", "64K"]));
        let info = ends_well(&mut inside(&["info", "/made.torrent", "--json"]));
        assert!(info.contains("\"total\":3000001"), "{info}");

        let (torrent, port) = (root.join("made.torrent"), free_port());
        let has_it = temp.folder_with("seeder", &payload);
        let mut seeder = temp.btsync("seeder", &torrent, &has_it, port, &["--seed"]);
        seeder.wait_for_output("listening on port");
        serve_names();
        let (peer, ours) = (format!("{NAME}:{port}"), free_port().to_string());
        let words = ["/made.torrent", "/out", "--peer", &peer, "--no-dht", "--no-lsd", "--listen-port", &ours];
        temp.start("leecher", &mut inside(&words)).expect_exit(0);
        payload.assert_at(&root.join("out"));
        seeder.terminate(0);
    });
}

/// Whether chroot works on this machine; if it does, the program is at fault.
fn may_chroot(root: &Path) -> bool {
    let mut command = Command::new(find("chroot").expect("it was there a moment ago"));
    let output = command.arg(root).arg("/there-is-no-such-program").output().expect("it starts");
    // 127: the new root has no such program. 125: chroot itself failed.
    output.status.code() == Some(127)
}

/// `make run` shows a seeder, a download, a magnet link and a service. The script waits for messages of the program, and compares every byte.
#[test]
fn the_demo_downloads_by_file_by_link_and_by_service() {
    let mut demo = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo.sh"));
    ends_well(demo.env("BTSYNC", BTSYNC).env("DEMO_MB", "4").env("DEMO_SECONDS", "1").env_remove("CARGO_TARGET_DIR"));
}
