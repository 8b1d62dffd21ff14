//! One connection to the server: TCP or TLS over it, and the client's opening handshake.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;

use anyhow::{bail, ensure, Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// The key of RFC 6455 1.3 and what it is answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The client's request.
pub fn request(path: &str) -> Vec<u8> {
    offering(path, "")
}

/// The same with an offer of extensions, if it is not empty.
fn offering(path: &str, extensions: &str) -> Vec<u8> {
    let offer = match extensions {
        "" => String::new(),
        offer => format!("Sec-WebSocket-Extensions: {offer}\r\n"),
    };
    format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// Length of the response head in `bytes` once it is there, and is the one wanted.
pub fn response(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let accepted = head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT);
    ensure!(accepted, "the server refused: {}", head.lines().next().unwrap_or_default());
    Ok(Some(end + 4))
}

/// A connected socket, with TLS or without.
pub struct Stream {
    fd: OwnedFd,
    tls: Option<Box<Tls>>,
}

struct Tls {
    session: ClientConnection,
    records: Records,
}

impl Stream {
    /// Starts to connect, without waiting. Source addresses differ by `index`, so that ports do
    /// not run out however many connections there were.
    pub fn start(target: SocketAddr, index: usize) -> Result<Stream> {
        let (IpAddr::V4(ip), port) = (target.ip(), target.port()) else { bail!("IPv4 only") };
        // SAFETY: plain socket calls; addresses are read during the calls only.
        unsafe {
            let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let fd = libc::socket(libc::AF_INET, kind, 0);
            ensure!(fd >= 0, io::Error::last_os_error());
            let fd = OwnedFd::from_raw_fd(fd);
            option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
            if ip.is_loopback() {
                option(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
                let from = address(Ipv4Addr::new(127, 0, 1, 1 + (index % 200) as u8), 0);
                let rc = libc::bind(fd.as_raw_fd(), ptr::from_ref(&from).cast(), SIZE);
                ensure!(rc == 0, io::Error::last_os_error());
            }
            let to = address(ip, port);
            if libc::connect(fd.as_raw_fd(), ptr::from_ref(&to).cast(), SIZE) != 0 {
                let err = io::Error::last_os_error();
                ensure!(err.raw_os_error() == Some(libc::EINPROGRESS), "connect: {err}");
            }
            Ok(Stream { fd, tls: None })
        }
    }

    /// Connects, and waits for TLS and (unless `path` is None) the opening handshake.
    pub fn open(target: SocketAddr, index: usize, tls: bool, path: Option<&str>) -> Result<Stream> {
        Stream::offering(target, index, tls, path, "")
    }

    /// The same with an offer of extensions.
    pub fn offering(
        target: SocketAddr,
        index: usize,
        tls: bool,
        path: Option<&str>,
        extensions: &str,
    ) -> Result<Stream> {
        let mut stream = Stream::start(target, index)?;
        stream.wait(libc::POLLOUT)?;
        if tls {
            let name = ServerName::try_from("bench").expect("a valid name");
            let mut session = ClientConnection::new(tls_config(), name)?;
            session.set_buffer_limit(None);
            stream.tls = Some(Box::new(Tls { session, records: Records::default() }));
        }
        if let Some(path) = path {
            stream
                .handshake(path, extensions)
                .with_context(|| format!("handshake of connection {index}"))?;
        }
        Ok(stream)
    }

    fn handshake(&mut self, path: &str, extensions: &str) -> Result<()> {
        let request = offering(path, extensions);
        let mut sent = 0;
        let mut head = Vec::new();
        let mut buf = [0; 4096];
        loop {
            if sent < request.len() {
                sent += self.write(&request[sent..])?;
            }
            let got = self.read(&mut buf)?;
            // Reading may have moved the TLS handshake on, which wants to be told to the server.
            self.flush()?;
            match got {
                Some(n) => head.extend_from_slice(&buf[..n]),
                None => self.wait(libc::POLLIN)?,
            }
            if let Some(len) = response(&head)? {
                ensure!(len == head.len(), "bytes behind the response head");
                return Ok(());
            }
        }
    }

    fn wait(&self, events: i16) -> Result<()> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events, revents: 0 };
        // SAFETY: one entry, as said.
        let n = unsafe { libc::poll(&mut poll, 1, 10_000) };
        ensure!(n == 1, "no answer for 10 seconds");
        Ok(())
    }

    /// Descriptor to watch.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Bytes into `buf`; None: nothing now. The end of the stream is an error.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        match &mut self.tls {
            None => ended(recv(&self.fd, buf, 0)),
            Some(tls) => tls.read(&self.fd, buf),
        }
    }

    /// As `read`, but the bytes need not arrive in `buf`: TCP can drop them in the kernel.
    pub fn skip(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        match &mut self.tls {
            None => ended(recv(&self.fd, buf, libc::MSG_TRUNC)),
            Some(tls) => tls.read(&self.fd, buf),
        }
    }

    /// Takes bytes to be sent; TLS takes all of them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match &mut self.tls {
            None => match (&Socket(&self.fd)).write(bytes) {
                Ok(n) => Ok(n),
                Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(0),
                Err(err) => Err(err.into()),
            },
            Some(tls) => {
                tls.session.writer().write_all(bytes)?;
                self.flush()?;
                Ok(bytes.len())
            }
        }
    }

    /// Sends what TLS holds. False: something is left.
    pub fn flush(&mut self) -> Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.session.wants_write() {
            match tls.session.write_tls(&mut &Socket(&self.fd)) {
                Ok(_) => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(err) => return Err(err.into()),
            }
        }
        Ok(true)
    }

    /// TLS records that came so far.
    pub fn records(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.records.count)
    }
}

impl Tls {
    fn read(&mut self, fd: &OwnedFd, buf: &mut [u8]) -> Result<Option<usize>> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.session.reader().read(&mut buf[filled..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(n) => {
                    filled += n;
                    continue;
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                Err(err) => return Err(err.into()),
            }
            let mut source = Counted { socket: Socket(fd), records: &mut self.records };
            match self.session.read_tls(&mut source) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(_) => self.session.process_new_packets().map(drop)?,
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) => return Err(err.into()),
            }
        }
        Ok((filled > 0).then_some(filled))
    }
}

/// Follows the record headers in the bytes that came (RFC 8446 5.1).
#[derive(Default)]
struct Records {
    header: [u8; 5],
    have: usize,
    left: usize,
    count: u64,
}

impl Records {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have == 5 {
                self.have = 0;
                self.count += 1;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        }
    }
}

struct Counted<'a> {
    socket: Socket<'a>,
    records: &'a mut Records,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = recv(self.socket.0, buf, 0)?;
        self.records.pass(&buf[..n]);
        Ok(n)
    }
}

struct Socket<'a>(&'a OwnedFd);

impl Write for &Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.0.as_raw_fd();
        // SAFETY: bytes are read during the call only.
        let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn recv(fd: &OwnedFd, buf: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: at most buf.len() bytes are written.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn ended(got: io::Result<usize>) -> Result<Option<usize>> {
    match got {
        Ok(0) => bail!("the server closed the connection"),
        Ok(n) => Ok(Some(n)),
        Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(err) => Err(err.into()),
    }
}

const SIZE: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    }
}

fn option(fd: &OwnedFd, level: i32, name: i32) -> Result<()> {
    let on: i32 = 1;
    // SAFETY: the value is read during the call only.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(&on).cast(), 4) };
    ensure!(rc == 0, io::Error::last_os_error());
    Ok(())
}

fn tls_config() -> Arc<ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
    let make = || {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Arc::new(config)
    };
    CONFIG.get_or_init(make).clone()
}

/// The server is our own child with a certificate made for the occasion.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
