//! How many announces per second `btsync tracker` answers on one core, and how much memory each peer takes; next to it
//! opentracker, if installed. With two cores or more, the tracker and the load generator have one each.
//!
//! Over UDP each announce comes from a new peer until all are known, then they repeat. Over HTTP each announce has its own
//! connection, as with real clients. Next to the answers per second stand the answers per second of the tracker's CPU time, which
//! other load on the machine affects less.

#[allow(dead_code, reason = "the other benches use the rest of it")]
#[path = "support/child.rs"]
mod child;

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use child::{cpu_of, free_port};

type Res<T> = Result<T, Box<dyn Error>>;

/// The number of addresses that peers announce from, because a tracker accepts only a few peers of a torrent per address.
const ADDRESSES: usize = 400;
/// How many datagrams are in flight at once: fewer than a socket's buffer holds.
const WINDOW: usize = 64;
/// The number of concurrent HTTP clients.
const CLIENTS: usize = 8;

/// The size of a run.
struct Size {
    torrents: usize,
    peers: usize,
    time: Duration,
}

fn main() -> Res<()> {
    let whole = env::args().any(|arg| arg == "--bench");
    let size = if whole {
        Size { torrents: 1_000, peers: 150_000, time: Duration::from_secs(10) }
    } else {
        Size { torrents: 10, peers: 2_000, time: Duration::from_millis(200) }
    };
    let folder = tempfile::tempdir()?;
    println!(
        "{:<12} {:>12} {:>10} {:>12} {:>10} {:>12} {:>10}",
        "", "bytes a peer", "UDP/s", "UDP/CPU s", "HTTP/s", "HTTP/CPU s", "peak MiB"
    );
    run("btsync", &size, |port| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btsync"));
        command.args(["tracker", "--interval", "3600", "--listen", &format!("127.0.0.1:{port}")]);
        command
    })?;
    if !Path::new("/usr/bin/opentracker").exists() {
        println!("opentracker is not installed");
        return Ok(());
    }
    // Debian's opentracker serves only the torrents of a whitelist.
    let list: String = (0..size.torrents).map(|n| hash(n).map(|byte| format!("{byte:02x}")).concat() + "\n").collect();
    fs::write(folder.path().join("whitelist"), list)?;
    run("opentracker", &size, |port| {
        let (mut command, port) = (Command::new("/usr/bin/opentracker"), port.to_string());
        command.args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-w", "whitelist", "-d"]).arg(folder.path());
        command
    })
}

/// How many announces were answered, and how long that took.
struct Answers {
    count: usize,
    time: Duration,
}

impl Answers {
    fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }
}

/// A tracker process, killed when dropped.
struct Tracker(Child);

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(name: &str, size: &Size, command: impl Fn(u16) -> Command) -> Res<()> {
    let port = free_port()?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let cores: Vec<usize> = cores()?;
    // A child process inherits the core on which it is started.
    pin(cores.last().copied())?;
    let child = command(port).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    pin(cores.first().copied())?;
    let tracker = Tracker(child?);
    let pid = tracker.0.id();
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > end {
            return Err(format!("{name} does not listen").into());
        }
    }
    let mut swarm = Swarm::new(addr, size)?;
    let before = memory(pid, "VmRSS:")?;
    swarm.announce(size.peers, None)?;
    let cost = (memory(pid, "VmRSS:")? - before) as f64 * 1024.0 / size.peers as f64;
    let mut cpu = cpu_of(pid).map(|(own, _)| own).unwrap_or_default();
    let mut spent = || {
        let before = std::mem::replace(&mut cpu, cpu_of(pid).map(|(own, _)| own).unwrap_or_default());
        // Measured to a hundredth of a second; never 0, because it is a divisor.
        cpu.saturating_sub(before).as_secs_f64().max(0.01)
    };
    let udp = swarm.announce(usize::MAX, Some(size.time))?;
    let for_udp = spent();
    let http = over_http(addr, size)?;
    let for_http = spent();
    let peak = memory(pid, "VmHWM:")? as f64 / 1024.0;
    println!(
        "{name:<12} {cost:>12.0} {:>10.0} {:>12.0} {:>10.0} {:>12.0} {peak:>10.1}",
        udp.rate(),
        udp.count as f64 / for_udp,
        http.rate(),
        http.count as f64 / for_http
    );
    Ok(())
}

/// The cores on which this process may run.
fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

fn pin(core: Option<usize>) -> io::Result<()> {
    let mut set = CpuSet::new();
    if let Some(core) = core {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// One figure of a process's memory usage, in KiB.
fn memory(pid: u32, what: &str) -> Res<i64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("no such figure")?;
    Ok(line.split_whitespace().next().ok_or("no figure")?.parse()?)
}

fn hash(torrent: usize) -> [u8; 20] {
    let mut hash = [7; 20];
    hash[..8].copy_from_slice(&(torrent as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    hash
}

/// Peers that announce over UDP from the addresses 127.1.x.y.
struct Swarm {
    sockets: Vec<(UdpSocket, [u8; 8])>,
    torrents: usize,
    peers: usize,
    /// The next peer to announce.
    next: usize,
}

impl Swarm {
    fn new(tracker: SocketAddr, size: &Size) -> Res<Swarm> {
        let mut sockets = Vec::with_capacity(ADDRESSES);
        for n in 0..ADDRESSES {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, (n >> 8) as u8, n as u8), 0))?;
            socket.connect(tracker)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.send(&[&0x0417_2710_1980_u64.to_be_bytes()[..], &[0; 4], &[1; 4]].concat())?;
            let mut answer = [0; 16];
            if socket.recv(&mut answer)? != 16 {
                return Err("an answer to connect that is none".into());
            }
            let mut id = [0; 8];
            id.copy_from_slice(&answer[8..]);
            sockets.push((socket, id));
        }
        Ok(Swarm { sockets, torrents: size.torrents, peers: size.peers, next: 0 })
    }

    /// Announces this many times, or for this long.
    fn announce(&mut self, times: usize, time: Option<Duration>) -> Res<Answers> {
        let (start, mut answered) = (Instant::now(), 0);
        let mut answer = [0; 2048];
        while answered < times && time.is_none_or(|time| start.elapsed() < time) {
            let window = WINDOW.min(times - answered);
            for n in self.next..self.next + window {
                let (socket, id) = &self.sockets[n % ADDRESSES];
                socket.send(&self.request(n % self.peers, *id))?;
            }
            for n in self.next..self.next + window {
                let length = self.sockets[n % ADDRESSES].0.recv(&mut answer)?;
                if length < 20 || answer[3] != 1 {
                    return Err(format!("announce {n} was refused: {:?}", &answer[..length]).into());
                }
            }
            self.next += window;
            answered += window;
        }
        Ok(Answers { count: answered, time: start.elapsed() })
    }

    /// The announce of one peer (BEP 15), which asks for 50 peers.
    fn request(&self, peer: usize, id: [u8; 8]) -> [u8; 98] {
        let mut packet = [0; 98];
        packet[..8].copy_from_slice(&id);
        packet[11] = 1;
        packet[16..36].copy_from_slice(&hash(peer / ADDRESSES % self.torrents));
        packet[36..56].copy_from_slice(b"-BY0001-000000000000");
        packet[48..56].copy_from_slice(&(peer as u64).to_be_bytes());
        packet[71] = 1; // left
        packet[95] = 50;
        let port = 1024 + (peer / ADDRESSES / self.torrents) as u16;
        packet[96..].copy_from_slice(&port.to_be_bytes());
        packet
    }
}

/// Announces over HTTP, each on its own connection.
fn over_http(tracker: SocketAddr, size: &Size) -> Res<Answers> {
    let start = Instant::now();
    let client = |n: usize| -> io::Result<usize> {
        let (mut count, mut answer) = (0, Vec::new());
        while start.elapsed() < size.time {
            let hash: String =
                hash(count % size.torrents).iter().fold(String::new(), |hash, byte| hash + &format!("%{byte:02x}"));
            let mut stream = TcpStream::connect(tracker)?;
            write!(
                stream,
                "GET /announce?info_hash={hash}&peer_id=-BY0001-{n:012}&port={}&uploaded=0&downloaded=0&left=1&compact=1 \
                 HTTP/1.1\r\nHost: {tracker}\r\nConnection: close\r\n\r\n",
                2000 + n
            )?;
            answer.clear();
            stream.read_to_end(&mut answer)?;
            if !answer.windows(8).any(|part| part == b"interval") {
                return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
            }
            count += 1;
        }
        Ok(count)
    };
    let counts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().map(|client| client.join().unwrap_or(Ok(0))).collect::<io::Result<Vec<_>>>()
    })?;
    Ok(Answers { count: counts.iter().sum(), time: start.elapsed() })
}
