//! The table of the most active peers with their clients, flags and rates. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::report::piece_map::Style;
use crate::cli::report::status::{Meter, rate};
use crate::cli::report::tui::text::{pad_left, pad_right};
use crate::util::cold_sort;
use btsync::{PeerView, Transport};

/// The meaning of the letters in the column of flags.
pub const LEGEND: &str = "flags: D unchokes us, d chokes us, U unchoked, u choked, ! snubs us, E encrypted, I incoming, S seed, F fast, T uTP";

/// Keeps the rates of peers and sorts peers by them.
#[derive(Default)]
pub struct PeerTable {
    meters: HashMap<SocketAddr, PeerMeters>,
}

struct PeerMeters {
    down: Meter,
    up: Meter,
    /// Both directions, smoothed over a longer time: the sort key, so that rows do not jump.
    rank: Meter,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct PeerRow {
    /// The peer's state.
    pub peer: PeerView,
    /// The download rate from the peer in bytes per second.
    pub down: f64,
    /// The upload rate to the peer in bytes per second.
    pub up: f64,
}

impl PeerTable {
    /// Updates the rates at the time `at`. Returns the `most` fastest peers, the fastest first.
    pub fn update(&mut self, at: Duration, peers: Vec<PeerView>, most: usize) -> Vec<PeerRow> {
        self.meters.retain(|addr, _| peers.iter().any(|peer| peer.addr == *addr));
        let mut rows: Vec<(u64, PeerRow)> = peers.into_iter().map(|peer| self.row(at, peer)).collect();
        cold_sort::sort_by_key(&mut rows, |(rank, row)| (Reverse(*rank), Reverse(row.peer.downloaded), row.peer.addr));
        rows.into_iter().take(most).map(|(_, row)| row).collect()
    }

    fn row(&mut self, at: Duration, peer: PeerView) -> (u64, PeerRow) {
        let meter = |s| Meter::new(Duration::from_secs(s));
        let new = || PeerMeters { down: meter(2), up: meter(2), rank: meter(10) };
        let meters = self.meters.entry(peer.addr).or_insert_with(new);
        meters.down.update(at, peer.downloaded);
        meters.up.update(at, peer.uploaded);
        meters.rank.update(at, peer.downloaded.saturating_add(peer.uploaded));
        // In steps of about a third, so that small differences do not reorder rows.
        let rank = (meters.rank.rate().max(1.0).ln() * 3.0) as u64;
        (rank, PeerRow { down: meters.down.rate(), up: meters.up.rate(), peer })
    }
}

/// The flags of a peer, one letter each; see [`LEGEND`].
pub fn flags(peer: &PeerView) -> String {
    let pairs = [
        (peer.am_interested && !peer.peer_choking, 'D'),
        (peer.am_interested && peer.peer_choking, 'd'),
        (peer.peer_interested && !peer.am_choking, 'U'),
        (peer.peer_interested && peer.am_choking, 'u'),
        (peer.is_snubbing, '!'),
        (peer.is_encrypted, 'E'),
        (peer.is_incoming, 'I'),
        (peer.progress >= 1.0, 'S'),
        (peer.supports_fast, 'F'),
        (peer.transport == Transport::Utp, 'T'),
    ];
    pairs.iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect()
}

/// The columns that fit the width.
struct PeerColumns {
    addr: usize,
    client: usize,
    shows_flags: bool,
    shows_up: bool,
    shows_has: bool,
}

/// The widths of the columns for flags, for the part that a peer has, and for a rate, each with the space before it.
const FLAGS_WIDTH: usize = 9;
const HAS_WIDTH: usize = 6;
const RATE_WIDTH: usize = 13;
/// The minimum and maximum width of the client column.
const CLIENT_WIDTHS: (usize, usize) = (8, 28);

impl PeerColumns {
    fn new(rows: &[PeerRow], width: usize) -> PeerColumns {
        let longest = rows.iter().map(|row| row.peer.addr.to_string().len()).max().unwrap_or_default();
        let mut left = width.saturating_sub(RATE_WIDTH);
        let addr = longest.clamp(7, 47).min(left);
        left -= addr;
        let mut take = |columns: usize| {
            let fits = left >= columns;
            left -= if fits { columns } else { 0 };
            fits
        };
        let (shows_has, shows_flags, shows_up) = (take(HAS_WIDTH), take(FLAGS_WIDTH), take(RATE_WIDTH));
        let client = if left > CLIENT_WIDTHS.0 + 2 { (left - 2).min(CLIENT_WIDTHS.1) } else { 0 };
        PeerColumns { addr, client, shows_flags, shows_up, shows_has }
    }

    fn line(&self, cells: [&str; 6]) -> String {
        let [addr, client, flags, has, down, up] = cells;
        let mut line = pad_right(addr, self.addr);
        if self.client > 0 {
            line += "  ";
            line += &pad_right(client, self.client);
        }
        if self.shows_flags {
            line += " ";
            line += &pad_right(flags, FLAGS_WIDTH - 1);
        }
        if self.shows_has {
            line += &pad_left(has, HAS_WIDTH);
        }
        line += &pad_left(down, RATE_WIDTH);
        if self.shows_up {
            line += &pad_left(up, RATE_WIDTH);
        }
        line
    }
}

/// The lines of the table: a heading and one line per row; empty without peers.
pub fn lines(rows: &[PeerRow], width: usize, style: Style) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = PeerColumns::new(rows, width);
    let head = columns.line(["peer", "client", "flags", "has", "down", "up"]);
    let row = |row: &PeerRow| {
        let peer = &row.peer;
        let has = format!("{}%", (peer.progress.clamp(0.0, 1.0) * 100.0).floor());
        let speed = |bytes: f64| if bytes < 1.0 { "-".to_owned() } else { rate(bytes) };
        let addr = peer.addr.to_string();
        columns.line([&addr, &peer.client, &flags(peer), &has, &speed(row.down), &speed(row.up)])
    };
    std::iter::once(style.dim(&head)).chain(rows.iter().map(row)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A peer at 192.0.2.`host`.
    pub fn peer(host: u8, downloaded: u64) -> PeerView {
        PeerView {
            source: None,
            down_rate: 0,
            up_rate: 0,
            addr: ([192, 0, 2, host], 6881).into(),
            client: "qBittorrent/4.6.5".to_owned(),
            is_incoming: false,
            is_encrypted: true,
            transport: Transport::Tcp,
            is_hole_punched: false,
            supports_fast: true,
            downloaded,
            uploaded: 0,
            progress: 1.0,
            peer_choking: false,
            peer_interested: false,
            am_choking: true,
            am_interested: true,
            is_snubbing: false,
        }
    }

    #[test]
    fn letters_show_the_state_of_a_connection() {
        let mut one = peer(1, 0);
        assert_eq!(flags(&one), "DESF");
        (one.peer_choking, one.peer_interested, one.progress, one.is_snubbing) = (true, true, 0.5, true);
        assert_eq!(flags(&one), "du!EF");
        (one.am_interested, one.am_choking, one.is_incoming, one.is_encrypted, one.supports_fast) =
            (false, false, true, false, false);
        assert_eq!(flags(&one), "U!I");
        one.transport = Transport::Utp;
        assert_eq!(flags(&one), "U!IT");
        assert!("DdUu!EISFT".chars().all(|letter| LEGEND.contains(&format!("{letter} "))));
    }

    #[test]
    fn the_fastest_peers_come_first_and_disconnected_ones_are_forgotten() {
        let mut table = PeerTable::default();
        let s = Duration::from_secs;
        table.update(s(0), vec![peer(1, 0), peer(2, 0), peer(3, 0)], 9);
        let rows = table.update(s(1), vec![peer(1, 1000), peer(2, 90_000), peer(3, 0)], 2);
        let hosts: Vec<_> = rows.iter().map(|row| row.peer.addr.ip().to_string()).collect();
        assert_eq!(hosts, ["192.0.2.2", "192.0.2.1"]);
        assert!((rows[0].down - 90_000.0).abs() < 1.0);
        table.update(s(2), vec![peer(3, 0)], 2);
        assert_eq!(table.meters.len(), 1);
    }

    #[test]
    fn a_table_has_the_columns_that_fit() {
        let row = PeerRow { peer: peer(7, 0), down: 3_000_000.0, up: 0.4 };
        let wide = lines(std::slice::from_ref(&row), 80, Style::new(true, false));
        let head = "peer            client                flags    has         down           up";
        assert_eq!(wide[0].split_whitespace().collect::<Vec<_>>(), head.split_whitespace().collect::<Vec<_>>());
        for word in ["192.0.2.7:6881", "qBittorrent/4.6.5", "DESF", "100%", "2.9 MiB/s", "-"] {
            assert!(wide[1].contains(word), "{word} in {:?}", wide[1]);
        }
        let narrow = lines(std::slice::from_ref(&row), 20, Style::new(true, false));
        assert!(narrow[1].starts_with("192") && narrow[1].ends_with("2.9 MiB/s"), "{narrow:?}");
        for width in 14..200 {
            let all = lines(std::slice::from_ref(&row), width, Style::new(true, false));
            assert!(all.iter().all(|line| console::measure_text_width(line) <= width), "{width}: {all:?}");
        }
    }
}
