//! `btsync list` or `--list`: prints a torrent's files with the numbers for `--select` and marks the selected files; with
//! `--json`, as one event.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::cli::commands::info::path_text;
use crate::cli::exit::{Exit, Failure};
use crate::cli::outcome;
use crate::cli::report::json::seconds;
use crate::cli::report::status::{count, size};
use crate::cli::terminal::stdout;
use crate::util::printable_text::printable;
use btsync::{FileEntry, Metainfo, Selection};

/// Prints one line per file, without padding files, and a line of totals; with `json`, one event at that time after the
/// start. Writes file by file, as a torrent may have a million.
///
/// # Errors
/// The selection matches no file, or standard output cannot be written.
pub fn print(metainfo: &Metainfo, selection: &Selection, json: Option<Duration>) -> Result<(), Failure> {
    let wanted = selection.choose(&metainfo.files, metainfo.is_multi_file);
    let wanted = wanted.map_err(|error| Failure::new(Exit::BadOption, printable(&outcome::select_message(&error))))?;
    match json {
        None => stdout::print_with(|out| write_text(out, metainfo, &wanted)),
        // The same exit code as when a download cannot write its events.
        Some(at) => stdout::print_with(|out| write_event(out, metainfo, &wanted, at))
            .map_err(|failure| Failure { code: Exit::Other, ..failure }),
    }
}

/// The number, the file and whether it is selected, for each file except padding files.
fn numbered<'a>(metainfo: &'a Metainfo, wanted: &'a [bool]) -> impl Iterator<Item = (u32, &'a FileEntry, bool)> {
    let files = (1..).zip(metainfo.files.iter().zip(wanted));
    files.map(|(number, (file, wanted))| (number, file, *wanted)).filter(|(_, file, _)| !file.is_virtual)
}

/// The `list` event. Its keys are in alphabetical order, as in all events.
#[derive(Serialize)]
struct ListEvent<'a> {
    bytes: u64,
    event: &'static str,
    files: ListedFiles<'a>,
    info_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    name: &'a str,
    selected: usize,
    time: f64,
}

/// A file in the event.
#[derive(Serialize)]
struct ListedFile<'a> {
    length: u64,
    number: u32,
    path: Cow<'a, str>,
    selected: bool,
}

struct ListedFiles<'a>(&'a Metainfo, &'a [bool]);

impl Serialize for ListedFiles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(numbered(self.0, self.1).map(|(number, file, selected)| ListedFile {
            length: file.length,
            number,
            path: path_text(file),
            selected,
        }))
    }
}

fn write_event(out: &mut dyn Write, metainfo: &Metainfo, wanted: &[bool], at: Duration) -> io::Result<()> {
    let chosen = || numbered(metainfo, wanted).filter(|(.., selected)| *selected);
    let list = ListEvent {
        bytes: chosen().map(|(_, file, _)| file.length).sum(),
        event: "list",
        files: ListedFiles(metainfo, wanted),
        info_hash: metainfo.info_hash.hex(),
        info_hash_v2: metainfo.info_hash_v2.map(|hash| hash.hex()),
        name: &metainfo.name,
        selected: chosen().count(),
        time: seconds(at),
    };
    serde_json::to_writer(&mut *out, &list)?;
    out.write_all(b"\n")
}

fn write_text(out: &mut dyn Write, metainfo: &Metainfo, wanted: &[bool]) -> io::Result<()> {
    let width = metainfo.files.len().to_string().len();
    let (mut files, mut chosen, mut bytes) = (0, 0, 0u64);
    for (number, file, wanted) in numbered(metainfo, wanted) {
        files += 1;
        if wanted {
            chosen += 1;
            bytes += file.length;
        }
        let mark = if wanted { '*' } else { ' ' };
        writeln!(out, "{mark} {number:>width$}  {:>10}  {}", size(file.length), printable(&path_text(file)))?;
    }
    writeln!(out, "* {chosen} of {}, {}", count(files, "file"), size(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn torrent(files: usize) -> Metainfo {
        let mut bytes = b"d4:infod5:filesld4:attr1:p6:lengthi3e4:pathl4:.pad1:3ee".to_vec();
        (0..files).for_each(|n| bytes.extend_from_slice(format!("d6:lengthi2e4:pathl7:\"{n:06}ee").as_bytes()));
        let pieces = (3 + 2 * files).div_ceil(16384);
        bytes.extend_from_slice(format!("e4:name1:t12:piece lengthi16384e6:pieces{}:", 20 * pieces).as_bytes());
        bytes.resize(bytes.len() + 20 * pieces, b'a');
        bytes.extend_from_slice(b"ee");
        Metainfo::parse(&bytes).unwrap()
    }

    #[test]
    fn an_event_has_its_keys_in_order_and_no_padding() {
        let torrent = torrent(2);
        let mut out = Vec::new();
        write_event(&mut out, &torrent, &[true, false, true], Duration::from_micros(1_234_567)).unwrap();
        let expected = json!({
            "event": "list", "time": 1.235, "info_hash": torrent.info_hash.hex(), "name": "t", "selected": 1, "bytes": 2,
            "files": [
                { "number": 2, "path": "t/\"000000", "length": 2, "selected": false },
                { "number": 3, "path": "t/\"000001", "length": 2, "selected": true },
            ],
        });
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }

    /// Records the length of the longest write.
    #[derive(Default)]
    struct Longest(usize);

    impl Write for Longest {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.max(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn many_files_are_written_one_by_one() {
        let (torrent, mut longest) = (torrent(20_000), Longest::default());
        let wanted = vec![true; torrent.files.len()];
        write_event(&mut longest, &torrent, &wanted, Duration::ZERO).unwrap();
        write_text(&mut longest, &torrent, &wanted).unwrap();
        assert!(longest.0 < 1000, "{} bytes at once", longest.0);
    }
}
