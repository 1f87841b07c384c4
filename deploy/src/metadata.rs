//! The metadata store that the processes of a cluster share, from what a user wrote about it.
//!
//! Called by: roles that run as processes of their own.
//! Must never know: what a role keeps there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use magnetar_common::Environment;
use magnetar_common::metadata::{EtcdConfig, EtcdStore, EtcdTls, EtcdUser, SharedMetadata};

/// Where the store is and how to be let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// `etcd://…`, or nothing when the user did not say.
    pub(crate) url: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    /// PEM files: etcd's authority, our certificate, its key.
    pub(crate) authority: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl Settings {
    /// Reads what the settings name. `role` is for the message when there is no store to share.
    pub(crate) fn config(&self, role: &str) -> anyhow::Result<EtcdConfig> {
        let Some(url) = &self.url else {
            anyhow::bail!("a {role} needs --metadata etcd://host:2379: or run `magnetar standalone`");
        };
        anyhow::ensure!(
            !url.starts_with("embedded"),
            "metadata {url}: an embedded store serves one process and cannot be shared with other bookies and brokers: \
             use --metadata etcd://host:2379, or run `magnetar standalone`"
        );
        let user = match (&self.user, &self.password_file) {
            (None, None) => None,
            (Some(name), Some(file)) => {
                let password = String::from_utf8(read(file)?).context("the metadata password is no text")?;
                Some(EtcdUser {
                    name: name.clone(),
                    password: password.trim_end_matches(['\r', '\n']).to_owned(),
                })
            }
            _ => anyhow::bail!("--metadata-user and --metadata-password-file belong together"),
        };
        let identity = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => anyhow::bail!("--metadata-cert and --metadata-key belong together"),
        };
        let tls = match &self.authority {
            Some(file) => Some(EtcdTls { authority: read(file)?, identity }),
            None if identity.is_some() => anyhow::bail!("--metadata-cert needs --metadata-ca"),
            None => None,
        };
        Ok(EtcdConfig { user, tls, ..EtcdConfig::parse(url)? })
    }
}

/// Connects; fails within about ten seconds when nobody answers.
pub(crate) async fn connect(config: &EtcdConfig, env: &Environment) -> anyhow::Result<SharedMetadata> {
    let members = || format!("--metadata {}", config.endpoints.join(","));
    let store = EtcdStore::connect(config, env.clock.clone()).await.with_context(members)?;
    Ok(Arc::new(store))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: Settings) -> String {
        settings.config("bookie").map(drop).expect_err("refused").to_string()
    }

    #[test]
    fn what_cannot_be_shared_is_refused_with_what_to_do() {
        assert!(refused(Settings::default()).contains("a bookie needs --metadata etcd://host:2379"));
        let embedded = Settings { url: Some("embedded".into()), ..Settings::default() };
        assert!(refused(embedded).contains("cannot be shared"));
        let zookeeper = Settings { url: Some("zk:host:2181".into()), ..Settings::default() };
        assert!(refused(zookeeper).contains("names no etcd cluster"));
    }

    #[test]
    fn secrets_come_from_files_and_half_of_them_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "hunter2\n").unwrap();
        let settings =
            Settings { url: Some("etcd://h".into()), user: Some("root".into()), ..Settings::default() };
        assert!(refused(settings.clone()).contains("--metadata-password-file"));
        let complete = Settings { password_file: Some(file.clone()), ..settings.clone() };
        let user = complete.config("bookie").unwrap().user.unwrap();
        assert_eq!((user.name.as_str(), user.password.as_str()), ("root", "hunter2"));
        let unreadable = Settings { password_file: Some(dir.path().join("none")), ..settings };
        assert!(refused(unreadable).contains("none"));
        let half = Settings { url: Some("etcd://h".into()), key: Some(file), ..Settings::default() };
        assert!(refused(half).contains("--metadata-cert and --metadata-key"));
    }
}
