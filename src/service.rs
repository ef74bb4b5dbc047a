//! A service for many torrents, whose users control it over HTTP: with the page in their browser, or with a program that speaks
//! Transmission's RPC.

mod added_files;
mod block_list;
mod control;
mod details;
mod dormancy;
mod file_jobs;
mod file_links;
mod file_streaming;
mod goals;
mod import;
mod load;
mod manager;
mod manager_channel;
mod messages;
mod metainfo_summary;
pub mod model;
mod options;
mod page_events;
mod permitted_folders;
mod published;
mod queue;
mod rate_limit;
mod record;
mod renaming;
pub mod rpc;
mod run_page;
mod schedule;
pub mod settings;
mod state_folder;
mod state_owner;
#[cfg(test)]
mod tests;
mod text_limits;
mod torrent_fetcher;
mod trackers;
mod watch;
pub mod web;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::http_server::{HttpListener, ListenAddress, PRIVATE_MODE, Server, ServerLimits};
use crate::service::control::ServiceControl;
use crate::service::manager::Manager;
use crate::service::model::Control;
use crate::service::options::no_password;
use crate::service::page_events::PageEvents;
use crate::service::state_folder::downloaded_torrents;
use crate::service::watch::WatchedFolder;
use crate::service::web::{AccessPolicy, WebHandler};

pub use options::{ServiceError, ServiceOptions, WebOptions};
pub use run_page::RunPage;
pub use web::PasswordHash;

/// A running service: its torrents, and its page if it has one. Stops when dropped.
pub struct Service {
    control: Arc<ServiceControl>,
    manager: Mutex<Option<JoinHandle<()>>>,
    server: Mutex<Option<Server>>,
    watched: Mutex<Option<WatchedFolder>>,
    addresses: Vec<String>,
}

impl Service {
    /// Starts a service with the torrents of its state folder.
    ///
    /// # Errors
    /// If the state folder is in use or damaged, no port is free, or the page may not or cannot listen.
    pub fn start(options: ServiceOptions) -> Result<Service, ServiceError> {
        let listeners = options.web.as_ref().map(listeners).transpose()?;
        let (manager, control) = Manager::new(&options)?;
        let thread = thread::Builder::new().name("service".to_owned()).spawn(move || manager.run());
        let manager = Mutex::new(Some(thread.map_err(ServiceError::Thread)?));
        let mut service =
            Service { control, manager, server: Mutex::new(None), watched: Mutex::default(), addresses: Vec::new() };
        if let Some(folder) = &options.watch_folder {
            service.watch(folder, &options.downloaded_torrents_folders)?;
        }
        if let (Some(web), Some(listeners)) = (options.web, listeners) {
            let (control, events) = (service.control.clone(), service.control.page_events.clone());
            let (server, addresses) = serve_page(web, listeners, control, events)?;
            (*service.server.lock(), service.addresses) = (Some(server), addresses);
        }
        Ok(service)
    }

    fn watch(&self, folder: &Path, records: &[PathBuf]) -> Result<(), ServiceError> {
        let downloads = self.control.allowed_folders.clone();
        let records = [&[downloaded_torrents(&self.control.state_folder)], records].concat();
        let watched = WatchedFolder::start(folder, records, downloads, self.control.clone());
        *self.watched.lock() =
            Some(watched.map_err(|source| ServiceError::WatchFolder { folder: folder.to_owned(), source })?);
        Ok(())
    }

    /// Where the page is: URLs, or `unix:` and a path.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The password that [`Service::save_password`] has saved in a state folder; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn saved_password(state_folder: &Path) -> Result<Option<PasswordHash>, ServiceError> {
        Ok(state_folder::read_json(&password_file(state_folder))?)
    }

    /// Saves a password in a state folder for later starts.
    ///
    /// # Errors
    /// If it cannot be saved.
    pub fn save_password(state_folder: &Path, password: &PasswordHash) -> Result<(), ServiceError> {
        let failed = |error: std::io::Error| ServiceError::State(format!("{}: {error}", state_folder.display()));
        state_owner::claim(state_folder)?;
        state_folder::save_json(&password_file(state_folder), password)?;
        crate::util::atomic_file::sync_folder(state_folder).map_err(failed)
    }

    /// Removes the saved password, if there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_password(state_folder: &Path) -> Result<(), ServiceError> {
        let path = password_file(state_folder);
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        state_owner::check(state_folder)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ServiceError::State(format!("{}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Adds the torrents of Transmission to the state folder, which no service may use meanwhile. `folder` is that of
    /// Transmission's configuration. Returns what became of each torrent, as a line for the user.
    ///
    /// # Errors
    /// If it is no such folder, the state folder cannot be used, or torrents are in folders that `options` do not permit; then
    /// none is added.
    pub fn import_transmission(
        options: &ServiceOptions,
        folder: &Path,
    ) -> Result<Vec<Result<String, String>>, ServiceError> {
        let why = "not a folder of Transmission's configuration: it has no folders torrents and resume";
        let found = import::of_transmission(folder);
        let found = found.ok_or_else(|| ServiceError::ImportFrom { folder: folder.to_owned(), why })?;
        import::import(options, found)
    }

    /// The same as [`Service::import_transmission`] for qBittorrent: `folder` is its folder `BT_backup`, or that of a profile.
    ///
    /// # Errors
    /// Those of [`Service::import_transmission`].
    pub fn import_qbittorrent(
        options: &ServiceOptions,
        folder: &Path,
    ) -> Result<Vec<Result<String, String>>, ServiceError> {
        let why = "there is no folder BT_backup of qBittorrent's";
        let found = import::of_qbittorrent(folder);
        let found = found.ok_or_else(|| ServiceError::ImportFrom { folder: folder.to_owned(), why })?;
        import::import(options, found)
    }

    /// What a page or a remote control may do with the service.
    #[cfg(test)]
    fn control(&self) -> Arc<dyn model::Control> {
        self.control.clone()
    }

    /// Tells the service to end; returns at once.
    pub fn shut_down(&self) {
        self.control.manager.shut_down();
    }

    /// Waits until the service has ended, because of [`Service::shut_down`] or because a remote control asked for it.
    pub fn wait(&self) {
        let manager = self.manager.lock().take();
        if manager.is_some_and(|manager| manager.join().is_err()) {
            log::error!("the service's thread panicked");
        }
        // Its requests fail now, so that its thread ends soon.
        let watched = self.watched.lock().take();
        drop(watched);
        self.control.page_events.end();
        let server = self.server.lock().take();
        drop(server);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shut_down();
        self.wait();
    }
}

fn password_file(state_folder: &Path) -> PathBuf {
    state_folder.join("password.json")
}

/// Starts the server of a page; returns where the page is, too.
fn serve_page(
    web: WebOptions,
    mut listeners: Vec<HttpListener>,
    control: Arc<dyn Control>,
    events: Arc<PageEvents>,
) -> Result<(Server, Vec<String>), ServiceError> {
    let address = "a given socket".to_owned();
    let adopted = web.listeners.into_iter().map(HttpListener::from_tcp);
    let adopted = adopted.chain(web.unix_listeners.into_iter().map(HttpListener::from_unix));
    let adopted: Result<Vec<HttpListener>, _> = adopted.collect();
    listeners.extend(adopted.map_err(|source| ServiceError::Listen { address, source })?);
    let access = AccessPolicy::new(web.password, &web.host_names);
    let handler = WebHandler::new(control, access, events, &web.path_prefix, web.offers_metrics);
    let server = Server::start("web", listeners, ServerLimits::default(), Arc::new(handler));
    let server = server.map_err(ServiceError::Thread)?;
    let prefix = web.path_prefix.trim_matches('/');
    let path = if prefix.is_empty() { "/".to_owned() } else { format!("/{prefix}/") };
    let name = |address: &ListenAddress| match address {
        ListenAddress::Tcp(addr) => format!("http://{addr}{path}"),
        ListenAddress::Unix(socket) => format!("unix:{}", socket.display()),
    };
    let addresses = server.addresses().iter().map(name).collect();
    Ok((server, addresses))
}

/// Listens where the page is to be offered.
fn listeners(web: &WebOptions) -> Result<Vec<HttpListener>, ServiceError> {
    let has_password = web.password.is_some();
    let given = web.listeners.iter().filter_map(|listener| listener.local_addr().ok());
    for address in web.addresses.iter().copied().chain(given) {
        AccessPolicy::check_address(has_password, address.ip()).map_err(no_password(address))?;
    }
    let failed = |address: String| move |source| ServiceError::Listen { address, source };
    let tcp = web.addresses.iter().map(|address| HttpListener::tcp(*address).map_err(failed(address.to_string())));
    let unix = web
        .unix_sockets
        .iter()
        .map(|path| HttpListener::unix(path, PRIVATE_MODE).map_err(failed(path.display().to_string())));
    tcp.chain(unix).collect()
}
