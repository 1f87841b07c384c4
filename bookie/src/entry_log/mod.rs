//! Entry logs: sealed files of entries sorted by (ledger, entry), each with its own index.
//! The flush thread writes them, the engine reads entries from them and rebuilds its index from them at start.
//! It must never know of the journal, the write cache or which ledgers still matter.

mod extent;
pub(crate) mod format;
#[cfg(test)]
mod measure;
mod reader;
mod salvage;
mod scan;
mod window;
mod writer;

pub(crate) use self::extent::Extent;
pub use self::format::FormatError;
pub(crate) use self::format::Run;
pub use self::reader::OpenError;
pub(crate) use self::reader::{Log, Unreadable};
pub(crate) use self::scan::{Found, Scan, Stretch};
pub(crate) use self::window::Window;
pub(crate) use self::writer::{Writer, write, write_file};
