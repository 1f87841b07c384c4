//! The flags that say where the cluster's metadata is.

use std::path::PathBuf;

use crate::metadata::Settings;

/// Flags of every role that shares a metadata store with other processes.
#[derive(Debug, clap::Args)]
#[group(id = "shared-metadata")]
pub(super) struct Args {
    /// Metadata store shared by the cluster: etcd://host:2379[,host:2379...] or etcd:http://host:2379,...
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,
    /// User of the metadata store, where it asks for one
    #[arg(long, value_name = "NAME")]
    metadata_user: Option<String>,
    /// File with that user's password
    #[arg(long, value_name = "FILE")]
    metadata_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the metadata store's certificate; for etcd:https://... only
    #[arg(long, value_name = "FILE")]
    metadata_ca: Option<PathBuf>,
    /// PEM file of our certificate for the metadata store, where it asks for one
    #[arg(long, value_name = "FILE")]
    metadata_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE")]
    metadata_key: Option<PathBuf>,
}

impl From<Args> for Settings {
    fn from(args: Args) -> Self {
        Self {
            url: args.metadata,
            user: args.metadata_user,
            password_file: args.metadata_password_file,
            authority: args.metadata_ca,
            certificate: args.metadata_cert,
            key: args.metadata_key,
        }
    }
}
