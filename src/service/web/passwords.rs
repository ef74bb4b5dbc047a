//! Passwords as they are saved: hashed with Argon2id, with a salt of their own.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};

use crate::util::hex::hex;
use crate::util::random;
use crate::util::secrets::is_equal;

/// KiB of memory and passes for a hash.
const MEMORY: u32 = 4 * 1024;
const PASSES: u32 = 3;
const LENGTH: usize = 32;

/// The memory that a hash needs. It is allocated for the first one and kept for the next ones.
#[derive(Default)]
pub(super) struct HashMemory(Vec<Block>);

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
        let hash = hex(&hash(password, &salt, &mut HashMemory::default())?);
        Some(PasswordHash { user: user.to_owned(), salt, hash })
    }

    /// Whether this is the user name and the password. Takes as long for a wrong user name.
    pub(super) fn matches(&self, user: &str, password: &str, memory: &mut HashMemory) -> bool {
        let Some(hash) = hash(password, &self.salt, memory).map(|hash| hex(&hash)) else { return false };
        is_equal(hash.as_bytes(), self.hash.as_bytes()) & is_equal(user.as_bytes(), self.user.as_bytes())
    }
}

fn hash(password: &str, salt: &str, memory: &mut HashMemory) -> Option<[u8; LENGTH]> {
    let params = Params::new(MEMORY, PASSES, 1, Some(LENGTH)).ok()?;
    memory.0.resize(params.block_count(), Block::default());
    let mut out = [0; LENGTH];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into_with_memory(password.as_bytes(), salt.as_bytes(), &mut out, &mut memory.0).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_user_and_password_fit() {
        let hash = PasswordHash::new("me", "pass:wörd").expect("a hash");
        let mut memory = HashMemory::default();
        let mut is = |user, password| hash.matches(user, password, &mut memory);
        assert!(is("me", "pass:wörd"));
        assert!(!is("me", "pass:word") && !is("you", "pass:wörd") && !is("me", ""));
        assert!(is("me", "pass:wörd"), "what is left of the last hash does not matter");
        assert_ne!(PasswordHash::new("me", "pass:wörd"), Some(hash), "each has a salt of its own");
    }

    #[test]
    fn all_hashes_use_the_same_memory() {
        let hash = PasswordHash::new("me", "right").expect("a hash");
        let mut memory = HashMemory::default();
        let mut address = || {
            hash.matches("me", "wrong", &mut memory);
            (memory.0.as_ptr(), memory.0.capacity())
        };
        let first = address();
        assert_eq!(first, address());
        assert!(first.1 <= 2 * MEMORY as usize);
    }
}
