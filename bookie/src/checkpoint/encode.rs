//! Writes what `format` describes.

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::LedgerId;

use super::format::{
    BASE, BLOCK_BYTES, CHUNK_HEADER_BYTES, CHUNK_MARKER, Head, INCOMPLETE, LAST, MAGIC, VERSION, item,
};
use super::rows::{LedgerRow, LogRow};
use crate::identity::InstanceId;

/// A chunk ends with the first item that makes it this long: a reader checks a little at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Writes a whole file, or a change.
pub(crate) struct Encoder {
    out: BytesMut,
    number: u64,
    base: bool,
    index: u32,
    chunk_at: usize,
}

impl Encoder {
    /// A whole file. Rows must follow for every log and ledger.
    pub(crate) fn base(instance: InstanceId, head: Head) -> Self {
        let mut out = BytesMut::new();
        out.put_slice(&MAGIC);
        out.put_u32(VERSION);
        out.put_slice(instance.as_bytes());
        out.put_u32(crc32c(&out));
        Encoder { out, number: head.number, base: true, index: 0, chunk_at: 0 }.begin(head)
    }

    /// What is to be appended to the file of the number before.
    pub(crate) fn change(head: Head) -> Self {
        Encoder { out: BytesMut::new(), number: head.number, base: false, index: 0, chunk_at: 0 }.begin(head)
    }

    fn begin(mut self, head: Head) -> Self {
        self.open_chunk();
        self.out.put_u64(head.sequence);
        self.out.put_u64(head.floor);
        self.out.put_u64(head.next_log);
        self.out.put_u32(if head.incomplete { INCOMPLETE } else { 0 });
        self
    }

    pub(crate) fn log(&mut self, row: &LogRow) {
        self.item(item::LOG, |out| row.encode(out));
    }

    pub(crate) fn log_gone(&mut self, row: &LogRow) {
        self.item(item::LOG_GONE, |out| {
            out.put_u64(row.log);
            out.put_u32(row.dir);
        });
    }

    pub(crate) fn ledger(&mut self, row: &LedgerRow) {
        self.item(item::LEDGER, |out| row.encode(out));
    }

    pub(crate) fn ledger_gone(&mut self, ledger: LedgerId) {
        self.item(item::LEDGER_GONE, |out| out.put_u64(ledger.0));
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.close_chunk(LAST);
        self.out.resize(self.out.len().next_multiple_of(BLOCK_BYTES), 0);
        self.out.freeze()
    }

    fn item(&mut self, kind: u8, write: impl FnOnce(&mut BytesMut)) {
        if self.out.len() - self.chunk_at >= CHUNK_BYTES {
            self.close_chunk(0);
            self.index += 1;
            self.open_chunk();
        }
        self.out.put_u8(kind);
        write(&mut self.out);
    }

    fn open_chunk(&mut self) {
        self.chunk_at = self.out.len();
        self.out.put_u32(CHUNK_MARKER);
        self.out.put_u32(0);
        self.out.put_u64(self.number);
        self.out.put_u32(self.index);
        self.out.put_u8(0);
    }

    fn close_chunk(&mut self, last: u8) {
        let chunk = &mut self.out[self.chunk_at..];
        let len =
            u32::try_from(chunk.len() - CHUNK_HEADER_BYTES).expect("rows are bounded by the frame limit");
        chunk[4..8].copy_from_slice(&len.to_be_bytes());
        chunk[CHUNK_HEADER_BYTES - 1] = last | if self.base { BASE } else { 0 };
        let crc = crc32c(chunk);
        self.out.put_u32(crc);
    }
}
