//! Progress for systemd: `systemctl status` shows it, and a start that takes long is not taken for one that hangs.
//!
//! systemd gives the address of a datagram socket in `NOTIFY_SOCKET` (sd_notify(3)); a message is lines of `NAME=value`.

use crate::progress::Progress;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long systemd is to wait for the next message, where the unit sets a time limit: a layer may take minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// One message a second is enough.
const PAUSE: Duration = Duration::from_secs(1);

/// Passes to systemd what it passes to `inner`.
pub struct Notified {
    inner: Box<dyn Progress>,
    socket: UnixDatagram,
    to: SocketAddr,
    now: Mutex<Now>,
}

struct Now {
    phase: String,
    done: u64,
    steps: u64,
    /// Are these bytes?
    bytes: bool,
    said: Instant,
}

impl Now {
    fn amount(&self, n: u64) -> String {
        match (self.bytes, n) {
            // nobody can tell
            (true, 0) => "bytes".to_owned(),
            (true, n) => crate::text::size(n),
            (false, n) => n.to_string(),
        }
    }
}

/// Adds systemd to those who are told, if it has started this program.
pub fn also_systemd(inner: Box<dyn Progress>) -> Box<dyn Progress> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return inner };
    match connect(name.as_bytes()) {
        Ok((socket, to)) => Box::new(Notified::new(inner, socket, to)),
        Err(e) => {
            inner.warn(&format!("NOTIFY_SOCKET {}: {e}", crate::text::bytes(name.as_bytes())));
            inner
        }
    }
}

/// A name that begins with `@` is one of the abstract name space.
fn connect(name: &[u8]) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(crate::disk::os(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // a manager that does not read must not hold up a migration
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

impl Notified {
    fn new(inner: Box<dyn Progress>, socket: UnixDatagram, to: SocketAddr) -> Notified {
        let now = Now { phase: String::new(), done: 0, steps: 0, bytes: false, said: Instant::now() };
        Notified { inner, socket, to, now: Mutex::new(now) }
    }

    fn send(&self, status: &str) {
        let text = format!("STATUS={status}\nEXTEND_TIMEOUT_USEC={}\n", PATIENCE.as_micros());
        // nobody listening is no reason to end a migration
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.to);
    }
}

impl Notified {
    fn begin(&self, name: &str, steps: u64, bytes: bool) {
        let mut n = self.now.lock().unwrap_or_else(|e| e.into_inner());
        *n = Now { phase: name.to_owned(), done: 0, steps, bytes, said: Instant::now() };
        self.send(&format!("{name}: {} to do", n.amount(steps)));
    }

    fn done(&self, more: u64) {
        let mut n = self.now.lock().unwrap_or_else(|e| e.into_inner());
        n.done += more;
        if n.said.elapsed() >= PAUSE || n.done == n.steps {
            n.said = Instant::now();
            self.send(&format!("{}: {} of {}", n.phase, n.amount(n.done), n.amount(n.steps)));
        }
    }
}

impl Progress for Notified {
    fn phase(&self, name: &str, steps: u64) {
        self.begin(name, steps, false);
        self.inner.phase(name, steps);
    }

    fn step(&self, what: &str) {
        self.done(1);
        self.inner.step(what);
    }

    fn bytes(&self, name: &str, total: u64) {
        self.begin(name, total, true);
        self.inner.bytes(name, total);
    }

    fn moved(&self, bytes: u64) {
        self.done(bytes);
        self.inner.moved(bytes);
    }

    fn warn(&self, text: &str) {
        self.inner.warn(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buf = [0u8; 512];
        let n = socket.recv(&mut buf).expect("a message");
        String::from_utf8_lossy(&buf[..n]).into_owned()
    }

    #[test]
    fn systemd_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bind");
        let name = format!("unaufs-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&abstract_name).expect("bind");
        for (address, socket) in [(path.to_string_lossy().into_owned(), by_path), (format!("@{name}"), by_name)] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
            let (own, to) = connect(address.as_bytes()).expect("connect");
            let told = Notified::new(Box::new(crate::progress::Hidden), own, to);
            told.phase("build", 2);
            assert_eq!(receive(&socket), "STATUS=build: 2 to do\nEXTEND_TIMEOUT_USEC=900000000\n");
            told.step("a");
            told.step("b");
            assert!(receive(&socket).starts_with("STATUS=build: 2 of 2\n"), "{address}: the last step is always told");
            told.bytes("export", 4096);
            told.moved(4096);
            assert!(receive(&socket).starts_with("STATUS=export: 4.0 KiB to do\n"), "{address}");
            assert!(receive(&socket).starts_with("STATUS=export: 4.0 KiB of 4.0 KiB\n"), "{address}");
        }
    }

    #[test]
    fn nobody_listening_is_no_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let (own, to) = connect(dir.path().join("gone").as_os_str().as_bytes()).expect("an address");
        let told = Notified::new(Box::new(crate::progress::Hidden), own, to);
        told.phase("build", 1);
        told.step("a");
    }
}
