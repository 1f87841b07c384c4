//! Topics over three real bookies, seen from where a connection sits.

mod consuming;
mod cursors;
mod lifecycle;
mod producing;
mod shared;
mod support;
