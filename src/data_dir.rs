//! The data folder: the `SQLite` file, the first admin token, and a lock so that two daemons never share them.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A folder that is there, and ours until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Locked; the system frees it when we end, however we end.
    _lock: File,
}

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It can't be made or written.
    #[error("data_dir: can't use the folder {path}: {error}; name another with data_dir or HOOKSWITCH_DATA_DIR")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another hookswitch has it.
    #[error("data_dir: another hookswitch runs on the folder {0}; stop it, or name another folder")]
    InUse(PathBuf),
}

impl DataDir {
    /// Makes the folder if need be (readable by us only) and locks it.
    ///
    /// # Errors
    /// When it can't be made or written, or another process has it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |error| DataDirError::Unusable { path: path.to_path_buf(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_path_buf())),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a secret into a file only we can read, and says where.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn keep_secret(&self, name: &str, secret: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        // A file left by someone else may be open to others; a new one never is.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        Ok(path)
    }
}

const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_folder_has_one_daemon_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("another hookswitch runs on the folder"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_secret_is_readable_by_its_owner_only_whatever_was_there_before() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataDir::open(parent.path()).unwrap();
        std::fs::write(parent.path().join("admin-token"), "old and open").unwrap();
        let path = folder.keep_secret("admin-token", "hs_secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hs_secret\n");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_its_key() {
        let error = DataDir::open(Path::new("/proc/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("data_dir: can't use the folder /proc/nowhere"), "{error}");
    }
}
