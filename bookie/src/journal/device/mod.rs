//! Ways to put batches on the disk: one contract, three implementations, and the choice between them.
//! The journal thread calls them. They must never write anything twice, retry a failed write or sync, or report a batch
//! durable before an earlier one is.
//!
//! What `journal::measure` shows (ext4 on a virtio disk with a volatile cache and without FUA; two cores that others used
//! at the same time, this at real-time priority: compare the columns, not with other machines). So many submitters each
//! wait for their record; thousand records a second, p50 and p99 from submission to durable in µs, processor seconds
//! per million records. One fdatasync beside them: p50 113 µs, p99 244 µs.
//!
//! | record | submitters | buffered | direct | io_uring |
//! |---|---|---|---|---|
//! | 1 KiB | 1 | 3.9 k, 209 / 474, 168 s | 3.9 k, 219 / 390, 176 s | 0.2 k, 6095 / 15882, 241 s |
//! | 1 KiB | 16 | 35 k, 377 / 1209, 19 s | 47 k, 306 / 634, 14 s | 7.3 k, 238 / 13021, 16 s |
//! | 1 KiB | 64 | 129 k, 439 / 788, 5.4 s | 129 k, 368 / 1809, 4.1 s | 14 k, 3859 / 15752, 5.1 s |
//! | 64 KiB | 1 | 3.2 k, 265 / 555, 199 s | 4.1 k, 206 / 370, 155 s | 0.5 k, 285 / 13282, 241 s |
//! | 64 KiB | 16 | 13.9 k, 1085 / 1977, 43 s | 16.6 k, 850 / 2661, 29 s | 3.6 k, 3849 / 15679, 37 s |
//! | 64 KiB | 64 | 16.7 k, 3642 / 5912, 36 s | 17.6 k, 3336 / 9124, 22 s | 20.1 k, 2424 / 10253, 20 s |
//!
//! So direct is what [`JournalDevice::Auto`] takes. io_uring moves the most bytes, but on a disk without FUA the kernel
//! ends each of its durable writes in a worker thread, which waits its turn while the processors are busy.

mod buffered;
mod direct;
#[cfg(test)]
mod tests;
mod uring;

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, File, Storage};

use self::buffered::Buffered;
use self::direct::Direct;
use self::uring::Uring;
use crate::files::create_direct_afresh;

/// Bytes on their way to the disk.
pub(super) struct Batch {
    pub(super) file: Arc<dyn File>,
    /// Where the first byte goes. With a direct device, a multiple of [`ALIGNMENT`], like the length.
    pub(super) offset: u64,
    pub(super) bytes: AlignedBuffer,
}

/// Writes batches durably. After the first error nothing more may be asked of it.
pub(super) trait Device: Send {
    /// How many batches may be under way at once; at least 1.
    fn depth(&self) -> usize;

    /// Whether batches go past the page cache: then their offsets and lengths are multiples of [`ALIGNMENT`].
    fn is_direct(&self) -> bool;

    /// Begins to write a batch; the batches under way, this one included, are at most [`depth`](Self::depth).
    fn begin(&mut self, batch: Batch) -> io::Result<()>;

    /// Blocks until the batch begun first of those under way is durable, and gives its memory back.
    fn finish(&mut self) -> io::Result<AlignedBuffer>;
}

/// How the journal reaches its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalDevice {
    /// The best that works here.
    #[default]
    Auto,
    /// Through the page cache, with a sync for each batch. Works everywhere.
    Buffered,
    /// Past the page cache (`O_DIRECT`), each write durable by itself (`RWF_DSYNC`).
    Direct,
    /// Like [`Direct`](Self::Direct) through io_uring, with several batches under way. Worth a try on disks with FUA
    /// and with processors to spare.
    Uring,
}

const NAMES: [(&str, JournalDevice); 4] = [
    ("auto", JournalDevice::Auto),
    ("buffered", JournalDevice::Buffered),
    ("direct", JournalDevice::Direct),
    ("uring", JournalDevice::Uring),
];

impl fmt::Display for JournalDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().find(|(_, device)| device == self);
        f.write_str(named.expect("every device has a name").0)
    }
}

impl FromStr for JournalDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = NAMES.iter().find(|(name, _)| *name == text);
        named.map(|(_, device)| *device).ok_or_else(|| {
            format!("'{text}' is no journal device: use one of {}", NAMES.map(|(name, _)| name).join(", "))
        })
    }
}

/// What a user chose.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeviceOptions {
    pub(crate) device: JournalDevice,
    /// Acknowledge what a power cut would lose.
    pub(crate) unsafe_no_sync: bool,
}

/// Opens the chosen device for segments in `dir`, or the next lesser one that works there, and logs which.
pub(super) fn open(storage: &dyn Storage, dir: &Path, options: DeviceOptions) -> io::Result<Box<dyn Device>> {
    if options.unsafe_no_sync {
        tracing::warn!(
            "THE JOURNAL IS NOT SYNCED: a power cut loses entries that were acknowledged (journal_unsafe_no_sync)"
        );
        return Ok(Box::new(Buffered::unsynced()));
    }
    let (device, used) = best(storage, dir, options.device)?;
    tracing::info!(asked = %options.device, %used, dir = %dir.display(), "journal device");
    Ok(device)
}

/// Which device [`JournalDevice::Auto`] tries first: see the module for the reason.
const AUTO: JournalDevice = JournalDevice::Direct;

fn best(
    storage: &dyn Storage,
    dir: &Path,
    asked: JournalDevice,
) -> io::Result<(Box<dyn Device>, JournalDevice)> {
    let auto = asked == JournalDevice::Auto;
    let wanted = if auto { AUTO } else { asked };
    if wanted == JournalDevice::Buffered {
        return Ok((Box::new(Buffered::synced()), JournalDevice::Buffered));
    }
    let probe = Probe::new(storage, dir)?;
    let result = probe.best(wanted, auto);
    probe.remove()?;
    result
}

/// A file to try direct writes on.
struct Probe<'a> {
    storage: &'a dyn Storage,
    path: std::path::PathBuf,
    file: Arc<dyn File>,
}

impl<'a> Probe<'a> {
    fn new(storage: &'a dyn Storage, dir: &Path) -> io::Result<Self> {
        let path = dir.join("probe.tmp");
        let file = create_direct_afresh(storage, &path)?;
        Ok(Probe { storage, path, file })
    }

    fn remove(self) -> io::Result<()> {
        self.storage.remove(&self.path)
    }

    /// Files without a descriptor are in memory: nothing to go past, unless a test asks for it.
    fn best(&self, wanted: JournalDevice, auto: bool) -> io::Result<(Box<dyn Device>, JournalDevice)> {
        if auto && self.file.descriptor().is_none() {
            return Ok((Box::new(Buffered::synced()), JournalDevice::Buffered));
        }
        if wanted == JournalDevice::Uring {
            // Whatever the reason: if the disk is at fault, the next device finds out.
            match Uring::new().and_then(|device| self.works(device)) {
                Ok(device) => return Ok((device, JournalDevice::Uring)),
                Err(reason) => tracing::warn!(%reason, "io_uring does not work here, writing without it"),
            }
        }
        match self.works(Direct::default()) {
            Ok(device) => Ok((device, JournalDevice::Direct)),
            Err(reason) if is_refusal(&reason) => {
                tracing::warn!(%reason, "direct writes do not work here, writing through the page cache");
                Ok((Box::new(Buffered::synced()), JournalDevice::Buffered))
            }
            Err(error) => Err(error),
        }
    }

    /// Tries one write.
    fn works(&self, mut device: impl Device + 'static) -> io::Result<Box<dyn Device>> {
        let mut bytes = AlignedBuffer::with_capacity(ALIGNMENT);
        bytes.extend_from_slice(&[1]);
        bytes.pad();
        device.begin(Batch { file: self.file.clone(), offset: 0, bytes })?;
        device.finish()?;
        if !self.file.is_direct() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the file system refuses O_DIRECT"));
        }
        Ok(Box::new(device))
    }
}

/// Whether the file system said that it does not do such writes, rather than that one went wrong.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}
