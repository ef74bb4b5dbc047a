//! Random numbers. [`fill`] and the functions after it use the operating system's generator, for everything that attackers must
//! not be able to guess or link (keys, peer IDs, tokens, transaction IDs). State machines get a [`Random`], so that tests can
//! seed it. `fastrand` is only for choices without an attacker, such as the order of pieces; a test below lists the places.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes` from the operating system's generator.
///
/// # Panics
/// If the system has no random numbers, which no Linux since 3.17 does: continuing with predictable numbers would be worse.
pub fn fill(mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => panic!("the operating system gives no random numbers: {error}"),
        }
    }
}

/// Random bytes from the operating system's generator.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A number from the operating system's generator.
pub fn u64() -> u64 {
    u64::from_ne_bytes(bytes())
}

/// A number from the operating system's generator.
pub fn u32() -> u32 {
    u32::from_ne_bytes(bytes())
}

/// A fast generator for choices that no attacker gains from, seeded by the operating system.
pub fn fast_rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(u64())
}

/// A source of random numbers: the operating system's, or in tests a reproducible one.
#[derive(Clone, Debug)]
pub struct Random(Option<fastrand::Rng>);

impl Random {
    /// The operating system's generator.
    pub fn system() -> Random {
        Random(None)
    }

    /// A generator that repeats its numbers for the same seed; only for tests and simulations.
    pub fn seeded(seed: u64) -> Random {
        Random(Some(fastrand::Rng::with_seed(seed)))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        match &mut self.0 {
            None => fill(bytes),
            Some(rng) => rng.fill(bytes),
        }
    }

    /// A random number.
    pub fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// A random number.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// A random number from 0 to `most`, uniformly distributed.
    pub fn up_to(&mut self, most: u32) -> u32 {
        if let Some(rng) = &mut self.0 {
            return rng.usize(..=most as usize) as u32;
        }
        let Some(of) = most.checked_add(1) else { return self.u32() };
        // Reject numbers above the last whole multiple, which would favour small results.
        let fair = u32::MAX - u32::MAX % of;
        loop {
            let number = self.u32();
            if number < fair {
                return number % of;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Places where nobody gains from a guess: the next piece or peer, the length of a pause, the order of trackers, and the
    /// selection from many peers; and public values, such as the IDs of DHT nodes.
    const CHEAP: [&str; 13] = [
        "util/random.rs",
        "strategy/",
        "discovery/tracker/dormant/schedule",
        "discovery/tracker/schedule.rs",
        "discovery/tracker/tiers.rs",
        "tracker_server/registry",
        "discovery/dht/id.rs",
        "discovery/dht/node.rs",
        "discovery/dht/external.rs",
        "discovery/dht/server.rs",
        "discovery/dht/server/content.rs",
        "discovery/dht/store.rs",
        "discovery/dht/table.rs",
    ];

    #[test]
    fn numbers_do_not_repeat_unless_seeded() {
        let drawn: HashSet<u64> = (0..1000).map(|_| u64()).collect();
        assert_eq!(drawn.len(), 1000);
        assert_ne!(bytes::<32>(), bytes::<32>());
        let numbers = |mut random: Random| [random.u64(), random.u64(), u64::from(random.up_to(9))];
        assert_eq!(numbers(Random::seeded(7)), numbers(Random::seeded(7)));
        assert_ne!(numbers(Random::system()), numbers(Random::system()));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut random = Random::system();
        let seen: HashSet<u32> = (0..1000).map(|_| random.up_to(9)).collect();
        assert_eq!(seen, (0..=9).collect());
        assert_eq!(random.up_to(0), 0);
    }

    #[test]
    fn fast_rng_only_where_no_attacker_gains() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of the sources").flatten() {
                let path = entry.path();
                let name = path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).expect("a source file");
                // Tests may seed it as they like.
                let is_test =
                    ["tests.rs", "simulation.rs"].iter().any(|end| name.ends_with(end)) || name.contains("/tests/");
                let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let draws =
                    program.lines().any(|line| line.contains("fastrand") && !line.trim_start().starts_with("//"));
                if draws && !is_test && !CHEAP.iter().any(|place| name.starts_with(place)) {
                    found.push(name);
                }
            }
        }
        assert!(found.is_empty(), "fastrand can be guessed; use crate::util::random in {found:?}");
    }
}
