//! Layers below the flags: environment variables and a TOML file become the defaults of the flags they name.
//!
//! Called by: the command line, once at start.
//! Must never know: what a setting means; names derive from the flags, so a flag is declared in one place only.
//!
//! The flag `--broker-port` of role `standalone` is `MAGNETAR_STANDALONE_BROKER_PORT` in the environment and
//! `broker-port` (or `broker_port`) in the file's table `[standalone]`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::OsStr;

/// The subcommands that read environment and file.
const ROLES: [&str; 3] = ["standalone", "broker", "bookie"];

/// Why a config file cannot be used. Each text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("config file {}: {source}: name a readable TOML file with --config", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is not TOML.
    #[error("config file {}: {reason}: correct it", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// The file names a table or key that no flag has.
    #[error("config file {}: unknown setting '{name}': see --help for the names", path.display())]
    Unknown { path: PathBuf, name: String },
    /// A value is of a kind that no flag takes.
    #[error("config file {}: '{name}' must be a string, a number, a bool or a list of them", path.display())]
    Kind { path: PathBuf, name: String },
}

/// Gives `command` the defaults that environment and file hold for the role in `arguments`.
pub(crate) fn layered(
    command: clap::Command,
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<clap::Command, SettingsError> {
    let Some(role) = arguments.get(1).and_then(|word| ROLES.into_iter().find(|role| word == role)) else {
        return Ok(command);
    };
    let path = flag_value(arguments, "--config").or_else(|| environment(&variable(role, "config")));
    let file = match path {
        Some(path) => File::load(PathBuf::from(path))?,
        None => File::default(),
    };
    let mut outcome = Ok(());
    let command = command.mut_subcommand(role, |mut role_command| {
        role_command.build();
        let known = role_command.get_arguments().map(|arg| arg.get_id().to_string()).collect::<Vec<_>>();
        let values = match file.values(role, &known) {
            Ok(values) => values,
            Err(error) => {
                outcome = Err(error);
                Vec::new()
            }
        };
        role_command.mut_args(|arg| {
            let id = arg.get_id().to_string();
            if ["help", "version"].contains(&id.as_str()) {
                return arg;
            }
            let variable = variable(role, &id);
            let from_file = values.iter().find(|(key, _)| *key == id).map(|(_, value)| value.clone());
            let value = environment(&variable).map(OsStr::from).or(from_file);
            let help = format!("{} [env: {variable}]", arg.get_help().cloned().unwrap_or_default());
            let arg = arg.help(help);
            match value {
                Some(value) => arg.default_value(value),
                None => arg,
            }
        })
    });
    outcome.map(|()| command)
}

/// The environment variable of a flag: `MAGNETAR_<SECTION>_<KEY>`.
fn variable(role: &str, id: &str) -> String {
    format!("MAGNETAR_{role}_{id}").to_uppercase().replace('-', "_")
}

/// The value of `--flag value` or `--flag=value`; the last one wins, as in clap.
fn flag_value(arguments: &[OsString], flag: &str) -> Option<OsString> {
    let mut value = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == flag {
            value = words.next().cloned();
        } else if let Some(given) = text.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            value = Some(OsString::from(given));
        }
    }
    value
}

/// A parsed config file; empty when none was named.
#[derive(Default)]
struct File {
    path: PathBuf,
    tables: toml::Table,
}

impl File {
    fn load(path: PathBuf) -> Result<Self, SettingsError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(SettingsError::Unreadable { path, source }),
        };
        match text.parse::<toml::Table>() {
            Ok(tables) => Ok(Self { path, tables }),
            Err(error) => {
                let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
                let reason = format!("line {line}: {}", error.message());
                Err(SettingsError::Malformed { path, reason })
            }
        }
    }

    /// The settings of one role as (flag id, value). Tables of other roles may stand in the same file.
    fn values(&self, role: &str, known: &[String]) -> Result<Vec<(String, OsStr)>, SettingsError> {
        let unknown = |name: String| SettingsError::Unknown { path: self.path.clone(), name };
        if let Some(stranger) = self.tables.keys().find(|key| !ROLES.contains(&key.as_str())) {
            return Err(unknown(stranger.clone()));
        }
        let Some(section) = self.tables.get(role) else { return Ok(Vec::new()) };
        let Some(section) = section.as_table() else { return Err(unknown(role.to_owned())) };
        let mut values = Vec::new();
        for (key, value) in section {
            let name = format!("{role}.{key}");
            let id = key.replace('-', "_");
            if id == "config" || !known.contains(&id) {
                return Err(unknown(name));
            }
            let text = text(value).ok_or(SettingsError::Kind { path: self.path.clone(), name })?;
            values.push((id, OsStr::from(text)));
        }
        Ok(values)
    }
}

/// A value as it would be typed behind its flag; lists are joined with commas.
fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(text).collect::<Option<Vec<_>>>().map(|list| list.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(content: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("magnetar.toml");
        std::fs::write(&file, content).unwrap();
        let arguments = ["magnetar", "standalone", "--config", file.to_str().unwrap()].map(OsString::from);
        let command = clap::Command::new("magnetar")
            .subcommand(clap::Command::new("standalone").arg(clap::Arg::new("cluster").long("cluster")));
        layered(command, &arguments, |_| None).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_its_place() {
        assert!(refused("[standalone]\nclutser = \"x\"\n").contains("'standalone.clutser'"));
        assert!(refused("[standalon]\n").contains("'standalon'"));
        assert!(refused("[standalone]\n\ncluster = \n").contains("line 3"));
        assert!(refused("[standalone]\ncluster = { a = 1 }\n").contains("must be a string"));
    }

    #[test]
    fn a_missing_file_is_refused() {
        let arguments = ["magnetar", "bookie", "--config=/nonexistent/x.toml"].map(OsString::from);
        let error = layered(clap::Command::new("magnetar"), &arguments, |_| None).unwrap_err();
        assert!(error.to_string().starts_with("config file /nonexistent/x.toml"));
    }
}
