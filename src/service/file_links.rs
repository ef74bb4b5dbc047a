//! Links to files of torrents that players can use without a password: each expires, and is for one file.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::service::model::{ControlError, DataFileId};
use crate::util::hex::hex;
use crate::util::random;
use crate::util::secrets::{is_equal, keyed_digest};

/// How long a link is valid, in seconds: longer than a film.
const LIFETIME: u64 = 6 * 60 * 60;

/// The key of all links of one run of the service.
pub struct FileLinkKey([u8; 32]);

impl Default for FileLinkKey {
    fn default() -> FileLinkKey {
        FileLinkKey::generate()
    }
}

impl FileLinkKey {
    /// A new key.
    pub fn generate() -> FileLinkKey {
        FileLinkKey(random::bytes())
    }

    /// A link to one of the `files` files of a torrent, relative to the page.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn url(&self, file: DataFileId, files: usize) -> Result<String, ControlError> {
        let exists = usize::try_from(file.index).is_ok_and(|index| index < files);
        if !exists {
            return Err(ControlError::Invalid(format!("the torrent has no file {}", file.index)));
        }
        Ok(format!("files/{}/{}?token={}", file.torrent.0, file.index, self.token(file)))
    }

    /// The token of a link that is valid from now on.
    fn token(&self, file: DataFileId) -> String {
        self.token_until(file, seconds().saturating_add(LIFETIME))
    }

    /// Whether the token is of this link and has not expired.
    pub fn is_valid(&self, file: DataFileId, token: &str) -> bool {
        self.is_valid_at(file, token, seconds())
    }

    fn token_until(&self, file: DataFileId, end: u64) -> String {
        let message = [&end.to_be_bytes()[..], &file.torrent.0.to_be_bytes(), &file.index.to_be_bytes()].concat();
        format!("{end:x}-{}", hex(&keyed_digest(&self.0, &message)))
    }

    fn is_valid_at(&self, file: DataFileId, token: &str, now: u64) -> bool {
        let end = token.split_once('-').and_then(|(end, _)| u64::from_str_radix(end, 16).ok());
        let Some(end) = end.filter(|end| now < *end) else { return false };
        is_equal(self.token_until(file, end).as_bytes(), token.as_bytes())
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
        let key = FileLinkKey::generate();
        let file = DataFileId { torrent: TorrentId(3), index: 1 };
        let token = key.token_until(file, 100);
        assert!(key.is_valid_at(file, &token, 99) && !key.is_valid_at(file, &token, 100));
        assert!(!key.is_valid_at(DataFileId { index: 2, ..file }, &token, 99));
        assert!(!key.is_valid_at(DataFileId { torrent: TorrentId(4), ..file }, &token, 99));
        assert!(!FileLinkKey::generate().is_valid_at(file, &token, 99));
        let longer = token.replacen("64-", "ffff-", 1);
        assert!(token.starts_with("64-") && !key.is_valid_at(file, &longer, 99));
        for bad in ["", "-", "64-", "zz-00"] {
            assert!(!key.is_valid_at(file, bad, 0), "{bad}");
        }
        assert!(key.is_valid(file, &key.token(file)));
        let url = key.url(file, 2).expect("a file");
        assert!(url.starts_with("files/3/1?token=") && key.url(file, 1).is_err(), "{url}");
    }
}
