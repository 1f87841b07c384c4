//! Topics over three real bookies, seen from where a connection sits.

mod compaction;
mod consuming;
mod counters;
mod cursors;
mod dead_letters;
mod deduplication;
mod filters;
mod lifecycle;
mod policies;
mod producing;
mod shared;
mod streaming;
mod support;
mod volatile;
mod why;
