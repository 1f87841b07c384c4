//! An authority with certificates for bookies and a client, and a stranger's certificate of another authority.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// Writes `ca.pem`, and `NAME.pem` with `NAME.key` for `bookie`, `client` and `stranger`.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let (known, unknown) = (authority()?, authority()?);
    fs::write(dir.join("ca.pem"), known.pem())?;
    for (name, issuer) in [("bookie", &known), ("client", &known), ("stranger", &unknown)] {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["localhost".into(), Ipv4Addr::LOCALHOST.to_string()])?;
        fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, issuer)?.pem())?;
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}
