//! A proxy for tests: SOCKS 5, SOCKS 4a and HTTP on one port. It records every request, resolves names of its own, and misbehaves
//! on demand.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

/// What the proxy does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It does as it is told.
    Serves,
    /// It does, but grants no UDP association.
    ServesTcpOnly,
    /// It closes connections at once.
    Closes,
    /// It says nothing.
    IsSilent,
    /// It answers with something else.
    TalksNonsense,
    /// It refuses every target.
    Refuses,
    /// It closes connections once it knows the target.
    ClosesAfterRequest,
}

/// A proxy that runs until dropped.
pub struct TestProxy {
    /// Its address.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    /// Names that nobody else can resolve.
    names: Mutex<Vec<(String, IpAddr)>>,
    /// What `USER:PASSWORD` has to be.
    credentials: Mutex<Option<String>>,
    habit: Mutex<Option<Habit>>,
    streams: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

impl TestProxy {
    /// A proxy at this address; port 0 for any.
    pub fn start(at: SocketAddr) -> TestProxy {
        let listener = TcpListener::bind(at).expect("a port for the proxy");
        let (addr, shared) = (listener.local_addr().expect("an address"), Arc::<Shared>::default());
        let state = shared.clone();
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.stop.load(Ordering::Relaxed) {
                    return;
                }
                let state = state.clone();
                state.streams.lock().push(stream.try_clone().expect("a handle"));
                // What fails, the test notices by what the client does not get.
                thread::spawn(move || {
                    let end = stream.try_clone().expect("a handle");
                    drop(serve(stream, &state));
                    drop(end.shutdown(Shutdown::Both));
                });
            }
        });
        TestProxy { addr, shared, acceptor: Some(acceptor) }
    }

    /// Resolves `name`.
    #[must_use]
    pub fn with_name(self, name: &str, ip: IpAddr) -> TestProxy {
        self.shared.names.lock().push((name.to_owned(), ip));
        self
    }

    /// Wants `USER:PASSWORD`.
    #[must_use]
    pub fn with_credentials(self, credentials: &str) -> TestProxy {
        *self.shared.credentials.lock() = Some(credentials.to_owned());
        self
    }

    /// Changes what it does with new connections.
    pub fn set_habit(&self, habit: Habit) {
        *self.shared.habit.lock() = Some(habit);
    }

    /// Its requests so far, such as `socks5 tracker.test:80`, `socks4 192.0.2.1:6881`, `connect t:443`, `get http://t/`, `udp t:1`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }

    /// Whether there was a request with this text.
    pub fn has_request(&self, text: &str) -> bool {
        self.requests().iter().any(|request| request.contains(text))
    }
}

impl Drop for TestProxy {
    /// Ends all connections, too.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for stream in self.shared.streams.lock().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn habit(&self) -> Habit {
        self.habit.lock().unwrap_or(Habit::Serves)
    }

    fn note(&self, kind: &str, target: &str) {
        self.requests.lock().push(format!("{kind} {target}"));
    }

    fn resolve(&self, host: &str) -> Option<IpAddr> {
        let bare = host.trim_matches(['[', ']']);
        bare.parse().ok().or_else(|| self.names.lock().iter().find(|(name, _)| name == bare).map(|(_, ip)| *ip))
    }

    fn connect(self: &Arc<Self>, host: &str, port: u16) -> io::Result<TcpStream> {
        if self.habit() == Habit::Refuses {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let ip = self.resolve(host).ok_or(io::ErrorKind::NotFound)?;
        let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(5))?;
        self.streams.lock().push(stream.try_clone()?);
        Ok(stream)
    }
}

fn byte(stream: &mut TcpStream) -> io::Result<u8> {
    bytes(stream, 1).map(|bytes| bytes[0])
}

fn bytes(stream: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn serve(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    match shared.habit() {
        Habit::Closes => return Ok(()),
        Habit::IsSilent => return io::copy(&mut stream, &mut io::sink()).map(drop),
        Habit::TalksNonsense => return stream.write_all(b"220 mail.example ESMTP\r\n"),
        _ => {}
    }
    match byte(&mut stream)? {
        5 => socks5(stream, shared),
        4 => socks4(stream, shared),
        first => http(stream, first, shared),
    }
}

fn socks5(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let count = byte(&mut stream)?;
    let methods = bytes(&mut stream, count.into())?;
    let wanted = shared.credentials.lock().clone();
    match wanted {
        Some(wanted) if methods.contains(&2) => {
            stream.write_all(&[5, 2])?;
            let version_and_user = bytes(&mut stream, 2)?;
            let user = bytes(&mut stream, version_and_user[1].into())?;
            let length = byte(&mut stream)?;
            let password = bytes(&mut stream, length.into())?;
            let is_right = [&user[..], b":", &password].concat() == wanted.as_bytes();
            stream.write_all(&[1, u8::from(!is_right)])?;
            if !is_right {
                return Ok(());
            }
        }
        Some(_) => return stream.write_all(&[5, 0xff]),
        None => stream.write_all(&[5, 0])?,
    }
    let head = bytes(&mut stream, 4)?;
    let host = match head[3] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes(&mut stream, 4)?).expect("four")).to_string(),
        4 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes(&mut stream, 16)?).expect("sixteen")).to_string(),
        _ => {
            let length = byte(&mut stream)?;
            String::from_utf8_lossy(&bytes(&mut stream, length.into())?).into_owned()
        }
    };
    let port = port(&bytes(&mut stream, 2)?);
    if head[1] == 3 {
        return associate(stream, shared);
    }
    shared.note("socks5", &format!("{host}:{port}"));
    if shared.habit() == Habit::ClosesAfterRequest {
        return Ok(());
    }
    match shared.connect(&host, port) {
        Ok(target) => {
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            relay(stream, target)
        }
        Err(error) => {
            let reply = if error.kind() == io::ErrorKind::PermissionDenied { 2 } else { 5 };
            stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0])
        }
    }
}

/// Carries datagrams for as long as the connection lasts.
fn associate(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    if shared.habit() != Habit::Serves {
        return stream.write_all(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    shared.note("associate", "udp");
    let inner = UdpSocket::bind((stream.local_addr()?.ip(), 0))?;
    let outer = UdpSocket::bind("0.0.0.0:0")?;
    let relay_port = inner.local_addr()?.port().to_be_bytes();
    // An unspecified address stands for that of the proxy.
    stream.write_all(&[&[5, 0, 0, 1, 0, 0, 0, 0][..], &relay_port].concat())?;
    let ended = Arc::new(AtomicBool::new(false));
    for socket in [&inner, &outer] {
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    }
    let client = Arc::new(Mutex::new(None));
    let (from_client, to_client) = (inner.try_clone()?, inner);
    let (to_others, from_others) = (outer.try_clone()?, outer);
    let (state, stop, place) = (shared.clone(), ended.clone(), client.clone());
    let outwards = thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = from_client.recv_from(&mut buffer) else { continue };
            *place.lock() = Some(from);
            let Some((host, port, data)) = target_of(&buffer[..length]) else { continue };
            state.note("udp", &format!("{host}:{port}"));
            if let Some(ip) = state.resolve(&host) {
                let _ = to_others.send_to(data, SocketAddr::new(ip, port));
            }
        }
    });
    let stop = ended.clone();
    let inwards = thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, SocketAddr::V4(from))) = from_others.recv_from(&mut buffer) else { continue };
            let head = [&[0, 0, 0, 1][..], &from.ip().octets(), &from.port().to_be_bytes()].concat();
            if let Some(client) = *client.lock() {
                let _ = to_client.send_to(&[&head[..], &buffer[..length]].concat(), client);
            }
        }
    });
    let end = io::copy(&mut stream, &mut io::sink());
    ended.store(true, Ordering::Relaxed);
    drop((outwards.join(), inwards.join()));
    end.map(drop)
}

/// The target and the content of a datagram of a client.
fn target_of(datagram: &[u8]) -> Option<(String, u16, &[u8])> {
    let (host, rest) = match datagram.get(3)? {
        1 => (Ipv4Addr::from(<[u8; 4]>::try_from(datagram.get(4..8)?).ok()?).to_string(), datagram.get(8..)?),
        3 => {
            let end = 5 + usize::from(*datagram.get(4)?);
            (String::from_utf8_lossy(datagram.get(5..end)?).into_owned(), datagram.get(end..)?)
        }
        _ => return None,
    };
    Some((host, port(rest.get(..2)?), rest.get(2..)?))
}

fn socks4(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let head = bytes(&mut stream, 7)?;
    let port = port(&head[1..3]);
    let text = |stream: &mut TcpStream| -> io::Result<String> {
        let mut text = Vec::new();
        loop {
            match byte(stream)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                other => text.push(other),
            }
        }
    };
    text(&mut stream)?;
    let host = match head[3..7] {
        [0, 0, 0, last] if last != 0 => text(&mut stream)?,
        _ => Ipv4Addr::new(head[3], head[4], head[5], head[6]).to_string(),
    };
    shared.note("socks4", &format!("{host}:{port}"));
    if shared.habit() == Habit::ClosesAfterRequest {
        return Ok(());
    }
    match shared.connect(&host, port) {
        Ok(target) => {
            stream.write_all(&[0, 0x5a, 0, 0, 0, 0, 0, 0])?;
            relay(stream, target)
        }
        Err(_) => stream.write_all(&[0, 0x5b, 0, 0, 0, 0, 0, 0]),
    }
}

fn head(stream: &mut TcpStream, mut head: Vec<u8>) -> io::Result<String> {
    while !head.ends_with(b"\r\n\r\n") {
        head.push(byte(stream)?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn http(mut stream: TcpStream, first: u8, shared: &Arc<Shared>) -> io::Result<()> {
    let mut text = head(&mut stream, vec![first])?;
    let words = |text: &str| {
        let mut words = text.split(' ').map(str::to_owned);
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    };
    let (method, target) = words(&text);
    let wanted = shared.credentials.lock().clone();
    let header = wanted.map(|wanted| format!("Proxy-Authorization: Basic {}", base64(wanted.as_bytes())));
    if header.is_some_and(|header| !text.contains(&header)) {
        return stream.write_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n");
    }
    shared.note(&method.to_ascii_lowercase(), &target);
    if shared.habit() == Habit::ClosesAfterRequest {
        return Ok(());
    }
    let of_url = target.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest).to_owned());
    let authority = of_url.clone().unwrap_or(target);
    let (host, port) = authority.rsplit_once(':').unwrap_or((&authority, "80"));
    let Ok(mut server) = shared.connect(host, port.parse().unwrap_or(80)) else {
        return stream.write_all(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n");
    };
    let Some(of_url) = of_url else {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        return relay(stream, server);
    };
    let (mut from_server, mut to_client) = (server.try_clone()?, stream.try_clone()?);
    let inwards = thread::spawn(move || {
        drop(io::copy(&mut from_server, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    });
    // Requests without bodies, each with its whole URL.
    let end = loop {
        let passed = text.replacen(&format!("http://{of_url}"), "", 1);
        let passed: String = passed.split_inclusive("\r\n").filter(|line| !line.starts_with("Proxy-")).collect();
        server.write_all(passed.as_bytes())?;
        match head(&mut stream, Vec::new()) {
            Ok(next) => text = next,
            Err(error) => break error,
        }
    };
    drop(server.shutdown(Shutdown::Both));
    drop(inwards.join());
    Err(end)
}

fn relay(mut client: TcpStream, mut target: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_target) = (client.try_clone()?, target.try_clone()?);
    let outwards = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_target);
        let _ = to_target.shutdown(Shutdown::Write);
    });
    let end = io::copy(&mut target, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    drop(outwards.join());
    end.map(drop)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let is_there = place <= chunk.len();
            let letter = LETTERS[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if is_there { char::from(letter) } else { '=' });
        }
    }
    text
}
