//! Links to files of torrents that players can use without a password: each expires, and is for one file.

use std::time::{SystemTime, UNIX_EPOCH};

use sha1::{Digest as _, Sha1};

use crate::service::model::FileLink;
use crate::types::hex;
use crate::util::random;

/// How long a link is valid, in seconds: longer than a film.
const LIFETIME: u64 = 6 * 60 * 60;

/// The key of all links of one run of the service.
pub struct LinkKey([u8; 32]);

impl Default for LinkKey {
    fn default() -> LinkKey {
        LinkKey::generate()
    }
}

impl LinkKey {
    /// A new key.
    pub fn generate() -> LinkKey {
        LinkKey(random::bytes())
    }

    /// The token of a link that is valid from now on.
    pub fn token(&self, link: FileLink) -> String {
        self.token_until(link, seconds().saturating_add(LIFETIME))
    }

    /// Whether the token is of this link and has not expired.
    pub fn is_valid(&self, link: FileLink, token: &str) -> bool {
        self.is_valid_at(link, token, seconds())
    }

    fn token_until(&self, link: FileLink, end: u64) -> String {
        let inner = Sha1::new()
            .chain_update(self.0)
            .chain_update(end.to_be_bytes())
            .chain_update(link.torrent.0.to_be_bytes())
            .chain_update(link.index.to_be_bytes())
            .finalize();
        let digest = Sha1::new().chain_update(self.0).chain_update(inner).finalize();
        format!("{end:x}-{}", hex(&digest))
    }

    fn is_valid_at(&self, link: FileLink, token: &str, now: u64) -> bool {
        let end = token.split_once('-').and_then(|(end, _)| u64::from_str_radix(end, 16).ok());
        let Some(end) = end.filter(|end| now < *end) else { return false };
        let right = self.token_until(link, end);
        let differences = right.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        right.len() == token.len() && std::hint::black_box(differences) == 0
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::model::TorrentId;

    #[test]
    fn a_token_is_for_one_file_and_expires() {
        let key = LinkKey::generate();
        let link = FileLink { torrent: TorrentId(3), index: 1 };
        let token = key.token_until(link, 100);
        assert!(key.is_valid_at(link, &token, 99) && !key.is_valid_at(link, &token, 100));
        assert!(!key.is_valid_at(FileLink { index: 2, ..link }, &token, 99));
        assert!(!key.is_valid_at(FileLink { torrent: TorrentId(4), ..link }, &token, 99));
        assert!(!LinkKey::generate().is_valid_at(link, &token, 99));
        let longer = token.replacen("64-", "ffff-", 1);
        assert!(token.starts_with("64-") && !key.is_valid_at(link, &longer, 99));
        for bad in ["", "-", "64-", "zz-00"] {
            assert!(!key.is_valid_at(link, bad, 0), "{bad}");
        }
        assert!(key.is_valid(link, &key.token(link)));
    }
}
