//! The machine's memory.

/// The bytes that programs may use without swapping, as the system estimates; `None` if it does not say.
pub fn available() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Whether so many bytes, read once, would push most other files out of the page cache. The bytes read first would be evicted by
/// later ones, so keeping them helps no program.
pub fn crowds_out_others(bytes: u64) -> bool {
    available().is_some_and(|available| exceeds_half(bytes, available))
}

fn exceeds_half(bytes: u64, available: u64) -> bool {
    bytes > available / 2
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_much_data_crowds_out_others() {
        assert!(!exceeds_half(500, 1000) && exceeds_half(501, 1000) && exceeds_half(1, 0));
        assert!(!crowds_out_others(1) && crowds_out_others(u64::MAX));
    }

    #[test]
    fn the_estimate_of_the_system_is_read() {
        assert_eq!(parse("MemTotal:  64 kB\nMemAvailable:   12345 kB\nBuffers: 1 kB\n"), Some(12_345 * 1024));
        for other in [
            "",
            "MemTotal: 64 kB\n",
            "MemAvailable: many kB\n",
            "MemAvailable: 5\n",
            "MemAvailable: 18446744073709551615 kB",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
