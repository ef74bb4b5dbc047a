//! A TCP relay on loopback that limits the rate of one direction, like an uplink, with minimal buffers of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Socket buffer size in bytes for the limited direction.
const BUFFER: usize = 16 * 1024;
/// Bytes forwarded at a time.
const CHUNK: usize = 1500;

/// A running relay.
pub struct Relay {
    /// The address it listens on.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Forwards every connection to `target`, at most `up` bytes a second towards it. The other direction is not limited.
    pub fn start(target: SocketAddr, up: u32) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // Set on the listener, so that accepted connections start with a small window.
        SockRef::from(&listener).set_recv_buffer_size(BUFFER).expect("a small buffer");
        let (addr, stop) = (listener.local_addr().expect("an address"), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let acceptor = thread::spawn(move || {
            for dialer in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(dialer), Ok(target)) = (dialer, TcpStream::connect(target)) else { continue };
                let (from, to) = (dialer.try_clone().expect("a handle"), target.try_clone().expect("a handle"));
                // Both threads end when their connection does.
                thread::spawn(move || slowly(from, to, up));
                thread::spawn(move || at_once(target, dialer));
            }
        });
        Relay { addr, stop, acceptor: Some(acceptor) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn slowly(mut from: TcpStream, mut to: TcpStream, rate: u32) {
    let mut buffer = [0; CHUNK];
    let mut due = Instant::now();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        due = due.max(Instant::now()) + Duration::from_secs_f64(count as f64 / f64::from(rate));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

fn at_once(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
