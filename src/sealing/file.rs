//! Keys live in files, apart from the database they open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{KEY_BYTES, Key, hex};

/// A key and the file it was read from.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub key: Key,
}

impl KeyFile {
    /// Reads the first line of the file.
    ///
    /// # Errors
    /// What is wrong with it, in one line that does not show what it holds.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("can't read {shown}: {error}"))?;
        let key = Key::parse(text.lines().next().unwrap_or_default()).ok_or_else(|| {
            format!("{shown} holds no key: 32 bytes in hexadecimal or base64, as `openssl rand -hex 32` writes them")
        })?;
        Ok(Self { path: path.to_owned(), key })
    }

    /// Makes a file with a new key that only we can read. When this returns it is on the disk: nothing may be sealed with a
    /// key that the next power cut takes away.
    ///
    /// # Errors
    /// When it can't be written, or the system gives no random bytes.
    pub fn make(path: &Path) -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        // Under another name until it is whole; one that a crash left behind is good for nothing.
        let unfinished = path.with_added_extension("new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        writeln!(file, "{}", hex(&bytes))?;
        file.sync_all()?;
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(&unfinished, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), key: Key::new(&bytes) })
    }

    /// Whether others than its owner may read or change it.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        // What systemd hands over lies in a folder that is closed to others, and it is let in by an access list, which looks
        // like a mode.
        let handed_over = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| self.path.starts_with(folder));
        !handed_over && fs::metadata(&self.path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_its_owners_alone_and_never_takes_anothers_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        // What a crash left behind is no hindrance.
        fs::write(folder.path().join("secret.key.new"), "half a k").unwrap();
        let made = KeyFile::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyFile::read(&path).unwrap().key.id(), made.key.id());
        assert!(!made.is_open_to_others());
        assert_eq!(KeyFile::make(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(KeyFile::read(&path).unwrap().key.id(), made.key.id());
        for mode in [0o640, 0o604, 0o622] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(made.is_open_to_others(), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_key_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        assert!(KeyFile::read(&path).unwrap_err().starts_with("can't read "));
        fs::write(&path, "0123456789\n").unwrap();
        let wrong = KeyFile::read(&path).unwrap_err();
        assert!(wrong.contains("secret.key holds no key") && !wrong.contains("0123456789"), "{wrong}");
    }
}
