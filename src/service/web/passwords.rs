//! Passwords as they are saved: hashed with Argon2id, with a salt of their own.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use crate::types::hex;
use crate::util::random;
use crate::util::secrets::is_equal;

/// KiB of memory and passes for a hash.
const MEMORY: u32 = 4 * 1024;
const PASSES: u32 = 3;
const LENGTH: usize = 32;

/// A user name, and the hash of the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    /// The user name.
    pub user: String,
    salt: String,
    hash: String,
}

impl PasswordHash {
    /// The hash of a new password; `None` if the password cannot be hashed.
    pub fn new(user: &str, password: &str) -> Option<PasswordHash> {
        let salt = hex(&random::bytes::<16>());
        let hash = hex(&hash(password, &salt)?);
        Some(PasswordHash { user: user.to_owned(), salt, hash })
    }

    /// Whether this is the user name and the password. Takes as long for a wrong user name.
    pub fn is(&self, user: &str, password: &str) -> bool {
        let Some(hash) = hash(password, &self.salt).map(|hash| hex(&hash)) else { return false };
        is_equal(hash.as_bytes(), self.hash.as_bytes()) & is_equal(user.as_bytes(), self.user.as_bytes())
    }
}

fn hash(password: &str, salt: &str) -> Option<[u8; LENGTH]> {
    let params = Params::new(MEMORY, PASSES, 1, Some(LENGTH)).ok()?;
    let mut out = [0; LENGTH];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(password.as_bytes(), salt.as_bytes(), &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_user_and_password_fit() {
        let hash = PasswordHash::new("me", "pass:wörd").expect("a hash");
        assert!(hash.is("me", "pass:wörd"));
        assert!(!hash.is("me", "pass:word") && !hash.is("you", "pass:wörd") && !hash.is("me", ""));
        assert_ne!(PasswordHash::new("me", "pass:wörd"), Some(hash), "each has a salt of its own");
    }
}
