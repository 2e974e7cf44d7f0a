//! The four YAML blocks of the guide, as they stand in its file.

use anyhow::Context;
use serde_json::Value;

/// The guide, as users read it.
const GUIDE: &str = include_str!("../../../../docs/tutorial/rdma-configuration.md");

/// Pool, policy, network and pod of the guide.
#[derive(Debug, Clone)]
pub struct Manifests {
    pub pool: Value,
    pub policy: Value,
    pub network: Value,
    pub pod: Value,
}

impl Manifests {
    /// The blocks in order; the pool with another `maxUnavailable` where one is asked for.
    pub fn read(max_unavailable: Option<&str>) -> anyhow::Result<Self> {
        let mut blocks = Vec::new();
        let mut rest = GUIDE;
        while let Some(start) = rest.find("```yaml\n") {
            let block = &rest[start + 8..];
            let end = block.find("\n```").unwrap_or(block.len());
            let read = serde_saphyr::from_str(&block[..end]);
            blocks.push(read.context("a block of the guide is not YAML")?);
            rest = &block[end..];
        }
        let [mut pool, policy, network, pod]: [Value; 4] = blocks.try_into().map_err(|found| {
            let found: Vec<Value> = found;
            anyhow::anyhow!("the guide has {} YAML blocks, and not its four", found.len())
        })?;
        if let Some(text) = max_unavailable {
            pool["spec"]["maxUnavailable"] = match text.parse::<u32>() {
                Ok(number) => number.into(),
                Err(_) => text.into(),
            };
        }
        Ok(Self { pool, policy, network, pod })
    }
}
