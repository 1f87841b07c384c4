//! Real processes that are killed, stopped or cut off in the middle of their work; and bookies and a network that fail under
//! a ledger.

mod bookie;
mod cluster;
mod holes;
mod ledger;
mod sigkill;
mod sigterm;

/// How often each process is killed. Twenty, unless MAGNETAR_CHAOS_ROUNDS says otherwise.
fn rounds() -> u64 {
    let told = std::env::var("MAGNETAR_CHAOS_ROUNDS").ok();
    told.map_or(20, |text| text.parse().expect("MAGNETAR_CHAOS_ROUNDS is a number"))
}
