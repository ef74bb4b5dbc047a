//! `btsync dht`: gets a value from the DHT, or stores one there (BEP 44).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{DhtArgs, DownloadArgs, values};
use crate::cli::settings::Settings;
use crate::cli::terminal::stdout;
use crate::util::os_error::reason;
use crate::util::printable_text::printable;
use crate::util::random;
use btsync::Client;
use btsync::dht::{DhtItem, DhtService, ItemKey, ItemPutResult, ItemTarget};

/// The default of `--wait`.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// The longest value, in bytes without the four bytes of its bencoded length.
const MAX_VALUE: usize = 996;
/// The most bytes of a key file that are read; 64 digits are expected.
const MAX_KEY_FILE: u64 = 4096;

/// Gets or stores a value.
///
/// # Errors
/// [`Exit::Other`] if no node has the value, or all refuse it; [`Exit::TimedOut`] if no node answered; other codes for files, options
/// and sockets.
pub fn run(args: &DhtArgs, download: DownloadArgs) -> Result<(), Failure> {
    let salt = args.salt.as_deref().unwrap_or_default().as_bytes();
    match (args.action.as_str(), &args.target) {
        ("get", Some(target)) if args.value.is_none() && args.key.is_none() => {
            let target = parse_target(target, salt)?;
            get(&target, &DhtSession::start(args, download)?)
        }
        ("get", Some(_)) => Err(bad_option("get has neither --value nor --key")),
        ("get", None) => Err(bad_option("get needs the target: a hash or a public key")),
        ("put", None) => {
            let Some(value) = &args.value else { return Err(bad_option("put needs --value FILE")) };
            let value = read_value(value)?;
            match &args.key {
                None if args.salt.is_some() => Err(bad_option("--salt is for values with a key: put needs --key FILE")),
                None => put_hashed(value, &DhtSession::start(args, download)?),
                Some(key) => {
                    let key = read_key(key)?;
                    put_signed(&value, &key, salt, &DhtSession::start(args, download)?)
                }
            }
        }
        ("put", Some(target)) => Err(bad_option(format!("put has no target: {}", printable(target)))),
        (other, _) => Err(bad_option(format!("'{}' is neither get nor put", printable(other)))),
    }
}

fn bad_option(message: impl Into<String>) -> Failure {
    Failure::new(Exit::BadOption, message)
}

/// A client whose node of the DHT does the work, and how long that may take.
struct DhtSession {
    client: Arc<Client>,
    dht: Arc<DhtService>,
    wait: Duration,
}

impl DhtSession {
    fn start(args: &DhtArgs, mut download: DownloadArgs) -> Result<DhtSession, Failure> {
        // Nobody connects to these peers, so their names need not be resolved.
        download.peer.clear();
        download.no_dht = false;
        let mapping = values::port_mapping(true, false, Duration::ZERO);
        let builder = Settings::new(&download)?.client.lsd(false).port_mapping(mapping);
        let network = |error: &dyn std::fmt::Display| Failure::new(Exit::Network, error.to_string());
        let client = builder.build().map_err(|error| network(&error))?;
        let dht = client.dht_node().map_err(|error| network(&format!("no DHT: {}", reason(&error))))?;
        let dht = dht.ok_or_else(|| network(&"no DHT: no port is free, or the proxy does not carry UDP"))?;
        Ok(DhtSession { client, dht, wait: args.wait.unwrap_or(DEFAULT_WAIT) })
    }

    /// The failure if nothing was found or stored: no node answered, or they said no.
    fn failure(&self, message: String) -> Failure {
        let status = self.client.network_status();
        let has_nodes = [status.dht_ipv4, status.dht_ipv6].into_iter().flatten().any(|family| family.answers > 0);
        if has_nodes {
            Failure::new(Exit::Other, message)
        } else {
            Failure::new(Exit::TimedOut, format!("no DHT node answered in {} s", self.wait.as_secs_f64()))
        }
    }
}

fn get(target: &ItemTarget, node: &DhtSession) -> Result<(), Failure> {
    let item = node.dht.get_item(target, node.wait);
    let item = item.ok_or_else(|| node.failure(format!("no DHT node has a value of {target}")))?;
    if let Some(seq) = item.sequence_number() {
        let _ = writeln!(io::stderr(), "sequence number {seq}"); // of no consequence if nobody reads it
    }
    let value = string_of(item.value()).unwrap_or(item.value());
    if io::stdout().is_terminal() {
        return stdout::print(&format!("{}\n", printable(&String::from_utf8_lossy(value))));
    }
    stdout::print_with(|out| out.write_all(value))
}

fn put_hashed(value: Vec<u8>, node: &DhtSession) -> Result<(), Failure> {
    let item = DhtItem::immutable(value).map_err(|error| bad_option(error.to_string()))?;
    report(&item, &node.dht.put_item(&item, None, node.wait), node)
}

/// Stores a value under the author's key. It replaces the stored one, so the sequence number is the next one.
fn put_signed(value: &[u8], key: &ItemKey, salt: &[u8], node: &DhtSession) -> Result<(), Failure> {
    let sign = |seq| DhtItem::mutable(value.to_vec(), key, salt, seq).map_err(|error| bad_option(error.to_string()));
    let stored = node.dht.get_item(&sign(0)?.target(), node.wait).and_then(|item| item.sequence_number());
    let item = sign(stored.map_or(1, |seq| seq.saturating_add(1)))?;
    report(&item, &node.dht.put_item(&item, stored, node.wait), node)
}

/// Prints the target of a stored value.
fn report(item: &DhtItem, result: &ItemPutResult, node: &DhtSession) -> Result<(), Failure> {
    if result.nodes == 0 {
        let why = result.refusal.as_ref().map_or("no node stored it", |(_, text)| text);
        return Err(node.failure(format!("the value is not stored: {}", printable(why))));
    }
    let _ = writeln!(io::stderr(), "stored on {} nodes", result.nodes); // of no consequence if nobody reads it
    stdout::print(&format!("{}\n", item.target()))
}

/// The bytes of a bencoded string; `None` for another value.
fn string_of(value: &[u8]) -> Option<&[u8]> {
    let colon = value.iter().position(|&byte| byte == b':')?;
    let (length, text) = (value.get(..colon)?, value.get(colon + 1..)?);
    (std::str::from_utf8(length).ok()?.parse() == Ok(text.len())).then_some(text)
}

fn parse_target(text: &str, salt: &[u8]) -> Result<ItemTarget, Failure> {
    if let (Some(hash), true) = (from_hex(text), salt.is_empty()) {
        return Ok(ItemTarget::Immutable(hash));
    }
    let key = from_hex(text).ok_or_else(|| {
        bad_option(format!("{}: neither a hash (40 hexadecimal digits) nor a public key (64)", printable(text)))
    })?;
    Ok(ItemTarget::Mutable { key, salt: salt.to_vec() })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The contents of a file as a bencoded string.
fn read_value(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = printable(&path.to_string_lossy());
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        read_bounded(io::stdin(), MAX_VALUE as u64 + 1, &mut bytes, "standard input")?;
    } else {
        read_bounded(open(path)?, MAX_VALUE as u64 + 1, &mut bytes, &name)?;
    }
    if bytes.len() > MAX_VALUE {
        return Err(bad_option(format!("{name}: more than {MAX_VALUE} bytes")));
    }
    Ok([format!("{}:", bytes.len()).as_bytes(), &bytes].concat())
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        Failure::new(Exit::OpenExisting, format!("{}: {}", printable(&path.to_string_lossy()), reason(&error)))
    })
}

fn read_bounded(from: impl Read, most: u64, out: &mut Vec<u8>, name: &str) -> Result<(), Failure> {
    let read = from.take(most).read_to_end(out);
    read.map(|_| ()).map_err(|error| Failure::new(Exit::FileIo, format!("{name}: {}", reason(&error))))
}

/// The private key in a file, which is created if it is missing.
fn read_key(path: &Path) -> Result<ItemKey, Failure> {
    let name = printable(&path.to_string_lossy());
    if !path.exists() {
        let digits = [random::bytes::<16>(), random::bytes()].map(|half| format!("{:032x}", u128::from_be_bytes(half)));
        let digits = digits.concat();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(|e| Failure::new(Exit::CreateFile, format!("{name}: {}", reason(&e))))?;
        let written = writeln!(file, "{digits}").and_then(|()| file.sync_all());
        written.map_err(|error| {
            let _ = fs::remove_file(path); // half a key is none
            Failure::new(Exit::FileIo, format!("{name}: {}", reason(&error)))
        })?;
    }
    let mut text = Vec::new();
    read_bounded(open(path)?, MAX_KEY_FILE, &mut text, &name)?;
    let seed = std::str::from_utf8(&text).ok().and_then(|text| from_hex(text.trim()));
    let seed = seed.ok_or_else(|| bad_option(format!("{name}: not a key of 64 hexadecimal digits")))?;
    ItemKey::from_seed(seed).ok_or_else(|| bad_option("this program was built without signatures (feature tls)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hashes_and_keys() {
        let parsed = |text: &str, salt: &[u8]| parse_target(text, salt).map_err(|failed| failed.code);
        assert_eq!(parsed(&"aB".repeat(20), b""), Ok(ItemTarget::Immutable([0xab; 20])));
        let key = ItemTarget::Mutable { key: [0x12; 32], salt: b"s".to_vec() };
        assert_eq!(parsed(&"12".repeat(32), b"s"), Ok(key));
        for wrong in ["", "12", &"1g".repeat(20), &"+1".repeat(20), &"12".repeat(33)] {
            assert_eq!(parsed(wrong, b""), Err(Exit::BadOption), "{wrong}");
        }
        assert_eq!(parsed(&"12".repeat(20), b"s"), Err(Exit::BadOption), "a hash has no salt");
    }

    #[test]
    fn only_strings_lose_their_length() {
        assert_eq!(string_of(b"5:hello"), Some(&b"hello"[..]));
        assert_eq!((string_of(b"0:"), string_of(b"i5e"), string_of(b"d1:ai1ee")), (Some(&b""[..]), None, None));
    }

    #[test]
    fn a_key_is_made_once_and_read_only_by_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let first = read_key(&path).expect("a new key").public();
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).expect("the same key").public(), first);
        fs::write(&path, "12").expect("a file");
        assert_eq!(read_key(&path).map_err(|failed| failed.code).err(), Some(Exit::BadOption));
        let nowhere = folder.path().join("no/key");
        assert_eq!(read_key(&nowhere).map_err(|failed| failed.code).err(), Some(Exit::CreateFile));
    }
}
