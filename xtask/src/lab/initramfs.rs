//! The machine's root: an archive that the kernel unpacks into memory, written here entry by entry (cpio, "newc").

use super::kernel::Kernel;
use super::packages::Packages;
use super::{Plan, Program, without_debug};
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that busybox stands for.
const BUSYBOX: [&str; 8] = ["sh", "mount", "mkdir", "ln", "cat", "sync", "poweroff", "sleep"];
/// Programs that kmod stands for: the real ones, since our cases are about what they do.
const KMOD: [&str; 4] = ["modprobe", "rmmod", "insmod", "lsmod"];
const DIRECTORIES: [&str; 20] = [
    "opt",
    "opt/cni",
    "opt/cni/bin",
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "etc",
    "etc/modprobe.d",
    "root",
    "var",
    "var/lib",
    "usr",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/lib/modules",
];

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Puts the machine's root together and returns where it is.
pub fn make(
    packages: &Packages,
    kernel: &Kernel,
    plan: &Plan,
    programs: &[Program],
) -> anyhow::Result<PathBuf> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.add(directory, DIRECTORY | 0o755, b"");
    }
    for (name, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        archive.link(name, target);
    }
    let busybox = std::fs::read(packages.userland.join("usr/bin/busybox"))?;
    archive.add("usr/bin/busybox", FILE | 0o755, &busybox);
    for name in BUSYBOX {
        archive.link(&format!("usr/bin/{name}"), "busybox");
    }
    let mut libraries = Libraries { packages, known: BTreeSet::new() };
    let kmod = packages.userland.join("usr/bin/kmod");
    archive.add("usr/bin/kmod", FILE | 0o755, &std::fs::read(&kmod)?);
    for name in KMOD {
        archive.link(&format!("usr/sbin/{name}"), "../bin/kmod");
    }
    libraries.add(&mut archive, &kmod)?;
    for (path, place) in plan.tools {
        let path = packages.userland.join(path);
        let content = std::fs::read(&path).with_context(|| format!("no {}", path.display()))?;
        archive.add(place, FILE | 0o755, &content);
        libraries.add(&mut archive, &path)?;
    }
    if !plan.tools.is_empty() {
        libraries.verbs(&mut archive)?;
    }
    for (place, content) in plan.files {
        archive.add(place, FILE | 0o644, content.as_bytes());
    }
    for program in programs {
        archive.add(program.place, FILE | 0o755, &without_debug(&program.path)?);
        libraries.add(&mut archive, &program.path)?;
    }
    archive.add("usr/lib64/ld-linux-x86-64.so.2", FILE | 0o755, &std::fs::read(packages.loader())?);
    archive.tree(&kernel.modules.join("usr/lib/modules"), "usr/lib/modules")?;
    archive.add("init", FILE | 0o755, include_bytes!("../../../lab/init"));
    let path = super::directory().join(format!("initramfs-{}.cpio", plan.name));
    super::write_whole(&path, &archive.finish())?;
    Ok(path)
}

/// What a machine with a disk needs before it has its root: the modules, and what mounts the disk.
pub fn for_disk(packages: &Packages, kernel: &Kernel, plan: &Plan) -> anyhow::Result<PathBuf> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "modules", "new"] {
        archive.add(directory, DIRECTORY | 0o755, b"");
    }
    let busybox = std::fs::read(packages.userland.join("usr/bin/busybox"))?;
    archive.add("bin/busybox", FILE | 0o755, &busybox);
    for name in ["sh", "mount", "insmod", "switch_root"] {
        archive.link(&format!("bin/{name}"), "busybox");
    }
    for (number, module) in kernel.for_its_disk()?.iter().enumerate() {
        let name = format!("modules/{number:02}.ko");
        archive.add(&name, FILE | 0o644, &std::fs::read(module)?);
    }
    archive.add("init", FILE | 0o755, include_bytes!("../../../lab/init-disk"));
    let path = super::directory().join(format!("initramfs-{}.cpio", plan.name));
    super::write_whole(&path, &archive.finish())?;
    Ok(path)
}

/// The shared libraries in the machine: the release's own, which are newer than what our programs were linked with.
struct Libraries<'a> {
    packages: &'a Packages,
    known: BTreeSet<String>,
}

impl Libraries<'_> {
    /// Adds what the loader names for a program.
    fn add(&mut self, archive: &mut Archive, program: &Path) -> anyhow::Result<()> {
        let directory = self.packages.userland.join("usr/lib/x86_64-linux-gnu");
        let mut list = Command::new(self.packages.loader());
        let output =
            list.arg("--library-path").arg(&directory).arg("--list").arg(program).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!(
                "{} cannot run on the lab's C library, which is older than this computer's: {why}",
                program.display()
            )
        }
        let paths = text.lines().filter_map(|line| line.split_once("=> ")?.1.split(' ').next());
        for path in paths.filter(|path| path.starts_with('/')) {
            let name = Path::new(path).file_name().context("a library has a name")?;
            let name = name.to_string_lossy().into_owned();
            if self.known.insert(name.clone()) {
                let place = format!("usr/lib/x86_64-linux-gnu/{name}");
                archive.add(&place, FILE | 0o755, &std::fs::read(path)?);
            }
        }
        Ok(())
    }
}

impl Libraries<'_> {
    /// What libibverbs opens by name for a soft RDMA device: the name of its driver, and that driver.
    fn verbs(&mut self, archive: &mut Archive) -> anyhow::Result<()> {
        const DRIVERS: &str = "usr/lib/x86_64-linux-gnu/libibverbs";
        for directory in ["etc/libibverbs.d", DRIVERS] {
            archive.add(directory, DIRECTORY | 0o755, b"");
        }
        archive.add("etc/libibverbs.d/rxe.driver", FILE | 0o644, b"driver rxe\n");
        let directory = self.packages.userland.join(DRIVERS);
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().context("a library has a name")?.to_string_lossy();
            if name.starts_with("librxe") {
                archive.add(&format!("{DRIVERS}/{name}"), FILE | 0o755, &std::fs::read(&path)?);
                self.add(archive, &path)?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn link(&mut self, name: &str, target: &str) {
        self.add(name, LINK | 0o777, target.as_bytes());
    }

    fn tree(&mut self, from: &Path, to: &str) -> anyhow::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(from)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{to}/{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.add(&name, DIRECTORY | 0o755, b"");
                self.tree(&entry.path(), &name)?;
            } else {
                let mode = metadata.permissions().mode() & 0o777;
                self.add(&name, FILE | mode, &std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// One entry; format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // Inode, mode, uid, gid, links, time, size, four device numbers, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}
