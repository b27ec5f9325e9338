//! What is done to the folders of one layer, and what they were before: a file with a line of JSON for each folder that is changed.
//!
//! The same form serves both ways. The record of the way there is the undo record too: [`Change::inverse`]. Records grow with the markers
//! of a layer, not with its files, and are read and written a folder at a time.

use crate::disk::Dir;
use crate::disk::attrs::Times;
use crate::error::{Error, IoContext, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::sync::Mutex;

/// One folder of a layer: the steps in their order, then its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Below the layer's root.
    #[serde(with = "crate::plan::path")]
    pub path: Vec<u8>,
    /// The times that the folder has before and gets again.
    pub times: Times,
    /// What is done, in this order. Each step can be told done from undone by looking.
    pub steps: Vec<Step>,
}

/// An effect on one name of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Taken out of the layer, as it is.
    Park {
        /// Which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
        /// A whiteout: the layer itself has the name that it hides below.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        beside: bool,
    },
    /// Put back where it was taken out.
    Unpark {
        /// Which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
    },
    /// A whiteout as overlayfs has it: a character device 0:0.
    Device {
        /// Which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
    },
    /// Such a device removed.
    NoDevice {
        /// Which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
        /// A device of the layer's own had the name and was taken out: as soon as it is back, there is nothing to remove.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        parked: bool,
    },
    /// An extended attribute set; `.` is the folder itself.
    Set {
        /// Of which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
        /// Which attribute.
        #[serde(with = "crate::plan::path")]
        attr: Vec<u8>,
        /// Its value.
        #[serde(with = "crate::plan::path")]
        value: Vec<u8>,
    },
    /// An extended attribute removed.
    Drop {
        /// Of which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
        /// Which attribute.
        #[serde(with = "crate::plan::path")]
        attr: Vec<u8>,
        /// The value that it had.
        #[serde(with = "crate::plan::path")]
        value: Vec<u8>,
    },
    /// A marker of aufs made, for what a container did meanwhile.
    Marker {
        /// Which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
    },
    /// A file that aufs would take for a marker, set aside.
    Aside {
        /// Which name.
        #[serde(with = "crate::plan::path")]
        name: Vec<u8>,
        /// A marker of this name was taken out: as soon as it is back, there is nothing to set aside.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        parked: bool,
    },
}

impl Change {
    /// The names that were taken out of this folder.
    pub fn parked(&self) -> HashSet<&[u8]> {
        self.steps.iter().filter(|s| matches!(s, Step::Park { .. })).map(Step::name).collect()
    }

    /// The way back of a change on the way there.
    pub fn inverse(&self) -> Change {
        let parked = self.parked();
        let back = |s: &Step| match s.clone() {
            Step::Park { name, .. } => Some(Step::Unpark { name }),
            Step::Device { name } => Some(Step::NoDevice { parked: parked.contains(&name[..]), name }),
            Step::Set { name, attr, value } => Some(Step::Drop { name, attr, value }),
            Step::Drop { name, attr, value } => Some(Step::Set { name, attr, value }),
            // on the way back only
            Step::Unpark { .. } | Step::NoDevice { .. } | Step::Marker { .. } | Step::Aside { .. } => None,
        };
        Change { path: self.path.clone(), times: self.times, steps: self.steps.iter().rev().filter_map(back).collect() }
    }
}

impl Step {
    /// The name that it is about.
    pub fn name(&self) -> &[u8] {
        match self {
            Step::Park { name, .. }
            | Step::Unpark { name }
            | Step::Device { name }
            | Step::NoDevice { name, .. }
            | Step::Set { name, .. }
            | Step::Drop { name, .. }
            | Step::Marker { name }
            | Step::Aside { name, .. } => name,
        }
    }
}

/// Ends a record: without it the record is not complete.
const END: &str = "end";

/// A record being written, by many threads.
#[derive(Debug)]
pub struct Writer {
    file: Mutex<BufWriter<File>>,
    label: String,
}

impl Writer {
    /// Begins the record `name`, which must not be there.
    pub fn new(dir: &Dir, name: &str) -> Result<Writer> {
        let file = Mutex::new(BufWriter::new(dir.create(name)?));
        Ok(Writer { file, label: dir.show(name.as_bytes()) })
    }

    /// Adds a folder.
    pub fn add(&self, change: &Change) -> Result<()> {
        let mut line = serde_json::to_vec(change).map_err(|e| Error::corrupt("a record").with_source(e))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.write_all(&line).on(|| format!("write {}", self.label))
    }

    /// Ends the record. It is durable when its file system was synced.
    pub fn finish(self) -> Result<()> {
        let mut file = self.file.into_inner().unwrap_or_else(|e| e.into_inner());
        writeln!(file, "{END}").and_then(|()| file.flush()).on(|| format!("write {}", self.label))
    }
}

/// Calls `f` with each folder of the record `name`. False if the record was never finished, or is not there.
pub fn read(dir: &Dir, name: &str, mut f: impl FnMut(Change) -> Result<()>) -> Result<bool> {
    if !dir.has(name)? {
        return Ok(false);
    }
    let mut file = BufReader::new(dir.open_file(name)?);
    let mut line = Vec::new();
    loop {
        crate::stop::check()?;
        line.clear();
        let n = file.read_until(b'\n', &mut line).on(|| format!("read {}", dir.show(name.as_bytes())))?;
        match line.strip_suffix(b"\n") {
            _ if n == 0 => return Ok(false),
            None => return Ok(false),
            Some(l) if l == END.as_bytes() => return Ok(true),
            Some(l) => f(serde_json::from_slice(l)
                .map_err(|e| Error::corrupt(format!("the record {}", dir.show(name.as_bytes()))).with_source(e))?)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change {
        let name = |n: &[u8]| n.to_vec();
        Change {
            path: b"a/\xff".to_vec(),
            times: Times { atime: (1, 2), mtime: (-3, 4) },
            steps: vec![
                Step::Park { name: name(b".wh.x"), beside: false },
                Step::Park { name: name(b"zero"), beside: false },
                Step::Device { name: name(b"x") },
                Step::Device { name: name(b"zero") },
                Step::Drop { name: name(b"."), attr: name(b"trusted.overlay.opaque"), value: vec![0, 255] },
                Step::Set { name: name(b"."), attr: name(b"trusted.overlay.opaque"), value: name(b"y") },
            ],
        }
    }

    #[test]
    fn a_record_is_what_was_written_and_is_known_to_be_whole() {
        let t = tempfile::tempdir().expect("temp dir");
        let dir = Dir::open_named(t.path()).expect("open");
        let mut got = Vec::new();
        assert!(!read(&dir, "r", |_| Ok(())).expect("none"));
        let w = Writer::new(&dir, "r").expect("new");
        w.add(&change()).expect("add");
        w.finish().expect("finish");
        assert!(
            read(&dir, "r", |c| {
                got.push(c);
                Ok(())
            })
            .expect("read")
        );
        assert_eq!(got, [change()]);
        let whole = std::fs::read(t.path().join("r")).expect("read");
        for cut in 0..whole.len() {
            std::fs::write(t.path().join("cut"), &whole[..cut]).expect("write");
            assert!(!read(&dir, "cut", |_| Ok(())).expect("read"), "cut at {cut}");
        }
    }

    #[test]
    fn the_way_back_is_the_way_there_backwards() {
        let back = change().inverse();
        let name = |n: &[u8]| n.to_vec();
        let opaque = || (name(b"."), name(b"trusted.overlay.opaque"));
        let (a, b) = (opaque(), opaque());
        assert_eq!(
            back.steps,
            [
                Step::Drop { name: a.0, attr: a.1, value: name(b"y") },
                Step::Set { name: b.0, attr: b.1, value: vec![0, 255] },
                Step::NoDevice { name: name(b"zero"), parked: true },
                Step::NoDevice { name: name(b"x"), parked: false },
                Step::Unpark { name: name(b"zero") },
                Step::Unpark { name: name(b".wh.x") },
            ]
        );
        assert_eq!(back.times, change().times);
    }
}
