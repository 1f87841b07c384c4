//! Where a test's processes run: on this machine's loopback, or in a network namespace of their own.

use std::ffi::OsStr;
use std::process::Command;

/// A place with an address.
#[derive(Clone, Debug)]
pub struct Site {
    /// Without a port.
    pub address: String,
    /// Words before a program that start it there.
    wrapper: Vec<String>,
}

impl Site {
    /// Loopback.
    pub fn local() -> Self {
        Self { address: "127.0.0.1".into(), wrapper: Vec::new() }
    }

    /// The network namespace of this name. A program started there is the process that the caller sees: `ip` becomes it.
    pub fn namespace(name: &str, address: String) -> Self {
        Self { address, wrapper: ["ip", "netns", "exec", name].map(str::to_owned).to_vec() }
    }

    /// The program, to be started there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }
}
