//! A machine made of files: what unaufs reads in `/proc`, `/etc`, `/sys` and `/usr`, and a data root.

use std::fs;
use std::path::{Path, PathBuf};
use unaufs::disk::Dir;
use unaufs::plan::host::Machine;
use unaufs::plan::{Options, Plan, make};

/// One.
pub struct Bed {
    dir: tempfile::TempDir,
    /// The data root, where it is not below `dir`.
    pub root: PathBuf,
    /// What is asked for.
    pub options: serde_json::Value,
    /// Directories that were made immutable.
    locked: Vec<PathBuf>,
}

impl Bed {
    fn sound() -> Bed {
        let dir = crate::support::real::folder();
        let root = dir.path().join("docker");
        fs::create_dir(&root).expect("a root");
        let bed = Bed { dir, root, options: serde_json::json!({"to": "overlay2", "mode": "auto"}), locked: Vec::new() };
        bed.machine("proc/filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n");
        bed.machine("proc/self/status", "Name:\tunaufs\nCapEff:\t000001ffffffffff\n");
        bed.machine("proc/self/uid_map", "         0          0 4294967295\n");
        bed.machine("proc/self/mountinfo", "25 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n");
        bed.dockerd("28.5.2");
        fs::create_dir_all(bed.path("var/lib")).expect("a folder");
        std::os::unix::fs::symlink(&bed.root, bed.path("var/lib/docker")).expect("a symlink");
        bed
    }

    /// A sound machine with a sound store of Docker 1.10 or later.
    pub fn content() -> Bed {
        let bed = Bed::sound();
        super::store::write(&bed.root);
        bed
    }

    /// A sound machine with a sound store of Docker up to 1.9.
    pub fn graph() -> Bed {
        let bed = Bed::sound();
        super::graph::write(&bed.root);
        bed
    }

    /// The same, changed.
    pub fn with(mut self, change: impl FnOnce(&mut Bed)) -> Bed {
        change(&mut self);
        self
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("machine").join(file)
    }

    /// Writes a file of the machine.
    pub fn machine(&self, file: &str, text: &str) {
        put(&self.path(file), text);
    }

    /// Writes a file below the root.
    pub fn write(&self, file: &str, text: &str) {
        put(&self.root.join(file), text);
    }

    /// Makes a directory below the root.
    pub fn mkdir(&self, path: &str) {
        fs::create_dir_all(self.root.join(path)).expect("a folder");
    }

    /// Removes something below the root.
    pub fn remove(&self, path: &str) {
        let path = self.root.join(path);
        let done = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        done.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Installs a Docker of this version.
    pub fn dockerd(&self, version: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.machine("usr/bin/dockerd", &format!("#!/bin/sh\necho Docker version {version}, build 0\n"));
        fs::set_permissions(self.path("usr/bin/dockerd"), fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// A process: its name, its command line, and its mounts.
    pub fn process(&self, comm: &str, args: &[&str], mountinfo: &str) {
        self.machine("proc/4242/comm", &format!("{comm}\n"));
        self.machine("proc/4242/cmdline", &(args.join("\0") + "\0"));
        self.machine("proc/4242/mountinfo", mountinfo);
        let root = self.path("proc/4242/root");
        fs::create_dir_all(&root).expect("a folder");
        std::os::unix::fs::symlink(&self.root, root.join("data")).expect("a symlink");
    }

    /// A Docker on this root that answers on its socket, once.
    pub fn answer(&mut self) {
        use std::io::{Read, Write};
        fs::create_dir_all(self.path("run")).expect("a folder");
        let socket = std::os::unix::net::UnixListener::bind(self.path("run/docker.sock")).expect("a socket");
        let body = serde_json::json!({"DockerRootDir": self.root}).to_string();
        std::thread::spawn(move || {
            let Ok((mut client, _)) = socket.accept() else { return };
            let _ = client.read(&mut [0; 1024]);
            let _ = write!(client, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        });
    }

    /// A path outside of the root.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another disk, of this size, for the new store.
    pub fn target_on_tmpfs(&mut self, options: &str) {
        let at = self.dir.path().join("other");
        mount_tmpfs(&at, options);
        self.options["target"] = at.display().to_string().into();
    }

    /// Moves the root to another kind of disk, and the new store to the first one.
    pub fn root_on_tmpfs(&mut self) {
        let (at, new) = (self.dir.path().join("memory"), self.dir.path().join("new"));
        mount_tmpfs(&at, "size=64m");
        fs::create_dir(&new).expect("a folder");
        self.root = at.join("docker");
        fs::create_dir(&self.root).expect("a root");
        super::store::write(&self.root);
        self.options["target"] = new.display().to_string().into();
    }

    /// chattr +i, until the end.
    pub fn lock(&mut self, path: &str) {
        let path = self.root.join(path);
        chattr("+i", &path);
        self.locked.push(path);
    }

    /// The plan for it.
    pub fn plan(&self) -> Plan {
        let options: Options = serde_json::from_value(self.options.clone()).expect("options");
        let machine = Machine { at: self.dir.path().join("machine"), docker_config: None };
        let root = Dir::open_named(&self.root).expect("the root");
        make::make_on(&root, &options, &make::Earlier::default(), &machine, &unaufs::progress::Hidden).expect("a plan")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.locked.iter().for_each(|p| chattr("-i", p));
    }
}

fn chattr(flag: &str, path: &Path) {
    let done = std::process::Command::new("chattr").arg(flag).arg(path).status().expect("chattr");
    assert!(done.success(), "chattr {flag} {}", path.display());
}

fn mount_tmpfs(at: &Path, options: &str) {
    fs::create_dir(at).expect("a mount point");
    let options = std::ffi::CString::new(options).expect("options");
    rustix::mount::mount("tmpfs", at, "tmpfs", rustix::mount::MountFlags::empty(), options.as_c_str())
        .expect("a tmpfs");
}

/// Writes a file, with the directories on the way.
pub fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
