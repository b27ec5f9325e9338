//! What the host's other programs see of a migration: the status that systemd shows.

use crate::support::real::{self, Ran};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

#[test]
fn systemd_sees_how_far_it_is() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let path = store.beside.join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.arg("--root")
        .arg(&store.root)
        .args(["migrate", "--yes", "-q"])
        .env("NOTIFY_SOCKET", &path)
        .env_remove("UNAUFS_ROOT");
    Ran::of(c.output().expect("unaufs")).exits(0);
    let mut messages = Vec::new();
    let mut buf = [0u8; 1024];
    while let Ok(n) = socket.recv(&mut buf) {
        messages.push(String::from_utf8_lossy(&buf[..n]).into_owned());
    }
    for phase in ["layers", "verify", "switch"] {
        let wanted = format!("STATUS={phase}: ");
        assert!(messages.iter().any(|m| m.starts_with(&wanted)), "no {wanted} in {messages:?}");
    }
    assert!(messages.iter().all(|m| m.contains("\nEXTEND_TIMEOUT_USEC=")), "{messages:?}");
}
