//! One connection of the peer wire protocol (BEP 3). It sends exactly what the test tells it to, valid or not.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// A received message.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// A keep-alive: an empty frame.
    KeepAlive,
    /// 0
    Choke,
    /// 1
    Unchoke,
    /// 2
    Interested,
    /// 3
    NotInterested,
    /// 4
    Have(u32),
    /// 5
    Bitfield(Vec<u8>),
    /// 6: piece, begin, length
    Request(u32, u32, u32),
    /// 7: piece, begin, block
    Piece(u32, u32, Vec<u8>),
    /// 8: piece, begin, length
    Cancel(u32, u32, u32),
    /// Any other id.
    Other(u8, Vec<u8>),
}

/// Message ids, for sending.
pub mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    /// The fast extension (BEP 6).
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    /// The extension protocol (BEP 10).
    pub const EXTENDED: u8 = 20;
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Uses a stream as it is, without a handshake.
    pub fn raw(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Wire { stream }
    }

    /// Connects to `addr`, retrying until it listens; sends no handshake.
    pub fn connect(addr: SocketAddr) -> Wire {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(addr) {
                Ok(stream) => return Wire::raw(stream),
                Err(error) => assert!(Instant::now() < deadline, "nobody listens on {addr}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Connects to `addr` and exchanges handshakes.
    pub fn connect_and_handshake(addr: SocketAddr, info_hash: [u8; 20]) -> io::Result<Wire> {
        let mut wire = Wire::connect(addr);
        wire.send_raw(&handshake(info_hash))?;
        wire.read_handshake()?;
        Ok(wire)
    }

    /// The address of the other side.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// A second handle of the connection, to send from another thread.
    pub fn try_clone(&self) -> io::Result<Wire> {
        Ok(Wire { stream: self.stream.try_clone()? })
    }

    /// Closes our side and waits for the other side to do the same. To drop a connection with unread data resets it, and the other side
    /// may then lose what was sent last.
    pub fn end(&mut self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)?;
        self.wait_for_close()
    }

    /// Closes the connection for all its handles.
    pub fn shut(&self) {
        _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Sends raw bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the other side's handshake of 68 bytes.
    pub fn read_handshake(&mut self) -> io::Result<[u8; 68]> {
        let mut theirs = [0; 68];
        self.stream.read_exact(&mut theirs)?;
        Ok(theirs)
    }

    /// Sends a message.
    pub fn send(&mut self, id: u8, body: &[u8]) -> io::Result<()> {
        self.send_raw(&frame(id, body))
    }

    /// Sends a block.
    pub fn send_block(&mut self, piece: u32, begin: u32, block: &[u8]) -> io::Result<()> {
        let mut body = [piece.to_be_bytes(), begin.to_be_bytes()].concat();
        body.extend_from_slice(block);
        self.send(id::PIECE, &body)
    }

    /// Requests a block.
    pub fn request(&mut self, piece: u32, begin: u32, length: u32) -> io::Result<()> {
        self.send(id::REQUEST, &[piece.to_be_bytes(), begin.to_be_bytes(), length.to_be_bytes()].concat())
    }

    /// Reads the next message.
    pub fn receive(&mut self) -> io::Result<Message> {
        let length = self.read_u32()? as usize;
        assert!(length <= 1 << 20, "btsync sent a frame of {length} bytes");
        if length == 0 {
            return Ok(Message::KeepAlive);
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(parse(&frame))
    }

    /// Reads up to the next request and returns it.
    pub fn next_request(&mut self) -> io::Result<(u32, u32, u32)> {
        loop {
            if let Message::Request(piece, begin, length) = self.receive()? {
                return Ok((piece, begin, length));
            }
        }
    }

    /// Reads up to and including this message.
    pub fn receive_until(&mut self, wanted: &Message) -> io::Result<()> {
        while self.receive()? != *wanted {}
        Ok(())
    }

    /// Discards data until none has arrived for 300 ms.
    pub fn drain(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        let result = loop {
            match self.receive() {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE))?;
        result
    }

    /// Reads until the other side closes the connection; fails if that takes longer than [`PATIENCE`].
    pub fn wait_for_close(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = [0; 4096];
        while Instant::now() < deadline {
            match self.stream.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                // A reset is a close too: the other side closed with our bytes unread.
                Err(_) => return Ok(()),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "btsync kept the connection open"))
    }

    fn read_u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.stream.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }
}

/// Connects to `to` from the local address `ip`.
pub fn connect_from(ip: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Connects from `ip`, exchanges handshakes and reads the bitfield; `None` if the peer disconnects.
pub fn connect_as_peer_from(ip: IpAddr, to: SocketAddr, info_hash: [u8; 20]) -> Option<Wire> {
    let mut wire = Wire::raw(connect_from(ip, to).ok()?);
    wire.send_raw(&handshake(info_hash)).ok()?;
    wire.read_handshake().ok()?;
    matches!(wire.receive(), Ok(Message::Bitfield(_))).then_some(wire)
}

/// A handshake without extension bits.
pub fn handshake(info_hash: [u8; 20]) -> Vec<u8> {
    let peer_id = format!("-XX0001-{:012}", fastrand::u32(..));
    [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".as_slice(), &info_hash, peer_id.as_bytes()].concat()
}

/// A handshake with the bits of the fast extension (BEP 6) and the extension protocol (BEP 10).
pub fn extended_handshake(info_hash: [u8; 20]) -> Vec<u8> {
    let mut bytes = handshake(info_hash);
    (bytes[25], bytes[27]) = (0x10, 0x04);
    bytes
}

/// A message with its length prefix.
pub fn frame(id: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(id);
    bytes.extend_from_slice(body);
    bytes
}

fn parse(frame: &[u8]) -> Message {
    let (id, body) = (frame[0], &frame[1..]);
    let word = |at: usize| u32::from_be_bytes(body[at * 4..at * 4 + 4].try_into().expect("four bytes"));
    match (id, body.len()) {
        (0, 0) => Message::Choke,
        (1, 0) => Message::Unchoke,
        (2, 0) => Message::Interested,
        (3, 0) => Message::NotInterested,
        (4, 4) => Message::Have(word(0)),
        (5, _) => Message::Bitfield(body.to_vec()),
        (6, 12) => Message::Request(word(0), word(1), word(2)),
        (7, 8..) => Message::Piece(word(0), word(1), body[8..].to_vec()),
        (8, 12) => Message::Cancel(word(0), word(1), word(2)),
        _ => Message::Other(id, body.to_vec()),
    }
}
