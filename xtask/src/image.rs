//! `cargo xtask image`: our two container images as archives that every container tool loads, without any container tool.
//!
//! Each holds our programs and nothing else, no library and no shell; `cat` and `rdma` are `ironrail-node` by another name.
//! The CNI plugin and `ironrail-node` (for the boot phases) are copied to nodes that we know nothing of, so all is linked
//! statically; names are resolved all the same, since glibc 2.34 has files and DNS in itself.
//! The same programs give the same archive: files are in order and have no time and no owner.

use crate::tools;
use anyhow::{Context, bail};
use clap::Args;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
pub struct Arguments {
    /// How the programs are built; `dev` where it has to be quick
    #[arg(long, default_value = "release-image")]
    profile: String,
    /// Part of the images' names before `/operator` and `/node`, for a registry of your own
    #[arg(long, default_value = "ironrail")]
    repository: String,
}

/// One image: what it is called, and what it can run.
struct Image {
    name: &'static str,
    programs: Vec<PathBuf>,
    /// Other names of the first program.
    links: &'static [&'static str],
    /// Number of the user whose programs these are, when nobody says otherwise.
    user: &'static str,
}

/// Directories on which the manifests mount something: there, a read-only root need not be written to.
const MOUNT_POINTS: [&str; 5] = ["dev", "host", "proc", "sys", "tmp"];

/// Builds programs and archives, and says how to load them.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let built = build(&arguments.profile, &["ironrail-operator", "ironrail-node"])?;
    let cni = build_cni()?;
    let images = [
        Image {
            name: "operator",
            programs: vec![built.join("ironrail-operator")],
            links: &[],
            user: "65532",
        },
        Image {
            name: "node",
            programs: vec![built.join("ironrail-node"), cni],
            links: &["cat", "rdma"],
            user: "0",
        },
    ];
    for image in &images {
        let tag = format!("{}/{}:{}", arguments.repository, image.name, env!("CARGO_PKG_VERSION"));
        let archive = archive(image, &tag)?;
        let size = fs::metadata(&archive)?.len() / (1024 * 1024);
        println!("{}: {tag}, {size} MiB", archive.display());
    }
    println!(
        "load them with `docker load -i`, `podman load -i`, `ctr -n k8s.io images import` or `kind load image-archive`"
    );
    Ok(())
}

/// Programs, and only they, are linked statically, by a wrapper of the compiler: dependencies are those of every other build.
fn statically(cargo: &mut Command, link: &str) {
    cargo.env("RUSTC_WORKSPACE_WRAPPER", tools::root().join("xtask/statically"));
    cargo.env("LINK", link);
}

/// Builds programs for an image, and says where they are. The whole workspace, so that features and with them dependencies are
/// those of every other build.
pub fn build(profile: &str, bins: &[&str]) -> anyhow::Result<PathBuf> {
    let mut cargo = tools::cargo();
    cargo.args(["build", "--workspace", "--profile", profile]);
    statically(&mut cargo, "");
    cargo.args(bins.iter().flat_map(|bin| ["--bin", bin]));
    tools::run(&mut cargo)?;
    Ok(tools::target().join(if profile == "dev" { "debug" } else { profile }))
}

/// The CNI plugin, which is its own smallest. It ends where it panics, so the table for whoever unwinds its stack is of no
/// use: 29 KiB.
pub fn build_cni() -> anyhow::Result<PathBuf> {
    let mut cargo = tools::cargo();
    cargo.args(["build", "--profile", "release-small", "--package", "cni"]);
    statically(&mut cargo, "-C link-arg=-Wl,--no-eh-frame-hdr");
    tools::run(&mut cargo)?;
    Ok(cni())
}

/// Where that is.
pub fn cni() -> PathBuf {
    tools::target().join("release-small/ironrail-cni")
}

/// Makes the archive of an image in the format of `docker save`: layer, configuration, and a list of both.
fn archive(image: &Image, tag: &str) -> anyhow::Result<PathBuf> {
    let directory = tools::target().join("image").join(image.name);
    let root = fill(image, &fresh(&directory.join("root"))?)?;
    let parts = fresh(&directory.join("parts"))?;
    tar(&root, &parts.join("layer.tar"))?;
    let layer = sha256(&parts.join("layer.tar"))?;
    write(&parts.join("config.json"), &configuration(image, &layer))?;
    let config = format!("{}.json", sha256(&parts.join("config.json"))?);
    fs::rename(parts.join("config.json"), parts.join(&config))?;
    let list = format!(r#"[{{"Config":"{config}","RepoTags":["{tag}"],"Layers":["layer.tar"]}}]"#);
    write(&parts.join("manifest.json"), &list)?;
    let archive = tools::target().join("image").join(format!("{}.tar", image.name));
    tar(&parts, &archive)?;
    fs::remove_dir_all(&parts)?;
    Ok(archive)
}

/// What the image says of itself: the manifests name the program to run, so there is no entry point.
fn configuration(image: &Image, layer: &str) -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels = format!(
        r#"{{"org.opencontainers.image.title":"ironrail {}","org.opencontainers.image.version":"{}","org.opencontainers.image.licenses":"{}","org.opencontainers.image.source":"{}"}}"#,
        image.name,
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_LICENSE"),
        env!("CARGO_PKG_REPOSITORY"),
    );
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","created":"1970-01-01T00:00:00Z","config":{{"Env":["PATH=/usr/bin"],"User":"{}","WorkingDir":"/","Labels":{labels}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}},"history":[{{"created":"1970-01-01T00:00:00Z","created_by":"cargo xtask image"}}]}}"#,
        image.user
    )
}

/// An empty directory in place of whatever was there.
fn fresh(directory: &Path) -> anyhow::Result<PathBuf> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.to_owned())
}

/// Puts programs and their other names into the root directory.
fn fill(image: &Image, root: &Path) -> anyhow::Result<PathBuf> {
    for point in MOUNT_POINTS {
        fs::create_dir(root.join(point))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for program in &image.programs {
        let name = program.file_name().context("a program has a name")?;
        copy(program, &root.join("usr/bin").join(name))?;
    }
    let first = image.programs.first().and_then(|program| program.file_name());
    for link in image.links {
        symlink(first.context("an image has a program")?, root.join("usr/bin").join(link))?;
    }
    Ok(root.to_owned())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Packs what is in a directory, so that the same files give the same bytes.
fn tar(directory: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name", "--mtime=@0"]);
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "--mode=a+rX"]);
    tar.arg("--file").arg(archive).arg("--directory").arg(directory);
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<_> = entries.iter().map(fs::DirEntry::file_name).collect();
    let status = tar.args(names).status().context("cannot start tar")?;
    if !status.success() {
        bail!("tar could not pack {}: {status}", directory.display());
    }
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let output = Command::new("sha256sum").arg(path).output().context("cannot start sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let sum = text.split_whitespace().next().filter(|sum| sum.len() == 64);
    sum.map(str::to_owned).with_context(|| format!("sha256sum could not read {}", path.display()))
}
