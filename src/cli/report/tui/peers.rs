//! The table of the best peers: who they are, what they do, how fast. Pure: it is fed with what the session says of its peers.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::report::figures::{Meter, rate};
use crate::cli::report::piece_map::Look;
use crate::cli::report::tui::text::{fit_left, pad};
use crate::torrent::PeerView;

/// What the signs in the column of flags mean.
pub const LEGEND: &str =
    "flags: D gives, d chokes us, U takes, u is choked, ! owes us, E encrypted, I called us, S seed, F fast";

/// Whom the view shows, best first.
#[derive(Default)]
pub struct Table {
    meters: HashMap<SocketAddr, Meters>,
}

struct Meters {
    down: Meter,
    up: Meter,
    /// Both, faded slowly: what the order goes by, so that lines do not dance.
    rank: Meter,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the session says of it.
    pub peer: PeerView,
    /// Bytes a second from it.
    pub down: f64,
    /// Bytes a second to it.
    pub up: f64,
}

impl Table {
    /// The peers stood so at the time `at`: the best `most` of them.
    pub fn update(&mut self, at: Duration, peers: Vec<PeerView>, most: usize) -> Vec<Row> {
        self.meters.retain(|addr, _| peers.iter().any(|peer| peer.addr == *addr));
        let mut rows: Vec<(u64, Row)> = peers.into_iter().map(|peer| self.row(at, peer)).collect();
        rows.sort_by_key(|(rank, row)| (Reverse(*rank), Reverse(row.peer.downloaded), row.peer.addr));
        rows.into_iter().take(most).map(|(_, row)| row).collect()
    }

    fn row(&mut self, at: Duration, peer: PeerView) -> (u64, Row) {
        let meter = |s| Meter::new(Duration::from_secs(s));
        let new = || Meters { down: meter(2), up: meter(2), rank: meter(10) };
        let meters = self.meters.entry(peer.addr).or_insert_with(new);
        meters.down.update(at, peer.downloaded);
        meters.up.update(at, peer.uploaded);
        meters.rank.update(at, peer.downloaded.saturating_add(peer.uploaded));
        // In steps of about a third: who is a little faster need not change places.
        let rank = (meters.rank.rate().max(1.0).ln() * 3.0) as u64;
        (rank, Row { down: meters.down.rate(), up: meters.up.rate(), peer })
    }
}

/// What goes on with a peer, a letter each: see [`LEGEND`].
pub fn flags(peer: &PeerView) -> String {
    let pairs = [
        (peer.wanted && !peer.chokes_us, 'D'),
        (peer.wanted && peer.chokes_us, 'd'),
        (peer.interested && !peer.choked, 'U'),
        (peer.interested && peer.choked, 'u'),
        (peer.snubs, '!'),
        (peer.encrypted, 'E'),
        (peer.incoming, 'I'),
        (peer.has >= 1.0, 'S'),
        (peer.fast, 'F'),
    ];
    pairs.iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect()
}

/// The columns that fit into a width.
struct Columns {
    addr: usize,
    client: usize,
    flags: bool,
    up: bool,
    has: bool,
}

/// Columns of flags, of the part that a peer has, and of a rate, with the space before them.
const FLAGS: usize = 8;
const HAS: usize = 6;
const RATE: usize = 13;
/// A client's name in fewer columns says nothing; in more it says no more.
const CLIENT: (usize, usize) = (8, 28);

impl Columns {
    fn new(rows: &[Row], width: usize) -> Columns {
        let longest = rows.iter().map(|row| row.peer.addr.to_string().len()).max().unwrap_or_default();
        let mut left = width.saturating_sub(RATE);
        let addr = longest.clamp(7, 47).min(left);
        left -= addr;
        let mut take = |columns: usize| {
            let fits = left >= columns;
            left -= if fits { columns } else { 0 };
            fits
        };
        let (has, flags, up) = (take(HAS), take(FLAGS), take(RATE));
        let client = if left > CLIENT.0 + 2 { (left - 2).min(CLIENT.1) } else { 0 };
        Columns { addr, client, flags, up, has }
    }

    fn line(&self, cells: [&str; 6]) -> String {
        let [addr, client, flags, has, down, up] = cells;
        let mut line = fit_left(addr, self.addr);
        if self.client > 0 {
            line += "  ";
            line += &fit_left(client, self.client);
        }
        if self.flags {
            line += " ";
            line += &fit_left(flags, FLAGS - 1);
        }
        if self.has {
            line += &pad(has, HAS);
        }
        line += &pad(down, RATE);
        if self.up {
            line += &pad(up, RATE);
        }
        line
    }
}

/// The table in lines: a head, and one for each row. Nothing where there is no peer.
pub fn lines(rows: &[Row], width: usize, look: Look) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = Columns::new(rows, width);
    let head = columns.line(["peer", "client", "flags", "has", "down", "up"]);
    let row = |row: &Row| {
        let peer = &row.peer;
        let has = format!("{}%", (peer.has.clamp(0.0, 1.0) * 100.0).floor());
        let speed = |bytes: f64| if bytes < 1.0 { "-".to_owned() } else { rate(bytes) };
        let addr = peer.addr.to_string();
        columns.line([&addr, &peer.client, &flags(peer), &has, &speed(row.down), &speed(row.up)])
    };
    std::iter::once(look.dim(&head)).chain(rows.iter().map(row)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A peer whose last part of the address is `host`.
    pub fn peer(host: u8, downloaded: u64) -> PeerView {
        PeerView {
            addr: ([192, 0, 2, host], 6881).into(),
            client: "qBittorrent/4.6.5".to_owned(),
            incoming: false,
            encrypted: true,
            fast: true,
            downloaded,
            uploaded: 0,
            has: 1.0,
            chokes_us: false,
            interested: false,
            choked: true,
            wanted: true,
            snubs: false,
        }
    }

    #[test]
    fn letters_say_what_goes_on() {
        let mut one = peer(1, 0);
        assert_eq!(flags(&one), "DESF");
        (one.chokes_us, one.interested, one.has, one.snubs) = (true, true, 0.5, true);
        assert_eq!(flags(&one), "du!EF");
        (one.wanted, one.choked, one.incoming, one.encrypted, one.fast) = (false, false, true, false, false);
        assert_eq!(flags(&one), "U!I");
        assert!("DdUu!EISF".chars().all(|letter| LEGEND.contains(&format!("{letter} "))));
    }

    #[test]
    fn the_best_come_first_and_those_who_left_are_forgotten() {
        let mut table = Table::default();
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
        let row = Row { peer: peer(7, 0), down: 3_000_000.0, up: 0.4 };
        let wide = lines(std::slice::from_ref(&row), 80, Look::new(true, false));
        let head = "peer            client                flags    has         down           up";
        assert_eq!(wide[0].split_whitespace().collect::<Vec<_>>(), head.split_whitespace().collect::<Vec<_>>());
        for word in ["192.0.2.7:6881", "qBittorrent/4.6.5", "DESF", "100%", "2.9 MiB/s", "-"] {
            assert!(wide[1].contains(word), "{word} in {:?}", wide[1]);
        }
        let narrow = lines(std::slice::from_ref(&row), 20, Look::new(true, false));
        assert!(narrow[1].starts_with("192") && narrow[1].ends_with("2.9 MiB/s"), "{narrow:?}");
        for width in 14..200 {
            let all = lines(std::slice::from_ref(&row), width, Look::new(true, false));
            assert!(all.iter().all(|line| console::measure_text_width(line) <= width), "{width}: {all:?}");
        }
    }
}
