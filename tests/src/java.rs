//! The Java programs of `interop/java`, which `tests/run` builds and names in MAGNETAR_JAVA.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where they were built, or why they were not.
pub fn built() -> Result<PathBuf, String> {
    let named = std::env::var_os("MAGNETAR_JAVA").map(PathBuf::from);
    named.ok_or_else(|| "MAGNETAR_JAVA names no built program (run tests/run)".into())
}

/// A virtual machine with a heap limit such as `-Xmx128m`, still without its main class. Nothing is on its standard input.
pub fn command(built: &Path, heap: &str) -> Command {
    let mut command = Command::new("java");
    // Short runs of small programs: a quick start counts, not the last optimisation.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", heap]);
    command.arg(concat!(
        "-Dlog4j2.configurationFile=",
        env!("CARGO_MANIFEST_DIR"),
        "/interop/java/log4j2.properties"
    ));
    command.args(["-cp", &format!("{0}/classes:{0}/lib/*", built.display())]);
    command.stdin(Stdio::null());
    command
}
