//! A Docker that has ROOT in use: seen in `/proc`, or answering on its socket.

use super::{Machine, docker_config, is_root_of};
use crate::disk::Dir;
use crate::error::Result;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon that has ROOT in use, if there is one.
pub fn docker_on(root: &Dir) -> Result<Option<String>> {
    docker_on_machine(root, &Machine { at: PathBuf::from("/"), docker_config: None })
}

/// The same, on a machine given.
pub(super) fn docker_on_machine(root: &Dir, machine: &Machine) -> Result<Option<String>> {
    let named = ["run/docker.pid", "var/run/docker.pid"].map(|f| machine.text(f).trim().parse::<u32>().ok());
    for p in std::fs::read_dir(machine.file("proc")).into_iter().flatten().flatten() {
        let Ok(pid) = p.file_name().to_string_lossy().parse::<u32>() else { continue };
        if let Some(program) = uses(&p.path(), root, machine, named.contains(&Some(pid))) {
            return Ok(Some(format!("process {pid} ({}) is using this data root", crate::text::text(&program))));
        }
    }
    Ok(answers(root, machine))
}

/// The name of the program, if this process is a daemon on ROOT. One that Docker's pid file names may have any name with docker in it
/// (`dockerd-current`); without that it is another process that got the number of a daemon that is gone.
fn uses(process: &Path, root: &Dir, machine: &Machine, named: bool) -> Option<String> {
    let comm = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    let comm = comm.trim();
    let known = ["dockerd", "docker", "balenad", "balena-engine-d", "containerd", "docker-containe"].contains(&comm);
    if !(known || named && comm.contains("docker")) {
        return None;
    }
    let cmd = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let args: Vec<String> =
        cmd.split(|c| *c == 0).filter(|a| !a.is_empty()).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    // the client is called docker too; before 1.12 the daemon was `docker daemon` or `docker -d`
    if comm == "docker" && !args.iter().any(|a| a == "daemon" || a == "-d") {
        return None;
    }
    let daemon = !comm.contains("contain");
    (holds(process, root.label(), machine) || daemon && is_root_of(root, &data_root_of(process, &args)))
        .then(|| comm.to_owned())
}

/// Has it a file below ROOT open? Paths of another mount namespace mean other files.
fn holds(process: &Path, path: &Path, machine: &Machine) -> bool {
    let namespace = |p: &Path| std::fs::read_link(p.join("ns/mnt")).ok();
    if namespace(process) != namespace(&machine.file("proc/self")) {
        return false;
    }
    let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    fds.into_iter().any(|f| std::fs::read_link(f.path()).is_ok_and(|t| t.starts_with(path)))
}

/// The data root that a daemon was told, as this process can reach it: through `/proc/<pid>/root`.
fn data_root_of(process: &Path, args: &[String]) -> PathBuf {
    let inside = |p: &str| process.join("root").join(p.trim_start_matches('/'));
    if let Some(dir) = data_root(args) {
        return inside(&dir);
    }
    let config = docker_config::flag(args, &["--config-file"]).unwrap_or_else(|| "/etc/docker/daemon.json".to_owned());
    let told = Machine::small(&inside(&config)).ok().and_then(|b| docker_config::parse(&b).ok());
    inside(told.and_then(|c| c.data_root).as_deref().unwrap_or("/var/lib/docker"))
}

/// `--data-root DIR`, `--data-root=DIR`, `-g DIR`, `--graph=DIR`.
pub(super) fn data_root(args: &[String]) -> Option<String> {
    docker_config::flag(args, &["--data-root", "--graph", "-g"])
}

/// Does systemd listen on Docker's socket (docker.socket)? A client that connects then starts a Docker, on this root; a Docker that runs already is a
/// process that was seen. Linux marks sockets that listen with the flag 0x10000 in `/proc/net/unix`.
fn systemd_listens(machine: &Machine) -> bool {
    let listening = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[_, _, _, "00010000", _, _, inode, path] = &words[..] else { return None };
        path.ends_with("run/docker.sock").then(|| PathBuf::from(format!("socket:[{inode}]")))
    };
    let sockets: Vec<PathBuf> = machine.text("proc/net/unix").lines().filter_map(listening).collect();
    let held = std::fs::read_dir(machine.file("proc/1/fd")).into_iter().flatten().flatten();
    held.into_iter().any(|f| std::fs::read_link(f.path()).is_ok_and(|to| sockets.contains(&to)))
}

/// Asks on Docker's socket: a daemon outside of this process's view of `/proc` answers there too.
fn answers(root: &Dir, machine: &Machine) -> Option<String> {
    const WAIT: Option<Duration> = Some(Duration::from_secs(2));
    const LIMIT: u64 = 1 << 20;
    if systemd_listens(machine) {
        return None;
    }
    let path = ["run/docker.sock", "var/run/docker.sock"].into_iter().map(|p| machine.file(p)).find(|p| p.exists())?;
    let mut socket = UnixStream::connect(path).ok()?;
    socket.set_read_timeout(WAIT).ok()?;
    socket.set_write_timeout(WAIT).ok()?;
    socket.write_all(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n").ok()?;
    let mut text = Vec::new();
    // what came before a timeout is looked at as well
    let _ = socket.take(LIMIT).read_to_end(&mut text);
    let body = text.iter().position(|b| *b == b'{').and_then(|i| text.get(i..))?;
    let end = body.iter().rposition(|b| *b == b'}')?;
    let info: serde_json::Value = serde_json::from_slice(body.get(..=end)?).ok()?;
    let theirs = info.get("DockerRootDir")?.as_str()?;
    is_root_of(root, Path::new(theirs)).then(|| "a Docker that uses this data root answers on its socket".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_systemd_is_not_asked() {
        let t = tempfile::tempdir().expect("a directory");
        let root = Dir::open_named(t.path()).expect("the root");
        let machine = Machine { at: t.path().to_owned(), docker_config: None };
        let make = |dir: &str| std::fs::create_dir_all(t.path().join(dir)).expect("a directory");
        for dir in ["run", "proc/net", "proc/1/fd"] {
            make(dir);
        }
        let listener = std::os::unix::net::UnixListener::bind(t.path().join("run/docker.sock")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket that does not wait");
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 41 /run/docker.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 42 /run/docker.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 43 /run/other.sock\n";
        std::fs::write(t.path().join("proc/net/unix"), unix).expect("a list");
        let hold = |inode: u32| {
            let link = t.path().join("proc/1/fd/7");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(format!("socket:[{inode}]"), link).expect("a descriptor");
            assert_eq!(docker_on_machine(&root, &machine).expect("a look"), None);
            listener.accept().is_ok()
        };
        assert!(!hold(42), "systemd's socket was connected to");
        assert!(hold(41) && hold(43), "the socket of a daemon is asked");
    }

    #[test]
    fn data_roots_of_a_command_line() {
        let args = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(data_root(&args("dockerd --data-root /d")).as_deref(), Some("/d"));
        assert_eq!(data_root(&args("dockerd --data-root=/d -H x")).as_deref(), Some("/d"));
        assert_eq!(data_root(&args("docker daemon -g /d")).as_deref(), Some("/d"));
        assert_eq!(data_root(&args("dockerd -H fd://")), None);
    }
}
