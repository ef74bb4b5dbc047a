//! A service for many torrents, whose users control it over HTTP: with the page in their browser, or with a program that speaks
//! Transmission's RPC.
#![allow(dead_code, reason = "the faces of the service are still being built")]

mod board;
mod control;
mod details;
mod facts;
mod feed;
mod file_jobs;
mod goals;
mod load;
mod manager;
mod messages;
pub mod model;
mod options;
mod queue;
mod record;
pub mod rpc;
mod schedule;
pub mod settings;
mod state_folder;
#[cfg(test)]
mod tests;
mod trackers;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::service::board::Shared;
use crate::service::manager::Manager;
use crate::service::messages::Message;
use crate::service::model::Control;
pub use options::{ServiceError, ServiceOptions};
pub use state_folder::StateError;

/// A running service; stops when dropped.
pub struct Service {
    shared: Arc<Shared>,
    manager: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts a service with the torrents of its state folder.
    ///
    /// # Errors
    /// If the state folder is in use or damaged, or no port is free.
    pub fn start(options: &ServiceOptions) -> Result<Service, ServiceError> {
        let (manager, shared) = Manager::new(options)?;
        let thread = thread::Builder::new().name("service".to_owned()).spawn(move || manager.run());
        Ok(Service { shared, manager: Some(thread.map_err(ServiceError::Thread)?) })
    }

    /// What a page or a remote control may do with the service.
    pub fn control(&self) -> Arc<dyn Control> {
        self.shared.clone()
    }

    /// Waits until the service ends because a remote control asked for it, or [`Control::shut_down`] was called.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if self.manager.take().is_some_and(|manager| manager.join().is_err()) {
            log::error!("the service's thread panicked");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.shared.inbox.send(Message::ShutDown);
        self.join();
    }
}
