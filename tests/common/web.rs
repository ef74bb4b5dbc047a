//! A web server for tests, with a fixed answer for each path.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The answer for a path.
#[derive(Clone)]
pub enum Page {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, already gzipped, with `Content-Encoding: gzip`.
    Gzip(Vec<u8>),
    /// A redirect to another URL.
    Redirect(String),
    /// This status with an empty body.
    Status(u16),
    /// An endless body.
    Endless,
    /// No answer; the connection stays open as long as the client waits.
    Silence,
}

/// A server on loopback that runs until dropped.
pub struct WebServer {
    addr: SocketAddr,
    request_count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Serves these pages; any other path is a 404.
    pub fn start(pages: &[(&str, Page)]) -> WebServer {
        WebServer::at("127.0.0.1", pages)
    }

    /// Like [`WebServer::start`], on another IPv4 address of this machine.
    pub fn at(ip: &str, pages: &[(&str, Page)]) -> WebServer {
        let listener = TcpListener::bind((ip, 0)).expect("a port for the web server");
        let addr = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let request_count = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (stop.clone(), request_count.clone());
        let pages: Arc<Vec<(String, Page)>> =
            Arc::new(pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect());
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (pages, count) = (pages.clone(), count.clone());
                // A failed answer concerns only the client; the thread ends with its connection.
                std::thread::spawn(move || drop(answer(stream, &pages, &count)));
            }
        });
        WebServer { addr, request_count, stop, acceptor: Some(acceptor) }
    }

    /// How many requests it received.
    pub fn request_count(&self) -> usize {
        self.request_count.load(Ordering::Relaxed)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn answer(stream: TcpStream, pages: &[(String, Page)], request_count: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut header) = (String::new(), String::new());
    reader.read_line(&mut line)?;
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    request_count.fetch_add(1, Ordering::Relaxed);
    let target = line.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let page = pages.iter().find(|(name, _)| name == path).map_or(&Page::Status(404), |(_, page)| page);
    let mut stream = reader.get_ref();
    let mut whole = |status: u16, more: &str, body: &[u8]| {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} x\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(body)
    };
    match page {
        Page::Bytes(body) => whole(200, "", body),
        Page::Gzip(body) => whole(200, "Content-Encoding: gzip\r\n", body),
        Page::Redirect(url) => whole(302, &format!("Location: {url}\r\n"), b""),
        Page::Status(status) => whole(*status, "", b""),
        Page::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:announce")?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024])?;
            }
        }
        Page::Silence => reader.read_line(&mut line).map(drop),
    }
}
