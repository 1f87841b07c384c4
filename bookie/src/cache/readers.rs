//! Who reads a ledger from front to back, and how far ahead of them to read.
//!
//! A reader has no name on the wire: a cursor stands for whoever asks for the entries that follow those asked for before.
//! The more of them, the more is read at once, from [`WINDOW_MIN`] to [`WINDOW_MAX`], and several such windows ahead.
//! Plain state, no clock and no disk: the cache calls it under its lock.

use std::collections::{HashMap, VecDeque};

use magnetar_proto::ids::{EntryId, LedgerId};

use super::span::Span;
use crate::cache::POOLED_BYTES;

/// What the second of two consecutive reads makes the bookie read at once.
const WINDOW_MIN: usize = 64 << 10;
/// A device gives nearly all of its bandwidth at this size.
const WINDOW_MAX: usize = POOLED_BYTES;
/// Windows read or being read ahead of a reader.
const WINDOWS_AHEAD: usize = 4;
/// Readers of one ledger that are told apart.
const CURSORS_PER_LEDGER: usize = 4;
/// Spans handed out to others until a cursor counts as abandoned.
const IDLE_MAX: u64 = 4096;
/// Cursors in all; the abandoned ones go first.
const CURSORS_MAX: usize = 1024;

/// One reader. `from <= next`.
#[derive(Debug)]
struct Cursor {
    /// Beginning of the span that was handed out last.
    from: EntryId,
    /// The entry behind the last span read, being read or planned.
    next: EntryId,
    /// Bytes to read at once.
    window: usize,
    /// Spans from `from` (exclusive) up to `next`.
    ahead: VecDeque<(EntryId, usize)>,
    /// Somebody is finding out how far the span from `next` on goes.
    planning: bool,
    /// Nothing is on disk from `next` on, or it cannot be read.
    ended: bool,
    used: u64,
}

/// All cursors.
#[derive(Debug)]
pub(super) struct Readers {
    ledgers: HashMap<LedgerId, Vec<Cursor>>,
    cursors: usize,
    clock: u64,
    /// Bytes that may be read ahead, for all readers together.
    ahead_max: usize,
}

impl Readers {
    pub(super) fn new(ahead_max: usize) -> Self {
        Readers { ledgers: HashMap::new(), cursors: 0, clock: 0, ahead_max }
    }

    /// Somebody is about to find out where the span ends that begins with `entry`.
    pub(super) fn is_planning(&self, ledger: LedgerId, entry: EntryId) -> bool {
        let cursors = self.ledgers.get(&ledger).into_iter().flatten();
        cursors.into_iter().any(|cursor| cursor.planning && cursor.next == entry)
    }

    /// An entry was asked for that no span has; if it `reads_on`, the next one too. Returns how many bytes to read at
    /// once; 0 is that entry alone.
    pub(super) fn missed(&mut self, ledger: LedgerId, entry: EntryId, reads_on: bool) -> usize {
        self.clock += 1;
        let (clock, max) = (self.clock, WINDOW_MAX.min(self.ahead_max));
        // What was read ahead has been thrown out before it was used: less of it, from here on.
        if let Some(cursor) =
            self.find(ledger, |c| c.from < entry && entry < c.next && c.window >= WINDOW_MIN && !c.planning)
        {
            cursor.window = (cursor.window / 2).max(WINDOW_MIN).min(max);
            (cursor.from, cursor.next, cursor.used, cursor.ended) = (entry, entry.next(), clock, false);
            cursor.ahead.clear();
            return cursor.window;
        }
        if let Some(cursor) = self.find(ledger, |cursor| cursor.next == entry) {
            cursor.window = (2 * cursor.window).clamp(WINDOW_MIN, WINDOW_MAX).min(max);
            (cursor.from, cursor.used, cursor.ended) = (entry, clock, false);
            cursor.next = entry.next();
            cursor.ahead.clear();
            return cursor.window;
        }
        // Who asks for several entries in a row will hardly stop there.
        let window = if reads_on { (WINDOW_MAX / 2).min(max) } else { 0 };
        let cursor = Cursor {
            from: entry,
            next: entry.next(),
            window: window.max(WINDOW_MIN / 2),
            ahead: VecDeque::new(),
            planning: false,
            ended: false,
            used: clock,
        };
        self.add(ledger, cursor);
        window
    }

    /// The span read for [`missed`](Self::missed).
    pub(super) fn read(&mut self, span: &Span) {
        let first = span.key.first;
        if let Some(cursor) = self.find(span.key.ledger, |cursor| cursor.from == first && !cursor.planning) {
            cursor.next = cursor.next.max(span.end());
        }
    }

    /// A span was handed out to somebody who asked for `entry` of it.
    pub(super) fn used(&mut self, span: &Span, entry: EntryId) {
        self.clock += 1;
        let clock = self.clock;
        let reads_here = |cursor: &Cursor| cursor.from <= entry && entry < cursor.next;
        match self.find(span.key.ledger, reads_here) {
            Some(cursor) => {
                cursor.used = clock;
                while let Some((first, _)) = cursor.ahead.pop_front_if(|(first, _)| *first <= entry) {
                    cursor.from = first;
                }
            }
            // Goes where another reader has been.
            None => {
                let (from, next) = (span.key.first, span.end());
                let window = span.memory.clamp(WINDOW_MIN, WINDOW_MAX).min(self.ahead_max);
                let ahead = VecDeque::new();
                let cursor = Cursor { from, next, window, ahead, planning: false, ended: false, used: clock };
                self.add(span.key.ledger, cursor);
            }
        }
    }

    /// Whether more should be read ahead of the reader who is at `entry`: from which entry on, and how many bytes. The
    /// caller must tell what came of it with [`planned`](Self::planned) or [`ended`](Self::ended).
    pub(super) fn plan(&mut self, ledger: LedgerId, entry: EntryId) -> Option<(EntryId, usize)> {
        let share = self.ahead_max / self.reading_on().max(1);
        let reads_here = |cursor: &Cursor| cursor.from <= entry && entry < cursor.next;
        let cursor = self.find(ledger, reads_here)?;
        let window = (2 * cursor.window).min(WINDOW_MAX).min(share);
        let ahead: usize = cursor.ahead.iter().map(|(_, bytes)| bytes).sum();
        let enough = ahead >= (WINDOWS_AHEAD * cursor.window).min(share);
        if cursor.planning || cursor.ended || cursor.window < WINDOW_MIN || window < WINDOW_MIN || enough {
            return None;
        }
        cursor.window = window;
        cursor.planning = true;
        Some((cursor.next, window))
    }

    /// What [`plan`](Self::plan) asked for is this span.
    pub(super) fn planned(&mut self, span: &Span) {
        let first = span.key.first;
        if let Some(cursor) = self.find(span.key.ledger, |cursor| cursor.planning && cursor.next == first) {
            cursor.planning = false;
            cursor.ahead.push_back((first, span.memory));
            cursor.next = span.end();
        }
    }

    /// Nothing could be read ahead from `entry` on.
    pub(super) fn ended(&mut self, ledger: LedgerId, entry: EntryId) {
        if let Some(cursor) = self.find(ledger, |cursor| cursor.planning && cursor.next == entry) {
            (cursor.planning, cursor.ended) = (false, true);
        }
    }

    /// Readers who have asked for several entries in a row, lately.
    fn reading_on(&self) -> usize {
        let idle = self.clock.saturating_sub(IDLE_MAX);
        self.ledgers.values().flatten().filter(|c| c.window >= WINDOW_MIN && c.used >= idle).count()
    }

    fn find(&mut self, ledger: LedgerId, wanted: impl Fn(&Cursor) -> bool) -> Option<&mut Cursor> {
        self.ledgers.get_mut(&ledger)?.iter_mut().find(|cursor| wanted(cursor))
    }

    fn add(&mut self, ledger: LedgerId, cursor: Cursor) {
        if self.cursors >= CURSORS_MAX {
            self.forget_the_idle();
        }
        let cursors = self.ledgers.entry(ledger).or_default();
        if cursors.len() < CURSORS_PER_LEDGER {
            cursors.push(cursor);
            self.cursors += 1;
        } else if let Some(oldest) = cursors.iter_mut().min_by_key(|cursor| cursor.used) {
            *oldest = cursor;
        }
    }

    fn forget_the_idle(&mut self) {
        let mut used = self.ledgers.values().flatten().map(|cursor| cursor.used).collect::<Vec<_>>();
        used.sort_unstable();
        // At least half of them, so that this is rare.
        let least = self.clock.saturating_sub(IDLE_MAX).max(used[used.len() / 2]);
        self.ledgers.retain(|_, cursors| {
            cursors.retain(|cursor| cursor.used > least);
            !cursors.is_empty()
        });
        self.cursors = self.ledgers.values().map(Vec::len).sum();
    }
}
