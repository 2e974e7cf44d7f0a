//! `cargo xtask codegen`: makes the gRPC code of `node` from its .proto files, or checks that it is what is committed.
//!
//! The output is committed, so that no build of the product runs a generator. The generators themselves stand behind
//! the feature `codegen`; without it the command starts itself again with it.

use clap::Args;

#[derive(Args)]
pub struct Arguments {
    /// Change nothing; fail when the committed files differ from what the generator makes
    #[arg(long)]
    check: bool,
}

/// What `cargo xtask check generated` runs.
pub fn check() -> anyhow::Result<()> {
    run(&Arguments { check: true })
}

#[cfg(not(feature = "codegen"))]
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    use crate::tools;
    let mut command = tools::cargo();
    // A target directory of its own: the feature would make cargo rebuild shared dependencies to and fro.
    command.args(["run", "--quiet", "--package", "xtask", "--features", "codegen"]);
    command.args(["--target-dir", "target/codegen", "--", "codegen"]);
    if arguments.check {
        command.arg("--check");
    }
    tools::run(&mut command)
}

#[cfg(feature = "codegen")]
pub use generate::run;

#[cfg(feature = "codegen")]
mod generate {
    use super::Arguments;
    use crate::tools;
    use anyhow::{Context, bail};
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
        let made = generate()?;
        let directory = tools::root().join("crates/node/src/proto");
        let mut stale = Vec::new();
        for (name, text) in &made {
            let path = directory.join(name);
            if fs::read_to_string(&path).ok().as_ref() == Some(text) {
                continue;
            }
            stale.push(name.as_str());
            if !arguments.check {
                fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        match (stale.is_empty(), arguments.check) {
            (true, _) => println!("crates/node/src/proto: {} files, all current", made.len()),
            (false, false) => println!("crates/node/src/proto: wrote {}", stale.join(", ")),
            (false, true) => bail!(
                "crates/node/src/proto is not what crates/node/proto makes ({}); run `cargo xtask codegen`",
                stale.join(", ")
            ),
        }
        Ok(())
    }

    /// The generated files by name, one for each protobuf package.
    fn generate() -> anyhow::Result<BTreeMap<String, String>> {
        let sources = tools::root().join("crates/node/proto");
        let protos = files(&sources, "proto")?;
        let descriptors = protox::compile(&protos, [&sources])
            .context("cannot compile the .proto files of crates/node/proto")?;
        let out = tools::root().join("target/codegen/proto");
        // An old file of a package that is gone must not be taken for a new one.
        fs::remove_dir_all(&out).ok();
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        tonic_prost_build::configure()
            .btree_map(".")
            .out_dir(&out)
            .emit_rerun_if_changed(false)
            .compile_fds(descriptors)
            .context("cannot generate gRPC code")?;
        let mut made = BTreeMap::new();
        for path in files(&out, "rs")? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            made.insert(name, text);
        }
        Ok(made)
    }

    fn files(directory: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.context("cannot read a directory entry")?.path();
            if path.extension().is_some_and(|found| found == extension) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}
