//! Sizes and counts in words.

/// The units of [`size`], each 1024 times the one before.
pub const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number of bytes for users: "512 B", "1.0 GiB".
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in UNITS {
        // 1023.95 would be shown as 1024.0.
        if value < 1023.95 || unit == "TiB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{bytes} B")
}

/// A count for users: "1 peer", "2 peers". `noun` is the singular; its plural ends in "s".
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
