//! `install-cni`: puts the CNI binary where the container runtime looks for plugins, under each of its names.
//!
//! One binary that looks at the name it was called by; a copy each, since some runtimes do not follow links out of the
//! directory.

use host::seam::Errno;
use host::{Host, leftovers};

/// The plugins that the one binary is.
pub const PLUGINS: [&str; 3] = ["sriov", "ib-sriov", "rdma"];

/// Replaces each plugin at once or not at all: a pod may be starting in this moment. What an installation left that was
/// killed goes, two megabytes each.
pub fn install(host: &dyn Host, directory: &str, binary: &[u8]) -> Result<(), String> {
    for plugin in PLUGINS {
        let path = format!("{}/{plugin}", directory.trim_end_matches('/'));
        leftovers::tidy(host, &path).map_err(|refusal| format!("cannot {refusal}"))?;
        host.replace(&path, binary, 0o755).map_err(|refusal| {
            let way_out = match refusal.errno {
                Errno::ROFS => "; set SRIOV_CNI_BIN_PATH of the operator's Deployment to the directory in which this host's container runtime looks for plugins and that can be written",
                _ => "",
            };
            format!("cannot install the CNI plugin {plugin}: {refusal}{way_out}")
        })?;
        tracing::info!("installed {path}");
    }
    Ok(())
}
