//! In place of `run_page`: this program has no page.

use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::DownloadArgs;
use crate::cli::terminal::screen::Screen;
use btsync::TorrentHandle;

/// No page.
pub(crate) struct OptionalPage;

impl OptionalPage {
    /// Refuses the options that ask for a page.
    ///
    /// # Errors
    /// The options ask for one.
    pub fn start(args: &DownloadArgs, _: &Screen) -> Result<OptionalPage, Failure> {
        if args.web || args.web_listen.is_some() {
            return Err(Failure::new(Exit::BadOption, "--web: this btsync was built without its page".to_owned()));
        }
        Ok(OptionalPage)
    }

    /// Does nothing.
    #[allow(clippy::unused_self, reason = "the other implementation needs it")]
    pub fn add(&self, _: &TorrentHandle, _: &Path) {}
}
