//! A FUSE file system that ignores case, has no permanent inode numbers and limits the size of files (`case_fs.py`).

use std::fs;
use std::path::Path;
use std::process::Command;

use super::netns::not_run;
use super::process::Running;
use super::{TestDir, until};

/// The Python that the module fusepy of Debian belongs to.
const PYTHON: &str = "/usr/bin/python3";

/// Whether the file system can be mounted. If not, reports the test as not run, or fails it under `CI=true`.
pub fn has_case_fs(test: &str) -> bool {
    let has_module = Command::new(PYTHON).args(["-c", "import fusepy"]).status().is_ok_and(|status| status.success());
    let is_there = has_module && Path::new("/dev/fuse").exists();
    if !is_there {
        not_run(test, "there is no FUSE, or no python3-fusepy; scripts/test-setup.sh installs it");
    }
    is_there
}

/// Mounts the file system on the folder `at`, with `backing` behind it; no file may have more than `max_size` bytes.
pub fn mount(temp: &TestDir, at: &Path, backing: &Path, max_size: u64) -> Running {
    mount_with(temp, at, backing, max_size, "invented")
}

/// As [`mount`], but files have the inode numbers that they have in `backing`.
pub fn mount_with_inodes(temp: &TestDir, at: &Path, backing: &Path) -> Running {
    mount_with(temp, at, backing, u64::MAX >> 1, "permanent")
}

fn mount_with(temp: &TestDir, at: &Path, backing: &Path, max_size: u64, inodes: &str) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/case_fs.py");
    let mut command = Command::new(PYTHON);
    command.arg(script).args([backing, at]).arg(max_size.to_string()).arg(inodes);
    let mut mounted = temp.start("fs", &mut command);
    until("the file system is mounted", || {
        assert!(mounted.is_running(), "{}", mounted.log());
        let mounts = fs::read_to_string("/proc/mounts").expect("procfs");
        mounts.contains(at.to_str().expect("a plain name"))
    });
    mounted
}

/// Unmounts it, whoever uses it.
pub fn unmount(at: &Path) {
    let unmounted = Command::new("umount").arg("-l").arg(at).status();
    assert!(unmounted.expect("umount").success());
}
