//! Reads of entries that only logs hold, through the read cache, and ahead of those who read on.
//!
//! One span is read by one thread. Ahead of a reader several are under way at once: each of those threads first finds
//! out how far its span goes, lets the next one begin behind it, and only then reads.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Engine, Lookup, Place};
use crate::cache::{Ahead, Filling, Found, Span};
use crate::entry_log::{Extent, Unreadable};

impl<T: Send + 'static> Engine<T> {
    /// A span that holds the entry at `place`, or the error about that entry. `reads_on`: the next entry is asked for too,
    /// so the span should hold more. Reads ahead for sequential readers when called within a tokio runtime. Blocks.
    pub(crate) fn read(self: &Arc<Self>, place: &Place, reads_on: bool) -> Result<Arc<Span>, Unreadable> {
        let key = place.key();
        let span = match self.reads.find(key.ledger, key.log, key.first, reads_on) {
            Found::Span(span) => {
                self.metrics.storage.read_cache_hits.add(1);
                self.read_ahead(place);
                span
            }
            Found::Missing { window: 0 } => {
                self.metrics.storage.read_cache_misses.add(1);
                return self.read_alone(place);
            }
            Found::Missing { window } => {
                self.metrics.storage.read_cache_misses.add(1);
                let extent = place.extent(u64::MAX, window)?;
                let filling = self.reads.keep(Span::new(key, extent.count(), extent.memory()));
                self.read_ahead(place);
                let span = filling.span().clone();
                filling.fill(place.load(&extent, self.reads.buffers())?);
                span
            }
        };
        // The one who filled the span had another entry in mind and may not have come this far.
        if span.body(key.ledger, key.first).is_some() { Ok(span) } else { self.read_alone(place) }
    }

    /// Reads one entry, without keeping it: the page cache does.
    fn read_alone(&self, place: &Place) -> Result<Arc<Span>, Unreadable> {
        let bodies = place.load(&place.extent(1, 0)?, self.reads.buffers())?;
        Ok(Arc::new(Span::filled(place.key(), bodies)))
    }

    /// Begins to read what the reader at `place` will want next, unless that is under way.
    fn read_ahead(self: &Arc<Self>, place: &Place) {
        let Ok(runtime) = Handle::try_current() else { return };
        let key = place.key();
        let Some(ahead) = self.reads.ahead(key.ledger, key.first) else { return };
        let (engine, reader) = (self.clone(), place.clone());
        runtime.spawn_blocking(move || {
            if let Some((place, extent, filling)) = engine.plan(ahead, &reader)
                && let Ok(bodies) = place.load(&extent, engine.reads.buffers())
            {
                filling.fill(bodies);
            }
        });
    }

    /// Finds the span to be read ahead of the reader at `reader`, and lets the next one begin behind it. `None` when there
    /// is nothing to read.
    fn plan(self: &Arc<Self>, mut ahead: Ahead, reader: &Place) -> Option<(Place, Extent, Filling)> {
        let found = self.lock().lookup(ahead.ledger(), Some(ahead.first()));
        let Lookup::OnDisk(place) = found else { return None };
        if ahead.is_present(place.key().log) {
            drop(ahead);
            self.read_ahead(reader);
            return None;
        }
        // An error is for the reader who comes there to report.
        let extent = place.extent(u64::MAX, ahead.window()).ok()?;
        let filling = ahead.keep(Span::new(place.key(), extent.count(), extent.memory()));
        self.read_ahead(reader);
        Some((place, extent, filling))
    }
}
