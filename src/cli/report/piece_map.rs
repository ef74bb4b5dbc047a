//! The piece map: a row of cells, each for one piece, several pieces, or a part of one. Pure; [`crate::cli::report::tui`]
//! draws it.

use btsync::PieceState;

/// A cell of the piece map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// None of its pieces is wanted.
    Unwanted,
    /// No piece is verified or being downloaded.
    Missing,
    /// A piece is missing that no connected peer has.
    Unavailable,
    /// A piece is being downloaded.
    InProgress,
    /// No piece is being downloaded; this many thirds of the wanted ones, rounded down, are verified, but not all.
    Partial(u8),
    /// All wanted pieces are verified.
    Verified,
}

/// Maps the pieces to `width` cells.
pub fn cells(pieces: &[PieceState], width: usize) -> Vec<Cell> {
    let edge = |cell: usize| (cell as u128 * pieces.len() as u128 / width.max(1) as u128) as usize;
    let cell = |at: usize| {
        let (from, to) = (edge(at), edge(at + 1).max(edge(at) + 1));
        merged_cell(pieces.get(from..to.min(pieces.len())).unwrap_or_default())
    };
    (0..width).map(cell).collect()
}

/// Cells for the progress of the check, during which the states of pieces are unknown.
pub fn progress_cells((done, all): (u64, u64), width: usize) -> Vec<Cell> {
    let done = (u128::from(done) * width as u128 / u128::from(all.max(1))) as usize;
    (0..width).map(|at| if at < done { Cell::InProgress } else { Cell::Missing }).collect()
}

fn merged_cell(pieces: &[PieceState]) -> Cell {
    let count = |state| pieces.iter().filter(|&&piece| piece == state).count();
    if pieces.contains(&PieceState::Unavailable) {
        return Cell::Unavailable; // a piece that nobody has matters more than one that is being downloaded
    }
    let wanted = pieces.len() - count(PieceState::Unwanted);
    match (count(PieceState::Verified), count(PieceState::InProgress)) {
        _ if wanted == 0 && !pieces.is_empty() => Cell::Unwanted,
        // A torrent without pieces is complete.
        (verified, _) if verified == wanted => Cell::Verified,
        (0, 0) => Cell::Missing,
        (verified, 0) => Cell::Partial((verified * 3 / wanted) as u8),
        _ => Cell::InProgress,
    }
}

/// How the terminal shows cells and text: with or without Unicode and colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    uses_unicode: bool,
    uses_colour: bool,
}

impl Style {
    /// A style with Unicode blocks or ASCII. Every kind of cell has its own character, so that the map is readable without
    /// colour.
    pub const fn new(uses_unicode: bool, uses_colour: bool) -> Style {
        Style { uses_unicode, uses_colour }
    }

    /// Reads `NO_COLOR` (<https://no-color.org>) and the locale. Without a locale, as in containers, assumes UTF-8.
    pub fn from_env() -> Style {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        Style::new(locale.is_none_or(|name| is_utf8_locale(&name)), set("NO_COLOR").is_none())
    }

    /// Whether the terminal shows Unicode.
    pub fn unicode(self) -> bool {
        self.uses_unicode
    }

    /// Less prominent text.
    pub fn dim(self, text: &str) -> String {
        self.wrap("\x1b[2m", text)
    }

    /// More prominent text.
    pub fn bold(self, text: &str) -> String {
        self.wrap("\x1b[1m", text)
    }

    /// Text for warnings.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("\x1b[33m", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.uses_colour && !text.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The cells as text. Verified and partly verified cells are green, downloading ones yellow, missing ones dim,
    /// unavailable ones red.
    pub fn paint(self, cells: &[Cell]) -> String {
        let mut text = String::with_capacity(cells.len() * 3 + 64);
        for run in cells.chunk_by(|a, b| a == b) {
            let (block, ascii, code) = match run.first() {
                Some(Cell::Verified) => ('█', '#', "\x1b[32m"),
                Some(Cell::Partial(2..)) => ('▆', '+', "\x1b[32m"),
                Some(Cell::Partial(1)) => ('▄', '=', "\x1b[32m"),
                Some(Cell::Partial(0)) => ('▂', '-', "\x1b[32m"),
                Some(Cell::Unavailable) => ('×', '!', "\x1b[31m"),
                Some(Cell::InProgress) => ('▒', '~', "\x1b[33m"),
                Some(Cell::Unwanted) => (' ', ' ', ""),
                _ => ('░', '.', "\x1b[2m"),
            };
            text.push_str(if self.uses_colour { code } else { "" });
            text.extend(run.iter().map(|_| if self.uses_unicode { block } else { ascii }));
            text.push_str(if self.uses_colour && !code.is_empty() { "\x1b[0m" } else { "" });
        }
        text
    }
}

fn is_utf8_locale(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use PieceState::{InProgress, Missing, Verified};

    #[test]
    fn a_cell_is_green_only_when_all_its_pieces_are() {
        let pieces = [Verified, Verified, Verified, Missing, Missing, Missing, InProgress, Missing];
        assert_eq!(cells(&pieces, 4), [Cell::Verified, Cell::Partial(1), Cell::Missing, Cell::InProgress]);
        assert_eq!(cells(&pieces, 1), [Cell::InProgress]);
        assert_eq!(cells(&pieces[..4], 1), [Cell::Partial(2)]);
        assert_eq!(cells(&pieces[2..4], 2), [Cell::Verified, Cell::Missing]);
    }

    #[test]
    fn unavailable_pieces_show_in_every_cell() {
        let pieces = [Verified, PieceState::Unavailable, InProgress, Missing];
        assert_eq!(cells(&pieces, 1), [Cell::Unavailable]);
        assert_eq!(cells(&pieces, 2), [Cell::Unavailable, Cell::InProgress]);
        assert_eq!(Style::new(false, false).paint(&cells(&pieces, 4)), "#!~.");
        assert_eq!(Style::new(true, true).paint(&[Cell::Unavailable]), "\x1b[31m×\x1b[0m");
    }

    #[test]
    fn unwanted_pieces_do_not_count() {
        use PieceState::Unwanted;
        let pieces = [Verified, Unwanted, Unwanted, Unwanted, Missing, Unwanted];
        assert_eq!(cells(&pieces, 3), [Cell::Verified, Cell::Unwanted, Cell::Missing]);
        assert_eq!(cells(&pieces, 1), [Cell::Partial(1)]);
        assert_eq!(Style::new(true, true).paint(&[Cell::Unwanted; 2]), "  ");
    }

    #[test]
    fn few_pieces_fill_the_whole_line() {
        use Cell::{InProgress as U, Missing as M, Verified as V};
        assert_eq!(cells(&[Verified, Missing], 5), [V, V, V, M, M]);
        assert_eq!(cells(&[PieceState::InProgress], 3), [U; 3]);
        assert_eq!(cells(&[], 2), [V; 2]);
        assert_eq!(cells(&[Verified], 0), []);
    }

    #[test]
    fn no_piece_is_left_out_at_any_width() {
        for width in 1..50 {
            for missing in 0..97 {
                let mut pieces = [Verified; 97];
                pieces[missing] = Missing;
                let line = cells(&pieces, width);
                assert_eq!(line.len(), width);
                assert!(line.iter().any(|&cell| cell != Cell::Verified), "width {width}, piece {missing}");
            }
        }
    }

    #[test]
    fn colour_and_signs_follow_the_terminal() {
        let partly = [2, 1, 0].map(Cell::Partial);
        let line = [&[Cell::Verified, Cell::Verified], &partly[..], &[Cell::InProgress, Cell::Missing]].concat();
        let colours =
            "\x1b[32m██\x1b[0m\x1b[32m▆\x1b[0m\x1b[32m▄\x1b[0m\x1b[32m▂\x1b[0m\x1b[33m▒\x1b[0m\x1b[2m░\x1b[0m";
        assert_eq!(Style::new(true, true).paint(&line), colours);
        assert_eq!(Style::new(true, false).paint(&line), "██▆▄▂▒░");
        assert_eq!(Style::new(false, false).paint(&line), "##+=-~.");
        assert!(
            is_utf8_locale("en_US.UTF-8")
                && is_utf8_locale("C.utf8")
                && !is_utf8_locale("C")
                && !is_utf8_locale("POSIX")
        );
    }
}
