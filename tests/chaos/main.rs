//! A real standalone that is killed, or told to stop, in the middle of its work.

mod sigkill;
mod sigterm;
