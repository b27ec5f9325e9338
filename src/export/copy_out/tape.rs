//! A tar on stdout, with the container's own owners: what `docker cp NAME:PATH -` gives.

use super::{Object, Sink};
use crate::disk::{FileType, Meta};
use crate::error::{Error, IoContext, Kind, Result};
use crate::export::output::open_stdout;
use crate::progress::Progress;
use crate::tar::viewtar::Shift;
use crate::tar::writer::{Entry, Node, TarWriter};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write, empty};
use std::os::fd::AsFd;

/// An error if stdout is closed or a terminal.
pub fn check() -> Result<()> {
    open_stdout()?;
    match io::stdout().is_terminal() {
        true => Err(Error::new(Kind::Usage, "a tar can't be written to a terminal")
            .hint("Send stdout to a file or a program, or name a directory instead of -.")),
        false => Ok(()),
    }
}

/// Writes what `fill` puts in.
pub fn to_stdout(owners: Shift, progress: &dyn Progress, fill: impl FnOnce(&mut dyn Sink) -> Result<()>) -> Result<()> {
    // not through `io::stdout`, which looks for line ends
    let fd = io::stdout().as_fd().try_clone_to_owned().on(|| "open stdout")?;
    write(BufWriter::with_capacity(1 << 20, File::from(fd)), owners, progress, fill)
}

fn write(
    out: impl Write,
    owners: Shift,
    progress: &dyn Progress,
    fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
) -> Result<()> {
    let failed = Cell::new(false);
    let mut tape = Tape { tar: TarWriter::new(Watched { out, failed: &failed }), owners, progress, failed: &failed };
    fill(&mut tape)?;
    tape.tar.finish().map(drop)
}

/// Remembers that nothing more can be written.
struct Watched<'f, W> {
    out: W,
    failed: &'f Cell<bool>,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|e| self.failed.set(e.kind() != io::ErrorKind::Interrupted))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().inspect_err(|_| self.failed.set(true))
    }
}

struct Tape<'t, W: Write> {
    tar: TarWriter<W>,
    owners: Shift,
    progress: &'t dyn Progress,
    failed: &'t Cell<bool>,
}

impl<W: Write> Tape<'_, W> {
    fn put(&mut self, name: &[u8], node: Node<'_>, object: &Object<'_>, content: &mut dyn Read) -> Result<()> {
        let m = &object.meta;
        let (uid, gid) = self.owners.owner(m);
        let entry = Entry { name, node, mode: m.mode, uid, gid, mtime: m.mtime, xattrs: &object.xattrs };
        self.tar.append(&entry, content)
    }
}

impl<W: Write> Sink for Tape<'_, W> {
    fn directory(&mut self, name: &[u8], object: &Object<'_>) -> Result<()> {
        self.put(name, Node::Directory, object, &mut empty())
    }

    fn leave(&mut self, _: &[u8], _: &Meta, _: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        Ok(())
    }

    fn file(&mut self, name: &[u8], object: &Object<'_>, first: Option<&[u8]>) -> Result<Option<String>> {
        let m = &object.meta;
        if let Some(first) = first {
            return self.put(name, Node::HardLink { first }, object, &mut empty()).map(|()| None);
        }
        let target = if m.kind == FileType::Symlink { object.dir.read_link(object.name)? } else { Vec::new() };
        match Node::of(m, &target) {
            Some(node @ Node::File { size }) => {
                let file = object.dir.open_file(object.name)?;
                let mut content = Whole { file, left: size, failed: None, progress: self.progress };
                self.put(name, node, object, &mut content)?;
                Ok(content.failed)
            }
            None if m.kind == FileType::Socket => Ok(Some("a socket".to_owned())),
            None | Some(Node::Directory) => {
                Err(Error::corrupt(format!("{} changed while it was read", object.dir.show(object.name))))
            }
            Some(node) => self.put(name, node, object, &mut empty()).map(|()| None),
        }
    }

    fn is_full(&self) -> bool {
        self.failed.get()
    }
}

/// A file with as many bytes as its header says: the header was written before a disk that fails could be met. What can't be read is zeros.
struct Whole<'p, R> {
    file: R,
    left: u64,
    failed: Option<String>,
    progress: &'p dyn Progress,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        crate::export::stopped()?;
        let most = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let out = out.get_mut(..most).unwrap_or_default();
        if out.is_empty() {
            return Ok(0);
        }
        let mut read = if self.failed.is_some() { Ok(0) } else { self.file.read(out) };
        if let Ok(0) = read {
            let left = self.left;
            self.failed.get_or_insert_with(|| format!("it got shorter while it was read: {left} bytes are zeros"));
        }
        if let Err(e) = &read
            && e.kind() != io::ErrorKind::Interrupted
        {
            crate::error::note_failing_disk(e, || "read a file".to_owned());
            self.failed = Some(format!("{e}: the last {} bytes are zeros", self.left));
            read = Ok(0);
        }
        let n = match read? {
            0 => {
                out.fill(0);
                out.len()
            }
            n => n,
        };
        self.left -= n as u64;
        self.progress.moved(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Hidden;

    /// Some bytes, and then a disk that fails.
    struct Failing(u8);

    impl Read for Failing {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0 -= 1;
            out[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn a_file_is_as_long_as_its_header_says() {
        let mut whole = Whole { file: Failing(3), left: 10, failed: None, progress: &Hidden };
        let mut got = Vec::new();
        whole.read_to_end(&mut got).expect("zeros");
        assert_eq!(got, b"xxx\0\0\0\0\0\0\0");
        assert!(whole.failed.is_some_and(|why| why.contains("the last 7 bytes are zeros")));
        let mut longer = Whole { file: Failing(20), left: 2, failed: None, progress: &Hidden };
        let mut got = Vec::new();
        longer.read_to_end(&mut got).expect("two bytes");
        assert_eq!((got, longer.failed), (b"xx".to_vec(), None));
    }

    #[test]
    fn a_closed_pipe_ends_it() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let t = tempfile::tempdir().expect("a directory");
        let dir = crate::disk::Dir::open_named(t.path()).expect("open");
        let done = write(Closed, Shift::default(), &Hidden, |sink| {
            let object = Object { dir: &dir, name: b".", meta: dir.meta()?, xattrs: Vec::new() };
            let put = sink.directory(b"x", &object);
            assert!(sink.is_full());
            put
        });
        assert!(done.is_err());
    }
}
