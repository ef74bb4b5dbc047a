//! The sockets on which a server listens: TCP addresses, Unix sockets, and sockets that another program opened.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::http_server::request::ClientAddress;

/// The length of the listen queue: connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often to try to lock the folder of a socket, and the pause in between: other servers hold the lock for a moment only.
const LOCK_ATTEMPTS: usize = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// The access to a Unix socket by default: its user only.
pub const PRIVATE_MODE: u32 = 0o600;

/// A socket that accepts connections for a [`Server`](crate::http_server::Server).
#[derive(Debug)]
pub struct HttpListener {
    socket: OwnedFd,
    address: ListenAddress,
    /// The socket file that this listener created, with its device and inode.
    file: Option<(PathBuf, (u64, u64))>,
    /// The errors of the next calls of `accept` in a test.
    #[cfg(test)]
    pub(super) failures: std::sync::Arc<parking_lot::Mutex<Vec<Errno>>>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address with its actual port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; empty if it has none.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(addr) => addr.fmt(f),
            ListenAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

impl HttpListener {
    /// Listens on a TCP address. `[::]` accepts IPv4 clients too; port 0 picks a free port.
    ///
    /// # Errors
    /// If the address is in use or not local, or no descriptor is free.
    pub fn tcp(listen: SocketAddr) -> io::Result<HttpListener> {
        let socket = Socket::new(Domain::for_address(listen), Type::STREAM, None)?;
        if listen.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Otherwise the port would be refused for a minute after another server used it.
        socket.set_reuse_address(true)?;
        socket.bind(&listen.into())?;
        socket.listen(BACKLOG)?;
        HttpListener::from_tcp(socket.into())
    }

    /// Uses a socket that another program opened, such as systemd.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or has no address.
    pub fn from_tcp(listener: TcpListener) -> io::Result<HttpListener> {
        listener.set_nonblocking(true)?;
        let address = ListenAddress::Tcp(listener.local_addr()?);
        // Accepted sockets inherit these options. Responses need not wait for acknowledgements, and a client that has vanished
        // without a word is noticed after two minutes.
        let socket = SockRef::from(&listener);
        let _ = socket.set_tcp_nodelay(true);
        let pause = Duration::from_secs(15);
        let probes = TcpKeepalive::new().with_time(4 * pause).with_interval(pause).with_retries(4);
        let _ = socket.set_tcp_keepalive(&probes);
        Ok(HttpListener::new(listener.into(), address))
    }

    /// Listens on a Unix socket with these permissions. Replaces a socket file on which nobody listens, and removes its own at
    /// the end.
    ///
    /// # Errors
    /// `AddrInUse` if somebody listens there or the file is no socket; or if the path is too long or cannot be created.
    pub fn unix(path: &Path, mode: u32) -> io::Result<HttpListener> {
        let _lock = lock_folder(path);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The file gets these permissions, less the umask, at once.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
        let address = SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                socket.bind(&address)?;
            }
            bound => bound?,
        }
        let metadata = fs::symlink_metadata(path)?;
        if metadata.permissions().mode() & 0o777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(BACKLOG)?;
        let mut listener = HttpListener::from_unix(OwnedFd::from(socket).into())?;
        listener.file = Some((path.to_owned(), (metadata.dev(), metadata.ino())));
        Ok(listener)
    }

    /// Uses a Unix socket that another program opened. Its file stays at the end.
    ///
    /// # Errors
    /// If it cannot be made non-blocking, or has no address.
    pub fn from_unix(listener: UnixListener) -> io::Result<HttpListener> {
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
        Ok(HttpListener::new(listener.into(), ListenAddress::Unix(path)))
    }

    fn new(socket: OwnedFd, address: ListenAddress) -> HttpListener {
        HttpListener {
            socket,
            address,
            file: None,
            #[cfg(test)]
            failures: std::sync::Arc::default(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts a connection; its socket is non-blocking.
    pub(super) fn accept(&self) -> Result<(OwnedFd, ClientAddress), Errno> {
        #[cfg(test)]
        if let Some(error) = self.failures.lock().pop() {
            return Err(error);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        if let ListenAddress::Unix(_) = self.address {
            return Ok((accept_with(&self.socket, flags)?, ClientAddress::Unix));
        }
        let (socket, from) = acceptfrom_with(&self.socket, flags)?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(Errno::CONNABORTED)?;
        Ok((socket, ClientAddress::Tcp(SocketAddr::new(from.ip().to_canonical(), from.port()))))
    }
}

impl AsFd for HttpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for HttpListener {
    fn drop(&mut self) {
        let Some((path, identity)) = &self.file else { return };
        // Another server may have replaced the file.
        if fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == *identity) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Locks the folder of a path: two servers that start at the same time must not remove each other's sockets. `None` if the folder
/// cannot be locked; the server starts nevertheless.
fn lock_folder(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = File::open(parent.unwrap_or(Path::new("."))).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
            locked => return locked.ok().map(|()| folder),
        }
    }
    None
}

/// Whether a path is a socket on which nobody listens.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_private_and_replaces_only_stale_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = HttpListener::unix(&path, PRIVATE_MODE).unwrap();
        assert_eq!((mode(), first.address()), (0o600, &ListenAddress::Unix(path.clone())));
        let taken = HttpListener::unix(&path, PRIVATE_MODE).map_err(|error| error.kind());
        assert!(matches!(taken, Err(io::ErrorKind::AddrInUse)), "{taken:?}");
        drop(first);
        assert!(!path.exists(), "it removes its file");
        // A file that a killed server leaves behind.
        drop(UnixListener::bind(&path).unwrap());
        let second = HttpListener::unix(&path, 0o666).unwrap();
        assert_eq!(mode(), 0o666);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a document").unwrap();
        drop(second);
        assert!(path.exists(), "not its own");
        assert!(HttpListener::unix(&path, PRIVATE_MODE).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a document");
        assert!(HttpListener::unix(&folder.path().join("x".repeat(200)), PRIVATE_MODE).is_err());
    }
}
