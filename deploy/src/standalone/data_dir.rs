//! The data directory: its layout, its format version, and the lock that keeps two processes out of it.
//!
//! Called by: the start of standalone, before anything else touches the directory.
//! Must never know: what the parts keep in their sub-directories.
//!
//! ```text
//! VERSION              format version of everything below, one decimal number
//! LOCK                 flock'ed while a process uses the directory
//! metadata/            the embedded metadata store
//! bookie-N/journal/    N = 0, 1, …
//! bookie-N/ledgers/
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Version of the layout that this program writes. It reads this one and no newer one.
const FORMAT_VERSION: u32 = 1;

const VERSION_FILE: &str = "VERSION";
const LOCK_FILE: &str = "LOCK";
const METADATA_DIR: &str = "metadata";

/// Why a data directory cannot be used. Each text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// We may not write in it.
    #[error("data directory {}: no write permission: change its owner or choose another with --data-dir", .0.display())]
    NoPermission(PathBuf),
    /// Another process holds its lock.
    #[error("data directory {}: in use by another process: stop it or choose another with --data-dir", .0.display())]
    InUse(PathBuf),
    /// A later release wrote it.
    #[error(
        "data directory {}: format version {found} is newer than {FORMAT_VERSION}, the newest this release reads: use the release that wrote it",
        path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    /// Its VERSION file is not a number, or is missing though there is data.
    #[error("data directory {}: {reason}: restore it or choose another with --data-dir", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// It was made with more bookies; leaving some out would leave out their entries.
    #[error("data directory {}: has {found} bookies: start with --bookies {found} or more", path.display())]
    MoreBookies { path: PathBuf, found: u32 },
    /// Anything else the file system says.
    #[error("data directory {}: {source}: choose another with --data-dir", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A data directory of ours alone until this value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Holds the flock; the kernel frees it with the file, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Makes the directory when missing, locks it and checks its version; `bookies` is how many will be started.
    /// The VERSION file is durable before this returns, so no data can ever lie in a directory without it.
    pub(crate) fn open(path: &Path, bookies: u32) -> Result<Self, DataDirError> {
        let lock = make(path).and_then(|()| lock_file(path)).map_err(|source| io_error(path, source))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataDirError::InUse(path.to_owned())),
            Err(error) => return Err(io_error(path, error.into())),
        }
        check_version(path)?;
        fs::create_dir_all(path.join(METADATA_DIR)).map_err(|source| io_error(path, source))?;
        let found = bookies_in(path).map_err(|source| io_error(path, source))?;
        if found > bookies {
            return Err(DataDirError::MoreBookies { path: path.to_owned(), found });
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where the embedded metadata store lives.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join(METADATA_DIR)
    }

    /// Where bookie `number` keeps its journal.
    pub(crate) fn journal(&self, number: u32) -> PathBuf {
        self.bookie(number).join("journal")
    }

    /// Where bookie `number` keeps its ledgers.
    pub(crate) fn ledgers(&self, number: u32) -> PathBuf {
        self.bookie(number).join("ledgers")
    }

    fn bookie(&self, number: u32) -> PathBuf {
        self.path.join(format!("bookie-{number}"))
    }
}

fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))
}

fn io_error(path: &Path, source: io::Error) -> DataDirError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DataDirError::NoPermission(path.to_owned())
        }
        _ => DataDirError::Io { path: path.to_owned(), source },
    }
}

/// Accepts our version, writes it into a directory without data, refuses every other state.
fn check_version(path: &Path) -> Result<(), DataDirError> {
    let damaged = |reason: String| DataDirError::Damaged { path: path.to_owned(), reason };
    match fs::read_to_string(path.join(VERSION_FILE)) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(found) if found > FORMAT_VERSION => Err(DataDirError::Newer { path: path.to_owned(), found }),
            Ok(FORMAT_VERSION) => Ok(()),
            Ok(found) => Err(damaged(format!("format version {found} was never written by a release"))),
            Err(_) => Err(damaged("its VERSION file holds no number".to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bookies = bookies_in(path).map_err(|source| io_error(path, source))?;
            if bookies > 0 || path.join(METADATA_DIR).exists() {
                return Err(damaged("its VERSION file is missing".to_owned()));
            }
            write_version(path).map_err(|source| io_error(path, source))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(damaged("its VERSION file holds no number".to_owned()))
        }
        Err(source) => Err(io_error(path, source)),
    }
}

/// Write, sync, rename, sync the directory: after a crash the file is whole or absent.
fn write_version(path: &Path) -> io::Result<()> {
    let unfinished = path.join("VERSION.new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{FORMAT_VERSION}")?;
    file.sync_data()?;
    fs::rename(&unfinished, path.join(VERSION_FILE))?;
    File::open(path)?.sync_all()
}

/// One more than the highest N of the `bookie-N` directories, 0 without any.
fn bookies_in(path: &Path) -> io::Result<u32> {
    let mut bookies = 0;
    for item in fs::read_dir(path)? {
        let name = item?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("bookie-")?.parse::<u32>().ok());
        bookies = bookies.max(number.map_or(0, |number| number.saturating_add(1)));
    }
    Ok(bookies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        DataDir::open(path, 3).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_directory_gets_the_version_and_can_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/yet/there");
        let opened = DataDir::open(&path, 3).unwrap();
        assert_eq!(fs::read_to_string(path.join("VERSION")).unwrap(), "1\n");
        fs::create_dir_all(opened.journal(2)).unwrap();
        drop(opened);
        DataDir::open(&path, 3).unwrap();
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DataDir::open(dir.path(), 3).unwrap();
        assert!(refused(dir.path()).contains("in use by another process"));
    }

    #[test]
    fn a_newer_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("VERSION"), "2\n").unwrap();
        assert!(refused(dir.path()).contains("format version 2 is newer than 1"));
        assert_eq!(fs::read_to_string(dir.path().join("VERSION")).unwrap(), "2\n");
    }

    #[test]
    fn damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (content, reason) in [("one", "holds no number"), ("0", "version 0"), ("", "holds no number")] {
            fs::write(dir.path().join("VERSION"), content).unwrap();
            assert!(refused(dir.path()).contains(reason), "{content:?}");
        }
        fs::write(dir.path().join("VERSION"), [0xff, 0xfe]).unwrap();
        assert!(refused(dir.path()).contains("holds no number"));
        fs::remove_file(dir.path().join("VERSION")).unwrap();
        fs::create_dir(dir.path().join("metadata")).unwrap();
        assert!(refused(dir.path()).contains("VERSION file is missing"));
    }

    #[test]
    fn fewer_bookies_than_have_data_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), 4).unwrap());
        fs::create_dir(dir.path().join("bookie-3")).unwrap();
        assert!(refused(dir.path()).contains("--bookies 4 or more"));
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data"), "x").unwrap();
        assert!(refused(&dir.path().join("data")).contains("--data-dir"));
    }

    #[test]
    fn missing_permission_is_told_apart() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let error = io_error(Path::new("/x"), io::Error::from(kind));
            assert!(error.to_string().contains("/x: no write permission"));
        }
    }
}
