//! Network namespaces of a test's own: some that lose packets, some that are joined by a bridge and can be cut apart.
//!
//! The test runs itself once more in a namespace; everything set up in there goes away with it, whatever happens, and
//! touches nobody else. That needs root, `unshare`, `ip` and `nft`.

use crate::site::Site;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Set in the namespace.
pub const INSIDE: &str = "MAGNETAR_CHAOS_INSIDE";

/// The network of the bridge; the test itself is at `.1`, sites follow from `.11` on.
const NETWORK: &str = "10.77.0";

/// What a test has to do about namespaces.
pub enum Place {
    /// This process is in one: run the test.
    Inside,
    /// The test has run in one, and has succeeded.
    Done,
    /// Why there are none here.
    None(String),
}

/// Runs the test of this name (as the harness prints it) in a network namespace, unless this process is there already.
pub fn enter(test: &str) -> Result<Place> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(Place::Inside);
    }
    if let Err(reason) = permitted() {
        return Ok(Place::None(reason));
    }
    // The mounts are its own, too: `ip netns` keeps its names in files.
    let setup = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture";
    let status = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", setup])
        .arg(std::env::current_exe()?)
        .arg(test)
        .env(INSIDE, "1")
        .status()
        .context("run unshare")?;
    ensure!(status.success(), "in the namespace: {status}");
    Ok(Place::Done)
}

fn permitted() -> Result<(), String> {
    nft().ok_or("no nft in PATH, and MAGNETAR_NFT names none")?;
    let setup = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up";
    let tried = Command::new("unshare").args(["--net", "--mount", "sh", "-c", setup]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("no network namespace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("no network namespace: {error}")),
    }
}

fn nft() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MAGNETAR_NFT") {
        return Some(path.into());
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs).map(|dir| dir.join("nft")).find(|path| path.is_file())
}

/// Applies rules to this namespace, or to a site's.
fn filter(site: &Site, rules: &str) -> Result<()> {
    let status = site.command(nft().context("nft")?).arg(rules).status().context("run nft")?;
    ensure!(status.success(), "nft {rules}: {status}");
    Ok(())
}

/// From here on this namespace loses this share of all packets. Inside only.
pub fn lose_packets(percent: u32) -> Result<()> {
    let rules = format!(
        "table inet loss {{ chain input {{ type filter hook input priority 0; numgen random mod 100 < {percent} drop; }}; }}"
    );
    filter(&Site::local(), &rules)
}

/// Sites that reach each other, and this process, over a bridge.
pub struct Network {
    pub sites: Vec<Site>,
}

impl Network {
    /// Makes this many sites. Inside only, and once.
    pub fn new(sites: usize) -> Result<Self> {
        run("ip link add bridge type bridge")?;
        run(&format!("ip addr add {NETWORK}.1/24 dev bridge"))?;
        run("ip link set bridge up")?;
        let site = |number: usize| -> Result<Site> {
            let (name, address) = (format!("site{number}"), format!("{NETWORK}.{}", 11 + number));
            run(&format!("ip netns add {name}"))?;
            run(&format!("ip link add port{number} type veth peer name eth0 netns {name}"))?;
            run(&format!("ip link set port{number} master bridge up"))?;
            run(&format!("ip -n {name} addr add {address}/24 dev eth0"))?;
            run(&format!("ip -n {name} link set eth0 up"))?;
            run(&format!("ip -n {name} link set lo up"))?;
            Ok(Site::namespace(&name, address))
        };
        Ok(Self { sites: (0..sites).map(site).collect::<Result<_>>()? })
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        let address = &self.sites[from].address;
        let rules = format!(
            "table inet cut {{ chain input {{ type filter hook input priority 0; ip saddr {address} drop; }}; }}"
        );
        filter(&self.sites[to], &rules)
    }

    /// Undoes a cut.
    pub fn heal(&self, to: usize) -> Result<()> {
        filter(&self.sites[to], "delete table inet cut")
    }
}

fn run(words: &str) -> Result<()> {
    let mut parts = words.split(' ');
    let output = Command::new(parts.next().context("a program")?).args(parts).output()?;
    ensure!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
