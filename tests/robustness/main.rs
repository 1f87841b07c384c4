//! Bad input and bad surroundings: each is answered or closed with the protocol's own error and one useful log line,
//! and nobody else notices.

mod input;
mod offline;
mod start;
