//! Files of certificates and keys: what they hold, and whether they have changed.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The longest file that is read: a bundle of all public authorities takes a quarter of a MiB.
const BYTES_MAX: u64 = 4 << 20;

/// A file that a setting names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    named: Cow<'static, str>,
    path: PathBuf,
}

/// What tells one state of a file from another.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    identity: Identity,
}

/// Which file it is, and when its content or its name changed last: a clock's tick is too coarse for tests and scripts.
#[cfg(unix)]
type Identity = (u64, u64, i64, i64);
#[cfg(not(unix))]
type Identity = ();

impl File {
    pub(super) fn new(named: impl Into<Cow<'static, str>>, path: impl Into<PathBuf>) -> Self {
        Self {
            named: named.into(),
            path: path.into(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The setting and the file, as an error names them.
    pub(super) fn place(&self) -> String {
        format!("{}: {}", self.named, self.path.display())
    }

    /// The file as it is now; `None` while it cannot be looked at.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some(Stamp {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            identity: identity(&metadata),
        })
    }

    /// What the file holds.
    ///
    /// # Errors
    ///
    /// In words: the setting, the file, what is wrong.
    pub(super) fn read(&self) -> Result<Vec<u8>, String> {
        let place = self.place();
        let refuse =
            |error| format!("{place}: {error}; give the path of a PEM file that this program may read");
        // Opening a pipe would wait for its other end.
        let metadata = fs::metadata(&self.path).map_err(refuse)?;
        if !metadata.is_file() {
            return Err(format!("{place}: no regular file; give the path of a PEM file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(&self.path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(refuse)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(format!(
                "{place}: longer than {BYTES_MAX} bytes; give a PEM file of certificates or of a key"
            ));
        }
        Ok(bytes)
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Identity {}
