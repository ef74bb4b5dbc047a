//! Checks of the download folder: whether it can be written to, its free space, and how fast a file is written to the disk.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::commands::doctor::check::Check;
use crate::util::os_error::reason;
use crate::util::random;
use crate::util::units::size;

/// How much is written at most, and how much of it between two looks at the clock.
const AMOUNT: u64 = 64 << 20;
const CHUNK: usize = 4 << 20;
/// How long that may take, except for the last chunk.
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// Less free space is worth a warning.
const LITTLE_SPACE: u64 = 1 << 30;
/// A slower disk slows a download from a fast connection down.
const SLOW: u64 = 8 << 20;

/// All checks of a folder.
pub(super) fn checks(folder: &Path) -> Vec<Check> {
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let (folder, shown) = (resolved.as_path(), resolved.display());
    let is_folder = fs::metadata(folder).map(|found| found.is_dir());
    match &is_folder {
        Ok(true) => {}
        Ok(false) => {
            return vec![Check::problem("folder", format!("{shown} is not a folder"), "name the download folder")];
        }
        Err(error) => {
            let message = format!("{shown} cannot be opened: {}", reason(error));
            return vec![Check::problem("folder", message, "create the folder, or name another one")];
        }
    }
    let (mut file, path) = match create(folder) {
        Ok(created) => created,
        Err(error) => {
            let message = format!("no file can be created in {shown}: {}", reason(&error));
            let advice = "name a folder on a writable file system in which you may create files";
            return vec![Check::problem("folder", message, advice)];
        }
    };
    let space = space(folder);
    let amount = space.as_ref().map_or(AMOUNT, |(_, free)| AMOUNT.min(*free / 4));
    let speed = measure(&mut file, amount);
    // It has no name any more, unless the file system does not allow that.
    drop(file);
    let rest = path.map_or(Ok(()), fs::remove_file);
    let folder = rest.map_or_else(
        |error| {
            Check::warning("folder", format!("a file in {shown} cannot be deleted: {}", reason(&error)), "delete it")
        },
        |()| writable(folder),
    );
    [Some(folder), space.map(|(check, _)| check), Some(speed)].into_iter().flatten().collect()
}

/// Creates the file and removes its name at once, so that a kill leaves nothing behind. Returns its path if that was not possible.
fn create(folder: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let path = folder.join(format!(".btsync-doctor-{}-{:08x}", std::process::id(), random::u32()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let rest = fs::remove_file(&path).err().map(|_| path);
    Ok((file, rest))
}

/// The folder can be written to; whether its file system is good for downloads.
fn writable(folder: &Path) -> Check {
    let shown = folder.display();
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let kind = file_system(&mounts, folder);
    let message =
        format!("files can be created in {shown}, on {}", kind.as_deref().unwrap_or("an unknown file system"));
    let check = match kind.as_deref() {
        Some("vfat" | "msdos") => Check::warning(
            "folder",
            format!("{message}, which allows no file of 4 GiB or more"),
            "use another file system for large files",
        ),
        Some("tmpfs" | "ramfs") => Check::warning(
            "folder",
            format!("{message}, which is in memory and lost at a restart"),
            "download to a folder on a disk",
        ),
        _ => Check::ok("folder", message),
    };
    check.with("file_system", kind)
}

/// The type of the file system that has `folder`, by the last of the longest mount points above it.
fn file_system(mounts: &[u8], folder: &Path) -> Option<String> {
    let mount = |line: &[u8]| {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let point = PathBuf::from(OsString::from_vec(unescaped(fields.get(4)?)));
        let dash = fields.iter().position(|field| *field == b"-")?;
        let kind = String::from_utf8_lossy(fields.get(dash + 1)?).into_owned();
        folder.starts_with(&point).then(|| (point.components().count(), kind))
    };
    mounts.split(|byte| *byte == b'\n').filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

/// Decodes the octal escapes (`\040`) of a mount point.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    out
}

/// The free space, if the file system says it, and its number of bytes.
fn space(folder: &Path) -> Option<(Check, u64)> {
    let found = rustix::fs::statvfs(folder).ok().filter(|found| found.f_blocks > 0)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    Some((space_of(free), free))
}

fn space_of(free: u64) -> Check {
    let message = format!("{} are free", size(free));
    let check = match free {
        0 => Check::problem("disk-space", "the disk is full", "delete files, or name a folder on another disk"),
        1..LITTLE_SPACE => Check::warning("disk-space", message, "delete files before a large download"),
        _ => Check::ok("disk-space", message),
    };
    check.with("free", free)
}

/// Writes up to `amount` bytes and waits until the disk has them.
fn measure(file: &mut File, amount: u64) -> Check {
    let mut chunk = vec![0; CHUNK];
    random::fast_rng().fill(&mut chunk); // some file systems compress
    let (start, mut written) = (Instant::now(), 0);
    while written < amount && start.elapsed() < TIME_LIMIT {
        let length = CHUNK.min(usize::try_from(amount - written).unwrap_or(CHUNK));
        let result = file.write_all(chunk.get(..length).unwrap_or_default()).and_then(|()| file.sync_data());
        if let Err(error) = result {
            let message = format!("writing to the disk failed after {}: {}", size(written), reason(&error));
            return Check::problem("disk-speed", message, "free disk space, check your quota, or check the disk");
        }
        written += length as u64;
    }
    speed_of(written, start.elapsed())
}

fn speed_of(written: u64, took: Duration) -> Check {
    if written == 0 {
        return Check::warning("disk-speed", "there is too little free space to measure the disk", "delete files");
    }
    let per_second = (written as f64 / took.as_secs_f64().max(1e-6)) as u64;
    let message = format!("the disk takes {} a second", size(per_second));
    let check = if per_second < SLOW {
        Check::warning(
            "disk-speed",
            message,
            "a faster disk, or fewer programs that use this one, may speed downloads up",
        )
    } else {
        Check::ok("disk-speed", message)
    };
    check.with("bytes_per_second", per_second).with("written", written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::check::CheckStatus::{Ok, Problem, Warning};

    #[test]
    fn the_longest_and_last_mount_point_counts() {
        let mounts = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /a\\040b rw shared:1 - xfs /dev/sdb rw\n\
            3 1 0:5 / /a\\040b rw - btrfs /dev/sdc rw\n4 1 0:6 / /a\\040bc rw - vfat /dev/sdd rw\nnonsense\n";
        let of = |folder: &str| file_system(mounts, Path::new(folder));
        assert_eq!(of("/a b/x").as_deref(), Some("btrfs"));
        assert_eq!((of("/a bc").as_deref(), of("/a").as_deref()), (Some("vfat"), Some("ext4")));
        assert_eq!(file_system(b"", Path::new("/")), None);
        assert_eq!(unescaped(b"\\04\\999\\"), b"\\04\\999\\");
    }

    #[test]
    fn little_space_and_slow_disks_are_named() {
        assert_eq!([0, 5, LITTLE_SPACE].map(|free| space_of(free).status), [Problem, Warning, Ok]);
        let second = Duration::from_secs(1);
        assert_eq!([0, 5, SLOW].map(|bytes| speed_of(bytes, second).status), [Warning, Warning, Ok]);
        assert_eq!(speed_of(5, Duration::ZERO).status, Warning);
    }

    #[test]
    fn a_folder_that_is_missing_or_a_file_is_a_problem() {
        for path in ["/proc/version", "/proc/no/such/folder"] {
            let found = checks(Path::new(path));
            assert!(found.len() == 1 && found[0].status == Problem, "{found:?}");
        }
    }
}
