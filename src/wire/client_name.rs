//! Names a peer's client, from its own claim (`v` of the extension handshake, BEP 10) or from its peer id (BEP 20). Both are
//! unverified, and every character that could harm a terminal is removed.

use crate::metainfo::printable;
use crate::types::PeerId;

/// The longest client name, in characters; the rest is cut off.
const MAX_NAME_CHARS: usize = 40;

/// Azureus style, `-XX1234-`: two-letter codes and their clients.
const AZUREUS: [(&[u8; 2], &str); 44] = [
    (b"7T", "aTorrent"),
    (b"AB", "AnyEvent"),
    (b"AG", "Ares"),
    (b"AR", "Arctic"),
    (b"AZ", "Vuze"),
    (b"BB", "BitBuddy"),
    (b"BC", "BitComet"),
    (b"BG", "BTG"),
    (b"BI", "BiglyBT"),
    (b"BL", "BitLord"),
    (b"BT", "BitTorrent"),
    (b"BY", "btsync"),
    (b"CD", "Enhanced CTorrent"),
    (b"CT", "CTorrent"),
    (b"DE", "Deluge"),
    (b"EB", "EBit"),
    (b"FD", "Free Download Manager"),
    (b"FG", "FlashGet"),
    (b"FW", "FrostWire"),
    (b"HL", "Halite"),
    (b"KG", "KGet"),
    (b"KT", "KTorrent"),
    (b"LH", "LH-ABC"),
    (b"LP", "Lphant"),
    (b"LT", "libtorrent"),
    (b"lt", "rTorrent"),
    (b"LW", "LimeWire"),
    (b"PI", "PicoTorrent"),
    (b"qB", "qBittorrent"),
    (b"SD", "Thunder"),
    (b"SZ", "Shareaza"),
    (b"TB", "Torch"),
    (b"TL", "Tribler"),
    (b"TR", "Transmission"),
    (b"TX", "Tixati"),
    (b"UM", "µTorrent Mac"),
    (b"UT", "µTorrent"),
    (b"UW", "µTorrent Web"),
    (b"VG", "Vagaa"),
    (b"WD", "WebTorrent Desktop"),
    (b"WW", "WebTorrent"),
    (b"WY", "FireTorrent"),
    (b"XL", "Xunlei"),
    (b"XX", "Xtorrent"),
];

/// Shadow's style, `S58B-----`: one letter, then one character per version component.
const SHADOW: [(u8, &str); 7] = [
    (b'A', "ABC"),
    (b'O', "Osprey"),
    (b'Q', "BTQueue"),
    (b'R', "Tribler"),
    (b'S', "Shadow"),
    (b'T', "BitTornado"),
    (b'U', "UPnP NAT"),
];

/// The client's name and version, never empty. `version` is the peer's own claim, if it made one; it takes precedence over the
/// peer id.
pub fn client_name(id: &PeerId, version: Option<&str>) -> String {
    let said = version.map(|words| short(words.trim())).filter(|name| !name.is_empty());
    said.or_else(|| azureus(&id.0))
        .or_else(|| aria2(&id.0))
        .or_else(|| mainline(&id.0))
        .or_else(|| shadow(&id.0))
        .unwrap_or_else(|| raw(&id.0))
}

fn short(text: &str) -> String {
    printable(text).trim().chars().take(MAX_NAME_CHARS).collect()
}

/// Parses `-qB4650-` and twelve random bytes.
fn azureus(id: &[u8; 20]) -> Option<String> {
    let [b'-', a, b, version @ .., b'-'] = &id[..8] else { return None };
    let known = AZUREUS.iter().find(|(code, _)| **code == [*a, *b]).map(|(_, name)| (*name).to_owned());
    let letters = [*a, *b].iter().all(u8::is_ascii_alphanumeric) && version.iter().all(u8::is_ascii_alphanumeric);
    let name =
        known.filter(|_| letters).or_else(|| letters.then(|| String::from_utf8_lossy(&[*a, *b]).into_owned()))?;
    Some(format!("{name} {}", digits(version)))
}

/// Formats version characters as people write versions: `4650` becomes 4.6.5. Letters stand for numbers above nine.
fn digits(version: &[u8]) -> String {
    let figure = |c: &u8| match c {
        b'A'..=b'Z' => (c - b'A' + 10).to_string(),
        b'a'..=b'z' => (c - b'a' + 10).to_string(),
        _ => char::from(*c).to_string(),
    };
    let used = version.iter().rposition(|c| *c != b'0').map_or(1, |last| last + 1).max(2).min(version.len());
    version.get(..used).unwrap_or_default().iter().map(figure).collect::<Vec<_>>().join(".")
}

/// Parses aria2's own style, `A2-1-36-0-`.
fn aria2(id: &[u8; 20]) -> Option<String> {
    id.starts_with(b"A2-").then(|| format!("aria2 {}", dashes(&id[3..])))
}

/// Parses Mainline's style, `M7-10-5--` and random bytes.
fn mainline(id: &[u8; 20]) -> Option<String> {
    let name = match id.first() {
        Some(b'M') => "BitTorrent",
        Some(b'Q') => "Queen Bee",
        _ => return None,
    };
    let version = dashes(&id[1..]);
    (version.contains('.') && id[1].is_ascii_digit()).then(|| format!("{name} {version}"))
}

/// Joins dash-separated numbers with dots, up to the first other character or the first double dash.
fn dashes(text: &[u8]) -> String {
    let mut parts = Vec::new();
    for part in text.split(|c| *c == b'-') {
        if part.is_empty() || part.len() > 3 || !part.iter().all(u8::is_ascii_digit) {
            break;
        }
        parts.push(String::from_utf8_lossy(part).into_owned());
    }
    parts.join(".")
}

/// Parses `S58B-----`: up to five version characters, then dashes.
fn shadow(id: &[u8; 20]) -> Option<String> {
    let (_, name) = SHADOW.iter().find(|(letter, _)| *letter == id[0])?;
    let version: Vec<u8> = id[1..6].iter().copied().take_while(|c| *c != b'-').collect();
    let fits = !version.is_empty() && version.iter().all(u8::is_ascii_alphanumeric) && id[6..9] == *b"---";
    fits.then(|| format!("{name} {}", digits(&version)))
}

/// The first bytes of an id of unknown style.
fn raw(id: &[u8; 20]) -> String {
    let text: String = id.iter().take(8).map(|c| if c.is_ascii_graphic() { char::from(*c) } else { '?' }).collect();
    if text.chars().all(|c| c == '?') { "unknown".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &[u8; 20]) -> String {
        client_name(&PeerId(*id), None)
    }

    #[test]
    fn ids_of_all_styles_are_read() {
        assert_eq!(name(b"-qB4650-abcdefghijkl"), "qBittorrent 4.6.5");
        assert_eq!(name(b"-TR3000-abcdefghijkl"), "Transmission 3.0");
        assert_eq!(name(b"-lt0D80-abcdefghijkl"), "rTorrent 0.13.8");
        assert_eq!(name(b"-BY0001-000000000000"), "btsync 0.0.0.1");
        assert_eq!(name(b"-ZZ1200-abcdefghijkl"), "ZZ 1.2");
        assert_eq!(name(b"A2-1-36-0-abcdefghij"), "aria2 1.36.0");
        assert_eq!(name(b"M7-10-5--abcdefghijk"), "BitTorrent 7.10.5");
        assert_eq!(name(b"M1-2-3--abcdefghijkl"), "BitTorrent 1.2.3");
        assert_eq!(name(b"S58B-----abcdefghijk"), "Shadow 5.8.11");
        assert_eq!(name(b"T03H-----abcdefghijk"), "BitTornado 0.3.17");
    }

    #[test]
    fn the_clients_own_name_comes_first_and_is_sanitized() {
        let id = PeerId(*b"-qB4650-abcdefghijkl");
        assert_eq!(client_name(&id, Some("qBittorrent/4.6.5")), "qBittorrent/4.6.5");
        assert_eq!(client_name(&id, Some(" \x1b[31mred\u{202e}\n")), "[31mred");
        assert_eq!(client_name(&id, Some("\u{200b} ")), "qBittorrent 4.6.5");
        assert_eq!(client_name(&id, Some(&"x".repeat(500))).len(), MAX_NAME_CHARS);
    }

    #[test]
    fn names_of_unknown_style_are_never_empty_nor_dangerous() {
        assert_eq!(name(&[0x1b; 20]), "unknown");
        assert_eq!(name(b"-\x1b[1200-abcdefghijkl"), "-?[1200-");
        assert_eq!(name(b"Mozilla-------------"), "Mozilla-");
        assert_eq!(name(b"S-------------------"), "S-------");
        for byte in 0..=255 {
            let name = name(&[byte; 20]);
            assert!(!name.is_empty() && name.chars().all(|c| !c.is_control()), "{name:?}");
        }
    }
}
