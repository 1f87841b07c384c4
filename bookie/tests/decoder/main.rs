//! The request decoder against noise: whatever arrives, and however it is cut, there is no panic and no memory beyond what
//! the frame limit allows. `PROPTEST_CASES` makes each property a longer run: with a million it is a fuzz run that needs no
//! nightly compiler (see `bookie/fuzz`).
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_bookie::fuzzing::{Decoded, decode};
use magnetar_proto::bookkeeper::v2::{self, Flags};
use magnetar_proto::bookkeeper::v3::{
    self, AddRequest, AuthMessage, ForceLedgerRequest, GetBookieInfoRequest, GetListOfEntriesOfLedgerRequest,
    OperationType, ReadLacRequest, ReadRequest, WriteLacRequest, request_header,
};
use magnetar_proto::ids::{EntryId, LedgerId};
use proptest::collection::vec;
use proptest::prelude::*;

/// Small, so that what is beyond it stands out.
const FRAME_BYTES_MAX: usize = 256 << 10;

/// What a connection may hold beside a frame of the largest size, its growth included: a read buffer, and the requests of
/// one turn.
const BESIDE_BYTES: usize = 1 << 20;

thread_local! {
    /// Bytes that this thread holds, and the most that it ever held since the last reset.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(bytes: isize) {
    // A thread that is ending no longer counts.
    let _ = HELD.try_with(|held| {
        let now = held.get().0 + bytes;
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory but a const-initialised
// thread-local, which does not allocate. `realloc` is the trait's own, by way of `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps `dealloc`'s contract, and `alloc` took the memory from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes, and tells how much memory that held at most.
fn measured<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Decoded, usize) {
    let before = HELD.get().0;
    HELD.set((before, before));
    let decoded = decode(FRAME_BYTES_MAX, pieces);
    (decoded, (HELD.get().1 - before) as usize)
}

fn body(ledger: u64, entry: u64, payload: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u64(ledger);
    body.put_u64(entry);
    body.put_i64(-1);
    body.put_u64(payload.len() as u64);
    body.put_slice(payload);
    body.freeze()
}

fn v2_frame() -> impl Strategy<Value = BytesMut> {
    let ids = (0..1u64 << 63, 0..1u64 << 63);
    (ids, vec(any::<u8>(), 0..200), any::<[bool; 3]>(), any::<[u8; 20]>(), any::<(i64, i32, i64)>(), 0..4u8)
        .prop_map(|((ledger, entry), payload, [fencing, recovery_add, high_priority], key, limits, kind)| {
            let flags = Flags { fencing, recovery_add, high_priority };
            let (ledger_id, entry_id) = (LedgerId(ledger), EntryId(entry));
            let master_key = fencing.then_some(key);
            let (request_id, max_count, max_size) = limits;
            let body = body(ledger, entry, &payload);
            let request = match kind {
                0 => v2::Request::Add { master_key: key, body, ledger_id, entry_id, flags },
                1 => v2::Request::Read { ledger_id, entry_id: Some(entry_id), flags, master_key },
                2 => v2::Request::BatchRead {
                    ledger_id,
                    first_entry: entry_id,
                    request_id,
                    max_count,
                    max_size,
                    flags,
                    master_key,
                },
                _ => v2::Request::Auth(payload.into()),
            };
            let mut out = BytesMut::new();
            v2::encode_request(&request, &mut out);
            out
        })
}

fn v3_frame() -> impl Strategy<Value = BytesMut> {
    let ids = (any::<i64>(), any::<i64>());
    (1..13i32, ids, vec(any::<u8>(), 0..200), vec(any::<u8>(), 20), any::<(Option<i64>, u64)>()).prop_map(
        |(operation, (ledger_id, entry_id), payload, key, (number, txn_id))| {
            let operation = OperationType::try_from(operation).unwrap();
            let mut request = v3::Request { header: request_header(operation, txn_id), ..Default::default() };
            let master_key = Bytes::from(key);
            match operation {
                OperationType::AddEntry => {
                    let body = body(ledger_id as u64, entry_id as u64, &payload);
                    let add = AddRequest { ledger_id, entry_id, master_key, body, ..Default::default() };
                    request.add_request = Some(add);
                }
                OperationType::ReadEntry => {
                    request.read_request = Some(ReadRequest {
                        ledger_id,
                        entry_id,
                        master_key: Some(master_key),
                        previous_lac: number,
                        time_out: number,
                        flag: number.map(|number| number as i32),
                    });
                }
                OperationType::WriteLac => {
                    let (lac, body) = (entry_id, payload.into());
                    request.write_lac_request = Some(WriteLacRequest { ledger_id, lac, master_key, body });
                }
                OperationType::ReadLac => request.read_lac_request = Some(ReadLacRequest { ledger_id }),
                OperationType::ForceLedger => {
                    request.force_ledger_request = Some(ForceLedgerRequest { ledger_id });
                }
                OperationType::GetBookieInfo => {
                    request.get_bookie_info_request = Some(GetBookieInfoRequest { requested: number });
                }
                OperationType::GetListOfEntriesOfLedger => {
                    let list = GetListOfEntriesOfLedgerRequest { ledger_id };
                    request.get_list_of_entries_of_ledger_request = Some(list);
                }
                OperationType::Auth => {
                    let auth_plugin_name = String::from_utf8_lossy(&payload).into_owned();
                    request.auth_request = Some(AuthMessage { auth_plugin_name, payload: master_key });
                }
                _ => {}
            }
            let mut out = BytesMut::new();
            v3::encode(&request, &mut out);
            out
        },
    )
}

/// A frame whose length is right and whose content begins as one of a protocol would.
fn framed_noise() -> impl Strategy<Value = BytesMut> {
    (
        prop_oneof![Just(&[2, 1][..]), Just(&[2, 2][..]), Just(&[2, 7][..]), Just(&[0x0a][..])],
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(start, noise)| {
            let mut out = BytesMut::new();
            out.put_u32((start.len() + noise.len()) as u32);
            out.put_slice(start);
            out.put_slice(&noise);
            out
        })
}

fn joined(frames: Vec<BytesMut>) -> Vec<u8> {
    frames.concat()
}

/// One change to a stream: a byte replaced, inserted or removed.
fn mutate(stream: &mut Vec<u8>, (kind, at, byte): (u8, prop::sample::Index, u8)) {
    if stream.is_empty() {
        return;
    }
    let at = at.index(stream.len());
    match kind {
        0 => stream[at] = byte,
        1 => stream.insert(at, byte),
        _ => drop(stream.remove(at)),
    }
}

/// Cuts a stream into pieces of the given lengths, over and over.
fn cut<'a>(stream: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        let length = (*cuts.next()?).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn cases() -> u32 {
    let told = std::env::var("PROPTEST_CASES").ok();
    told.map_or(2_000, |text| text.parse().expect("PROPTEST_CASES is a number"))
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1usize..40, 1usize..5000], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_bytes_are_requests_or_an_error(noise in vec(any::<u8>(), 0..2000), cuts in cuts()) {
        let (_, held) = measured(cut(&noise, &cuts));
        prop_assert!(held <= FRAME_BYTES_MAX + BESIDE_BYTES, "{held} bytes held");
    }

    #[test]
    fn noise_in_sound_frames_is_a_request_or_an_error(frames in vec(framed_noise(), 1..8), cuts in cuts()) {
        let (_, held) = measured(cut(&joined(frames), &cuts));
        prop_assert!(held <= FRAME_BYTES_MAX + BESIDE_BYTES, "{held} bytes held");
    }

    #[test]
    fn damaged_requests_are_requests_or_an_error(
        frames in prop_oneof![vec(v2_frame(), 1..8), vec(v3_frame(), 1..8)],
        changes in vec((0..3u8, any::<prop::sample::Index>(), any::<u8>()), 1..10),
        cuts in cuts(),
    ) {
        let mut stream = joined(frames);
        for change in changes {
            mutate(&mut stream, change);
        }
        let (_, held) = measured(cut(&stream, &cuts));
        prop_assert!(held <= FRAME_BYTES_MAX + BESIDE_BYTES, "{held} bytes held");
    }

    #[test]
    fn sound_requests_are_understood_however_they_are_cut(
        v3 in vec(v3_frame(), 0..8),
        v2 in vec(v2_frame(), 0..8),
        cuts in cuts(),
    ) {
        let requests = v3.len() + v2.len();
        // A client that goes on in V2 after it asked for TLS in V3.
        let stream = [joined(v3), joined(v2)].concat();
        let (decoded, held) = measured(cut(&stream, &cuts));
        prop_assert_eq!(decoded, Decoded { requests, error: None });
        prop_assert!(held <= FRAME_BYTES_MAX + BESIDE_BYTES, "{held} bytes held");
    }
}

#[test]
fn a_frame_over_the_limit_ends_the_connection_before_anything_is_allocated_for_it() {
    for announced in [FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let (decoded, held) = measured([&announced.to_be_bytes()[..]]);
        assert!(decoded.error.is_some_and(|error| error.contains("exceeds the limit")));
        assert!(held < 16 << 10, "{held} bytes held");
    }
}

#[test]
fn a_frame_of_the_limit_passes() {
    let mut stream = BytesMut::new();
    stream.put_u32(FRAME_BYTES_MAX as u32);
    stream.put_u32(0x0201_0000);
    stream.put_slice(&[1; 20]);
    stream.put_slice(&body(1, 0, &vec![7; FRAME_BYTES_MAX - 24 - 32]));
    let (decoded, held) = measured(stream.chunks(1400));
    assert_eq!(decoded, Decoded { requests: 1, error: None });
    assert!(held <= 2 * FRAME_BYTES_MAX + BESIDE_BYTES / 4, "{held} bytes held");
}

/// Announcing costs a stranger nothing, so it must not cost us anything either.
#[test]
fn an_announced_frame_takes_no_more_memory_than_what_has_arrived_of_it() {
    let mut stream = BytesMut::new();
    stream.put_u32(FRAME_BYTES_MAX as u32);
    stream.put_bytes(2, 10);
    let (_, held) = measured([&stream[..]]);
    assert!(held <= (128 << 10) + (16 << 10), "{held} bytes held");
    stream.put_bytes(2, 100 << 10);
    let (_, held) = measured([&stream[..]]);
    assert!(held <= 2 * (100 << 10) + (128 << 10), "{held} bytes held");
}
