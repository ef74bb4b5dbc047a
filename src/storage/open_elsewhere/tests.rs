//! Other processes open files in various ways.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// A process that does something to the file named by its first argument, and then waits until its input ends.
pub struct OtherProgram(Child);

impl OtherProgram {
    pub fn python(code: &str, paths: &[&Path]) -> OtherProgram {
        let code = format!("import mmap, os, sys\n{code}\nprint('ready', flush=True)\nsys.stdin.read()");
        let mut command = Command::new("python3");
        command.args(["-c", &code]).args(paths).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        OtherProgram(child)
    }
}

impl Drop for OtherProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_open(path: &Path) -> bool {
    let mut files = SearchedFiles::default();
    files.add(7, path, &fs::metadata(path).unwrap());
    let open = files.open_elsewhere(&Root::new(path.parent().unwrap().to_owned()));
    assert!(open.is_empty() || open == [7], "{open:?}");
    !open.is_empty()
}

#[test]
fn whoever_may_still_write_to_a_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other, renamed) = (dir.path().join("file"), dir.path().join("other"), dir.path().join("renamed"));
    File::create(&path).unwrap().set_len(8192).unwrap();
    fs::write(&other, [0; 8192]).unwrap();
    assert!(!is_open(&path));
    let open = "f = os.open(sys.argv[1], os.O_RDWR)";
    {
        let _other = OtherProgram::python(open, &[&path]);
        assert!(is_open(&path) && !is_open(&other));
        fs::rename(&path, &renamed).unwrap();
        assert!(is_open(&renamed), "under another name than it was opened by");
        fs::rename(&renamed, &path).unwrap();
    }
    assert!(!is_open(&path));
    fs::hard_link(&path, &renamed).unwrap();
    {
        let _other = OtherProgram::python(open, &[&renamed]);
        assert!(is_open(&path), "through another hard link");
    }
    let map = format!("{open}; m = mmap.mmap(f, 0, mmap.MAP_SHARED); os.close(f)");
    let other_one = OtherProgram::python(&map, &[&renamed]);
    assert!(is_open(&path) && !is_open(&other), "it is only mapped, and its descriptor closed");
    drop(other_one);
    let readers = "f = os.open(sys.argv[1], os.O_RDONLY); m = mmap.mmap(f, 0, mmap.MAP_SHARED, mmap.PROT_READ)\n\
                   p = mmap.mmap(f, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)";
    let _other = OtherProgram::python(readers, &[&path]);
    assert!(!is_open(&path), "a reader loses nothing");
}

#[test]
fn mappings_and_descriptors_are_understood() {
    let mut files = SearchedFiles::default();
    files.numbers.insert((makedev(8, 0x12), 77), 3);
    files.inodes.insert(77);
    files.names.insert("film x".into());
    let found = |line: &str| files.by_mapping(line.as_bytes());
    assert_eq!(found("7f00-7f01 rw-s 00000000 08:12 77                         /x/anything"), Some(3));
    assert_eq!(found("7f00-7f01 rw-p 00000000 08:12 77                         /x/anything"), None, "private");
    assert_eq!(found("7f00-7f01 r--s 00000000 08:12 77                         /x/anything"), None, "for reading");
    assert_eq!(found("7f00-7f01 rw-s 00000000 08:13 77                         /x/anything"), None);
    assert_eq!(found("7f00-7f01 rw-s 00000000 08:13 77                         /x/film x"), Some(3), "as on Btrfs");
    assert_eq!(found("7f00-7f01 rw-s 00000000 08:12 78                         /x/film x"), None);
    assert_eq!(found("7f00-7f01 rw-s 00000000 00:01 77"), None);
    assert_eq!(found(""), None);
    assert_eq!(shown_inode("pos:\t0\nflags:\t0100001\nmnt_id:\t24\nino:\t1234\n"), Some(1234));
    assert_eq!(shown_inode("pos:\t0\nflags:\t0100001\n"), None);
}

/// A folder like those in `/sys/block`, because few machines let a test make a loop device.
#[test]
fn a_loop_devices_file_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (path, device) = (dir.path().join("disk"), dir.path().join("sys"));
    fs::write(&path, [0; 4096]).unwrap();
    fs::create_dir_all(device.join("loop")).unwrap();
    let mut files = SearchedFiles::default();
    files.add(5, &path, &fs::metadata(&path).unwrap());
    let root = Root::new(dir.path().to_owned());
    assert_eq!(files.by_loop_device(&root, &device), None);
    fs::write(device.join("loop/backing_file"), format!("{}\n", path.display())).unwrap();
    fs::write(device.join("ro"), "0\n").unwrap();
    assert_eq!(files.by_loop_device(&root, &device), Some(5));
    fs::write(device.join("ro"), "1\n").unwrap();
    assert_eq!(files.by_loop_device(&root, &device), None);
}
