//! Debian's packages for the lab, fetched by apt with lists and a cache of our own and unpacked below `target/lab`.
//!
//! The mirror is the one in the machine's own configuration; versions are what it offers today. `apt` believes that
//! nothing is installed, so it brings every library that QEMU needs, and QEMU runs with those, on any distribution that
//! has apt.

use crate::tools;
use anyhow::{Context, bail};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// The release that the lab is made of: the first stable one whose QEMU has an SR-IOV card.
const SUITE: &str = "trixie";
/// Newer kernels for it.
const BACKPORTS: &str = "trixie-backports";
/// The emulator, and the userland of the machines.
const WANTED: [&str; 10] = [
    "qemu-system-x86",
    "kmod",
    "busybox-static",
    "iproute2",
    "ibverbs-utils",
    "ibverbs-providers",
    "rdmacm-utils",
    "containernetworking-plugins",
    "containerd",
    "runc",
];
/// The systemd machine's root: a small Debian with a container runtime, and with a policy for SELinux.
const SYSTEM: [&str; 16] = [
    "systemd",
    "systemd-sysv",
    "udev",
    "kmod",
    "mount",
    "util-linux",
    "dash",
    "coreutils",
    "sed",
    "grep",
    "e2fsprogs",
    "busybox-static",
    "containerd",
    "runc",
    "policycoreutils",
    "selinux-policy-default",
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which kernel of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Track {
    /// The release's own
    Stable,
    /// The newest that is made for the release, with the soft RDMA driver that moves
    Newest,
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stable => "stable",
            Self::Newest => "newest",
        })
    }
}

/// What was fetched and unpacked.
pub struct Packages {
    /// QEMU, the userland, and all libraries of both.
    pub userland: PathBuf,
    apt: Apt,
}

/// A kernel's packages.
pub struct KernelPackages {
    pub directory: PathBuf,
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

    /// The kernel that a track stands for today, or stood for when it was fetched.
    pub fn kernel(&self, track: Track) -> anyhow::Result<KernelPackages> {
        let directory = super::directory().join(format!("kernel-{track}"));
        let note = super::directory().join(format!("kernel-{track}.version"));
        if let Ok(version) = std::fs::read_to_string(&note) {
            return Ok(KernelPackages { directory, version });
        }
        self.apt.update()?;
        let version = self.apt.kernel_version(track)?;
        // Newer kernels come in parts.
        let parts = ["binary", "modules", "base"].map(|part| format!("linux-{part}-{version}"));
        let wanted = match self.apt.knows(&parts[0]) {
            true => parts.to_vec(),
            false => vec![format!("linux-image-{version}")],
        };
        unpack(&self.apt.download(&wanted, &format!("kernel-{track}"))?, &directory)?;
        super::write_whole(&note, version.as_bytes())?;
        Ok(KernelPackages { directory, version })
    }

    /// False once the mirror has a newer kernel in the place of this one, which then cannot be built for any more.
    pub fn has_headers(&self, version: &str) -> anyhow::Result<bool> {
        self.apt.update()?;
        Ok(self.apt.knows(&format!("linux-headers-{version}")))
    }

    /// The next question for the kernel of a track is the mirror's to answer.
    pub fn forget_kernel(&self, track: Track) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(super::directory().join(format!("kernel-{track}.version")))?)
    }

    /// The tree of the systemd machine's root. `finish` does once what the packages' own scripts would have done.
    pub fn system(&self, finish: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        self.apt.tree("system", &SYSTEM, finish)
    }

    /// Unpacks tools with all that they need, and a kernel's headers, into a tree; returns the kernel's packed source.
    pub fn builder(&self, tools: &[&str], version: &str, tree: &Path) -> anyhow::Result<PathBuf> {
        self.apt.update()?;
        let line: Vec<&str> = version.split('.').take(2).collect();
        let source = format!("linux-source-{}", line.join("."));
        let headers = format!("linux-headers-{version}");
        let wanted: Vec<&str> = tools.iter().copied().chain([headers.as_str()]).collect();
        let mut fetched = self.apt.install(&wanted, "builder")?;
        // Alone: the packages that a kernel's source needs are for people who configure one.
        fetched.extend(self.apt.download(std::slice::from_ref(&source), "source")?);
        unpack(&fetched, tree)?;
        Ok(tree.join("usr/src").join(format!("{source}.tar.xz")))
    }
}

/// The packages, fetched and unpacked where they are not there yet.
pub fn ready() -> anyhow::Result<Packages> {
    let lab = super::directory();
    let apt = Apt::new(&lab.join("apt"))?;
    let userland = apt.tree("userland", &WANTED, |_| Ok(()))?;
    Ok(Packages { userland, apt })
}

/// Unpacks packages into a new directory.
fn unpack(packages: &[PathBuf], place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        std::fs::remove_dir_all(place)?;
    }
    std::fs::create_dir_all(place)?;
    for package in packages {
        let status = Command::new("dpkg-deb").arg("--extract").arg(package).arg(place).status();
        if !status.context("cannot start dpkg-deb")?.success() {
            bail!("cannot unpack {}", package.display());
        }
    }
    Ok(())
}

/// apt with a state of its own.
struct Apt {
    directory: PathBuf,
    updated: AtomicBool,
}

impl Apt {
    fn new(directory: &Path) -> anyhow::Result<Self> {
        let directory = directory.to_owned();
        std::fs::create_dir_all(directory.join("lists/partial"))?;
        // Nothing is installed: every library comes along.
        std::fs::write(directory.join("status"), "")?;
        let mirror = mirror()?;
        let line = |suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        std::fs::write(directory.join("sources.list"), line(SUITE) + &line(BACKPORTS))?;
        Ok(Self { directory, updated: AtomicBool::new(false) })
    }

    /// A program of apt's, whose downloads go to a cache of their own.
    fn command(&self, program: &str, cache: &str) -> Command {
        let mut command = Command::new(program);
        let options = [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", cache),
        ];
        for (option, name) in options {
            command.arg("-o").arg(format!("{option}={}", self.directory.join(name).display()));
        }
        command.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Acquire::Languages=none"]);
        // Downloading needs no lock of the system's and no other user.
        command.args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-qq"]);
        command
    }

    /// Packages with all that they need, unpacked in `target/lab/<name>`, if they are not there yet.
    fn tree(
        &self,
        name: &str,
        wanted: &[&str],
        finish: impl Fn(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let tree = super::directory().join(name);
        // The list that was fetched: another list, other packages.
        let note = super::directory().join(format!("{name}.list"));
        if std::fs::read_to_string(&note).ok() != Some(wanted.join(" ")) {
            self.update()?;
            unpack(&self.install(wanted, name)?, &tree)?;
            finish(&tree)?;
            super::write_whole(&note, wanted.join(" ").as_bytes())?;
        }
        Ok(tree)
    }

    /// Once in a run is enough.
    fn update(&self) -> anyhow::Result<()> {
        if !self.updated.swap(true, Ordering::Relaxed) {
            tools::run(self.command("apt-get", "lists-cache").arg("update"))?;
        }
        Ok(())
    }

    fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command("apt-cache", "lists-cache").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn knows(&self, package: &str) -> bool {
        self.ask(&["show", package]).is_ok_and(|text| text.contains("Version:"))
    }

    /// The version of the kernel that the release's meta package stands for today.
    fn kernel_version(&self, track: Track) -> anyhow::Result<String> {
        let suite = match track {
            Track::Stable => SUITE,
            Track::Newest => BACKPORTS,
        };
        let release = format!("APT::Default-Release={suite}");
        let text = self.ask(&["-o", &release, "depends", "linux-image-amd64"])?;
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let version = names.find_map(|name| name.strip_prefix("linux-image-"));
        Ok(version.with_context(|| format!("{suite} has no kernel package: {text:?}"))?.to_owned())
    }

    /// Fetches packages with all that they need, and returns the files. The cache may hold other versions of them too,
    /// of a day before: apt says which ones it means.
    fn install(&self, wanted: &[&str], cache: &str) -> anyhow::Result<Vec<PathBuf>> {
        let place = self.directory.join(cache).join("archives");
        std::fs::create_dir_all(place.join("partial"))?;
        let install = |how: &str| {
            let mut install = self.command("apt-get", cache);
            install.args(["install", "--yes", "--no-install-recommends", how]).args(wanted);
            install
        };
        tools::run(&mut install("--download-only"))?;
        let told = install("--simulate").output().context("cannot start apt-get")?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let files: Vec<PathBuf> =
            told.lines().filter_map(to_be_installed).map(|file| place.join(file)).collect();
        are_there(files, &told)
    }

    /// Fetches packages alone.
    fn download(&self, packages: &[String], cache: &str) -> anyhow::Result<Vec<PathBuf>> {
        let place = self.directory.join(cache);
        std::fs::create_dir_all(&place)?;
        let download = |directory: &Path| {
            let mut download = self.command("apt-get", "lists-cache");
            download.current_dir(directory).arg("download").args(packages);
            download
        };
        tools::run(&mut download(&place))?;
        // Where the files are, apt has nothing to name.
        let told = download(&self.directory).arg("--print-uris").output();
        let told = told.context("cannot start apt-get")?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        // `'http://…' name_version_architecture.deb size checksum`
        let files = told.lines().filter_map(|line| line.split(' ').nth(1));
        are_there(files.map(|file| place.join(file)).collect(), &told)
    }
}

/// The file of a package that apt would install: `Inst name (1:2.3-4 Debian:13.1/stable [amd64])`.
fn to_be_installed(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let (chosen, _) = rest.split_once(')')?;
    let name = name.split(' ').next()?;
    let version = chosen.split(' ').next()?.replace(':', "%3a");
    let architecture = chosen.rsplit_once('[')?.1.trim_end_matches(']');
    Some(format!("{name}_{version}_{architecture}.deb"))
}

/// The files that apt named, in an order of their own: one that unpacks over another's files does so each time.
fn are_there(mut files: Vec<PathBuf>, told: &str) -> anyhow::Result<Vec<PathBuf>> {
    files.sort();
    match files.iter().find(|file| !file.exists()) {
        Some(missing) => bail!("apt has not fetched {}", missing.display()),
        None if files.is_empty() => bail!("apt names no package to fetch: {told:?}"),
        None => Ok(files),
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

#[cfg(test)]
mod tests {
    use super::to_be_installed;

    #[test]
    fn what_apt_would_install_is_a_file_of_its_cache() {
        let told = "Inst libc6 (2.41-12 Debian:13.1/stable [amd64])
Inst kmod [34-1] (1:34.2-2 Debian:13.1/stable, Debian-Security:13 [amd64]) []
Inst base-files (13.8+deb13u1 Debian:13.1/stable [all])
Conf libc6 (2.41-12 Debian:13.1/stable [amd64])";
        let files: Vec<String> = told.lines().filter_map(to_be_installed).collect();
        expect_test::expect![[r#"
            libc6_2.41-12_amd64.deb
            kmod_1%3a34.2-2_amd64.deb
            base-files_13.8+deb13u1_all.deb"#]]
        .assert_eq(&files.join("\n"));
    }
}
