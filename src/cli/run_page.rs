//! `--web`: the page of the torrents of this run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::DownloadArgs;
use crate::cli::options::values::WebAddress;
use crate::cli::terminal::screen::Screen;
use btsync::{RunPage, ServiceError, TorrentHandle, WebOptions};

/// The page of a run, if the options ask for one.
pub(crate) struct OptionalPage(Option<RunPage>);

impl OptionalPage {
    /// Offers the page, and prints its address.
    ///
    /// # Errors
    /// It may not or cannot listen there.
    pub fn start(args: &DownloadArgs, screen: &Screen) -> Result<OptionalPage, Failure> {
        let Some(options) = options(args) else { return Ok(OptionalPage(None)) };
        let page = RunPage::start(options).map_err(|error| {
            let code = match error {
                ServiceError::NoPassword { .. } => Exit::BadOption,
                ServiceError::Listen { .. } => Exit::Network,
                _ => Exit::Other,
            };
            Failure::new(code, error.to_string())
        })?;
        for address in page.addresses() {
            screen.print(&format!("the page is at {address}"));
        }
        Ok(OptionalPage(Some(page)))
    }

    /// Shows a torrent with files below `folder`.
    pub fn add(&self, handle: &TorrentHandle, folder: &Path) {
        if let Some(page) = &self.0 {
            let folder = std::path::absolute(folder);
            page.add(handle, folder.as_deref().unwrap_or(Path::new("/")));
        }
    }
}

fn options(args: &DownloadArgs) -> Option<WebOptions> {
    let mut options = WebOptions::default();
    match &args.web_listen {
        Some(WebAddress::Tcp(address)) => options.addresses.push(*address),
        Some(WebAddress::Unix(path)) => options.unix_sockets.push(path.clone()),
        None if args.web => options.addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        None => return None,
    }
    Some(options)
}
