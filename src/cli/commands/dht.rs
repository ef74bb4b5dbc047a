//! `btsync dht`: gets a value from the DHT, or stores one there (BEP 44).

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{DhtArgs, DownloadArgs, values};
use crate::cli::settings::Settings;
use crate::cli::terminal::stdout;
use crate::util::atomic_file::{self, WriteFailure, read_at_most};
use crate::util::hex::{from_hex, hex};
use crate::util::os_error::reason;
use crate::util::printable_text::printable;
use crate::util::random;
use btsync::Client;
use btsync::dht::{DhtItem, DhtService, ItemError, ItemKey, ItemPutResult, ItemTarget};

/// The default of `--wait`.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// The longest value, in bytes without the four bytes of its bencoded length.
const MAX_VALUE: usize = 996;
/// The longest key file, in bytes; 64 digits are expected.
const MAX_KEY_FILE: usize = 4096;

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
    let cannot_make = |error: ItemError| bad_option(error.to_string());
    let target = ItemTarget::mutable(key, salt).map_err(cannot_make)?;
    let stored = node.dht.get_item(&target, node.wait).and_then(|item| item.sequence_number());
    let seq = stored.map_or(1, |seq| seq.saturating_add(1));
    let item = DhtItem::mutable(value.to_vec(), key, salt, seq).map_err(cannot_make)?;
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

/// The contents of a file as a bencoded string.
fn read_value(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = printable(&path.to_string_lossy());
    let bytes = if path == Path::new("-") {
        read_at_most(io::stdin(), MAX_VALUE).map_err(|error| read_failed("standard input", &error))?
    } else {
        let file = File::open(path).map_err(|error| open_failed(&name, &error))?;
        read_at_most(file, MAX_VALUE).map_err(|error| read_failed(&name, &error))?
    };
    let bytes = bytes.ok_or_else(|| bad_option(format!("{name}: more than {MAX_VALUE} bytes")))?;
    Ok([format!("{}:", bytes.len()).as_bytes(), &bytes].concat())
}

fn open_failed(name: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::OpenExisting, format!("{name}: {}", reason(error)))
}

fn read_failed(name: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::FileIo, format!("{name}: {}", reason(error)))
}

/// The private key in a file, which is created if it is missing. It may be a pipe, as a password manager gives it.
fn read_key(path: &Path) -> Result<ItemKey, Failure> {
    let name = printable(&path.to_string_lossy());
    let seed = match File::open(path) {
        Ok(file) => {
            let text = read_at_most(file, MAX_KEY_FILE).map_err(|error| read_failed(&name, &error))?;
            let text = text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
            from_hex(text.trim()).ok_or_else(|| bad_option(format!("{name}: not a key of 64 hexadecimal digits")))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_key(path, &name)?,
        Err(error) => return Err(open_failed(&name, &error)),
    };
    ItemKey::from_seed(seed).ok_or_else(|| bad_option("this program was built without signatures (feature tls)"))
}

/// Creates a file with a new key.
fn create_key(path: &Path, name: &str) -> Result<[u8; 32], Failure> {
    let seed = random::bytes();
    let created = atomic_file::create_private(path, format!("{}\n", hex(&seed)).as_bytes());
    created.map(|()| seed).map_err(|failed| {
        let exit = if let WriteFailure::Write(_) = failed { Exit::FileIo } else { Exit::CreateFile };
        Failure::new(exit, format!("{name}: {}", reason(&io::Error::from(failed))))
    })
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
        use std::fs;
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
