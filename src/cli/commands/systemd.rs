//! What `btsync serve` has to do with systemd: it uses the sockets that systemd passes, and tells systemd when it is ready and when
//! it stops. Without systemd, nothing happens.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::cli::exit::{Exit, Failure};
use crate::util::os_error::reason;

/// The listening sockets that systemd passes (`ListenStream=` of a socket unit).
#[derive(Debug, Default)]
pub struct GivenSockets {
    /// Those with an IP address.
    pub tcp: Vec<TcpListener>,
    /// Unix sockets.
    pub unix: Vec<UnixListener>,
}

impl GivenSockets {
    /// Takes the sockets that the environment names, and removes these variables.
    ///
    /// # Errors
    /// One is no stream socket.
    pub fn take() -> Result<GivenSockets, Failure> {
        let mut given = ListenFd::from_env();
        let mut sockets = GivenSockets::default();
        for index in 0..given.len() {
            if let Ok(unix) = given.take_unix_listener(index) {
                sockets.unix.extend(unix);
                continue;
            }
            let tcp = given.take_tcp_listener(index).map_err(|error| {
                let why = format!("socket {} of systemd's is no stream socket: {}", index + 1, reason(&error));
                Failure::new(Exit::BadOption, why)
            })?;
            sockets.tcp.extend(tcp);
        }
        Ok(sockets)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }
}

/// Tells systemd that the service is ready, and where its page is.
pub fn ready(addresses: &[String]) {
    let status = format!("the page is at {}", addresses.join(", "));
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Tells systemd that the service stops.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping the torrents")]);
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot notify systemd: {}", reason(&error));
    }
}
