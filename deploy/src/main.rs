//! The `magnetar` binary: every role of the system.

fn main() {}
