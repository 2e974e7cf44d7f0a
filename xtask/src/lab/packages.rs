//! Debian's packages for the lab, fetched by apt with lists and a cache of our own and unpacked below `target/lab`.
//!
//! The mirror is the one in the machine's own configuration; versions are what it offers today. `apt` believes that
//! nothing is installed, so it brings every library that QEMU needs, and QEMU runs with those, on any distribution that
//! has apt.

use crate::tools;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release that the lab is made of: the first stable one whose QEMU has an SR-IOV card.
const SUITE: &str = "trixie";
/// The emulator, and the userland of the machine.
const WANTED: [&str; 3] = ["qemu-system-x86", "kmod", "busybox-static"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What was fetched and unpacked.
pub struct Packages {
    /// QEMU, the userland, and all libraries of both.
    pub userland: PathBuf,
    /// The kernel with its modules.
    pub kernel: PathBuf,
    /// Its version: `6.12.107+deb13-amd64`.
    pub version: String,
}

impl Packages {
    /// The release's program loader.
    pub fn loader(&self) -> PathBuf {
        self.userland.join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    }

    /// A program of the userland, called `name`, started by the loader that belongs to its libraries.
    pub fn program(&self, name: &str, path: &str) -> Command {
        let libraries = self.userland.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(self.loader());
        command.arg("--argv0").arg(name).arg("--library-path").arg(libraries);
        command.arg(self.userland.join(path));
        command
    }
}

/// The packages, fetched and unpacked where they are not there yet.
pub fn ready() -> anyhow::Result<Packages> {
    let lab = super::directory();
    let (userland, kernel) = (lab.join("userland"), lab.join("kernel"));
    let note = lab.join("kernel-version");
    // The version, and the list that was fetched with it: another list, other packages.
    let known = std::fs::read_to_string(&note).unwrap_or_default();
    if let Some((version, list)) = known.split_once(' ')
        && list == WANTED.join(" ")
    {
        return Ok(Packages { userland, kernel, version: version.to_owned() });
    }
    let apt = Apt::new(&lab.join("apt"))?;
    apt.update()?;
    let image = apt.kernel_package()?;
    let mut fetched = apt.install(&WANTED)?;
    fetched.extend(apt.download(&image)?);
    for directory in [&userland, &kernel] {
        if directory.exists() {
            std::fs::remove_dir_all(directory)?;
        }
        std::fs::create_dir_all(directory)?;
    }
    for package in &fetched {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = if name.starts_with("linux-image-") { &kernel } else { &userland };
        extract(package, place)?;
    }
    let version = image.trim_start_matches("linux-image-").to_owned();
    super::write_whole(&note, format!("{version} {}", WANTED.join(" ")).as_bytes())?;
    Ok(Packages { userland, kernel, version })
}

fn extract(package: &Path, place: &Path) -> anyhow::Result<()> {
    let status = Command::new("dpkg-deb").arg("--extract").arg(package).arg(place).status();
    if !status.context("cannot start dpkg-deb")?.success() {
        bail!("cannot unpack {}", package.display());
    }
    Ok(())
}

/// apt with a state of its own.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn new(directory: &Path) -> anyhow::Result<Self> {
        let directory = directory.to_owned();
        std::fs::create_dir_all(directory.join("lists/partial"))?;
        std::fs::create_dir_all(directory.join("cache/archives/partial"))?;
        // Nothing is installed: every library comes along.
        std::fs::write(directory.join("status"), "")?;
        let mirror = mirror()?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n");
        std::fs::write(directory.join("sources.list"), source)?;
        Ok(Self { directory })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let options = [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ];
        for (option, name) in options {
            command.arg("-o").arg(format!("{option}={}", self.directory.join(name).display()));
        }
        command.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Acquire::Languages=none"]);
        // Downloading needs no lock of the system's and no other user.
        command.args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-qq"]);
        command
    }

    fn update(&self) -> anyhow::Result<()> {
        tools::run(self.command("apt-get").arg("update"))
    }

    /// The kernel that the release's meta package stands for today.
    fn kernel_package(&self) -> anyhow::Result<String> {
        let output = self.command("apt-cache").args(["depends", "linux-image-amd64"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let name = names.find(|name| name.starts_with("linux-image-"));
        Ok(name.with_context(|| format!("{SUITE} has no kernel package: {text:?}"))?.to_owned())
    }

    /// Fetches packages with all that they need, and returns the files.
    fn install(&self, wanted: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut install = self.command("apt-get");
        install.args(["install", "--yes", "--no-install-recommends", "--download-only"]);
        tools::run(install.args(wanted))?;
        self.archives("cache/archives")
    }

    /// Fetches one package alone.
    fn download(&self, package: &str) -> anyhow::Result<Vec<PathBuf>> {
        let place = self.directory.join("alone");
        std::fs::create_dir_all(&place)?;
        tools::run(self.command("apt-get").current_dir(&place).args(["download", package]))?;
        self.archives("alone")
    }

    fn archives(&self, below: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.directory.join(below))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The mirror of Debian in this machine's configuration: the one that most package lists come from.
fn mirror() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    let output = command.args(["indextargets", "--format", "$(SITE)"]).output();
    let output = output.context("cannot start apt-get; the lab is made of Debian's packages")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sites: Vec<&str> = text.lines().filter(|site| !site.contains("security")).collect();
    let often = |site: &&&str| sites.iter().filter(|other| other == site).count();
    let site = sites.iter().max_by_key(often);
    Ok((*site.context("this machine's apt knows no mirror of Debian")?).to_owned())
}
