//! The store's file: an embedded database with one table of persistent keys and one of facts about the file.

use super::super::ops::{Value, Version};
use super::super::tree::{Change, Tree};
use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};
use std::io;
use std::path::{Path, PathBuf};

/// Key → (version, bytes).
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
/// Facts about the file itself.
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("file");
const FORMAT_KEY: &str = "format";
/// The layout of the tables above.
const FORMAT: u64 = 1;
/// The database's own page cache: everything is read once, at open, so it only helps writes.
const CACHE_BYTES: usize = 1 << 20;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// It was written by a newer version.
    #[error(
        "{} has metadata format {found}, this version reads up to {FORMAT}; start the newer version again", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file or its directory cannot be read or written.
    #[error("cannot open {}: {source}; check that the directory exists, may be written and has space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The content is damaged.
    #[error("{} is damaged: {reason}; restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl OpenError {
    /// A shortage or a missing right is not damage: the user must not be sent to look for a copy.
    fn new(path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse(path),
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                Self::Io { path, source }
            }
            other => Self::Damaged { path, reason: other.to_string() },
        }
    }
}

/// The open file. It stays locked against other processes until dropped.
pub(super) struct Records {
    database: Database,
}

impl Records {
    /// Opens the file at `path`, creating it if it is missing, and reads all of it.
    pub(super) fn open(path: &Path) -> Result<(Self, Tree), OpenError> {
        let refused = |error| OpenError::new(path, error);
        let records = Self { database: open_database(path).map_err(|error| refused(error.into()))? };
        let found = records.prepare().map_err(refused)?;
        if found > FORMAT {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        sync_parent(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let tree = records.read_all().map_err(refused)?;
        Ok((records, tree))
    }

    /// Creates what an empty file lacks and gives the file's format.
    fn prepare(&self) -> Result<u64, redb::Error> {
        // Only "no such table" means an empty file: whatever else is wrong must not be written over.
        match self.database.begin_read()?.open_table(FACTS) {
            Ok(table) => {
                let format = table.get(FORMAT_KEY)?.map(|format| format.value());
                return format.ok_or_else(|| redb::Error::Corrupted("the format is not recorded".into()));
            }
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let transaction = self.database.begin_write()?;
        transaction.open_table(FACTS)?.insert(FORMAT_KEY, FORMAT)?;
        transaction.open_table(VALUES)?;
        transaction.commit()?;
        Ok(FORMAT)
    }

    fn read_all(&self) -> Result<Tree, redb::Error> {
        let mut tree = Tree::default();
        for row in self.database.begin_read()?.open_table(VALUES)?.iter()? {
            let (key, value) = row?;
            let (version, bytes) = value.value();
            let value =
                Value { bytes: Bytes::copy_from_slice(bytes), version: Version(version), lease: None };
            tree.insert(key.value().to_owned(), value);
        }
        Ok(tree)
    }

    /// Makes changes durable, all or none. Ephemeral keys are kept out of the file, and leave it when they were
    /// persistent before. After an error it is unknown whether the changes are in the file.
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(VALUES)?;
            for Change { key, value } in changes {
                match value {
                    Some(value) if value.lease.is_none() => {
                        table.insert(key.as_str(), (value.version.0, value.bytes.as_ref()))?;
                    }
                    _ => drop(table.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A path that is no file of ours at all is damage, not a wrong directory.
fn open_database(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            DatabaseError::Storage(StorageError::Corrupted(error.to_string()))
        }
        other => other,
    })
}

/// A new file's name must survive a power cut as surely as what is acknowledged inside it.
fn sync_parent(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_use_and_a_newer_format_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metadata.redb");
        let (records, _) = Records::open(&path).expect("a file");
        assert!(matches!(Records::open(&path), Err(OpenError::InUse(_))));
        let transaction = records.database.begin_write().expect("write");
        transaction.open_table(FACTS).expect("table").insert(FORMAT_KEY, FORMAT + 1).expect("insert");
        transaction.commit().expect("commit");
        drop(records);
        let error = Records::open(&path).map(drop).expect_err("newer");
        assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_missing_directory_is_not_called_damage() {
        let error = Records::open(Path::new("/nonexistent/dir/f")).map(drop).expect_err("no directory");
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }

    #[test]
    fn a_file_of_something_else_is_called_damaged_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        let text = "not a database at all\n".repeat(1000);
        std::fs::write(&path, &text).expect("write");
        let error = Records::open(&path).map(drop).expect_err("no database");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
    }
}
