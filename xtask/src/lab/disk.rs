//! The root of the machine with systemd: a small Debian on a disk, which each boot leaves behind for the next.
//!
//! The packages are unpacked and never configured, so what their scripts would have done and what the machine needs of it
//! is done here: users and groups, and the policy of SELinux, which is built once and loaded in the boot that
//! asks for it. No privilege is needed: the image is written by `mke2fs` from a directory.

use super::kernel::Kernel;
use super::packages::Packages;
use super::{Plan, Program, without_debug};
use anyhow::{Context, bail};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: u64 = 1 << 30;

const DIRECTORIES: [&str; 13] = [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "mnt",
    "var/log",
    "var/tmp",
    "usr/local/bin",
    "image/host",
    "image/proc",
    "etc/systemd/system/multi-user.target.wants",
];
/// Merged directories, and what names stand for.
const LINKS: [(&str, &str); 9] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "/run"),
    ("usr/bin/sh", "dash"),
    ("usr/sbin/modprobe", "../bin/kmod"),
    ("image/lib64", "usr/lib64"),
    ("image/lib", "usr/lib"),
];
/// What the machine has no use for and an emulated processor takes seconds over. The last would have the boot that asks
/// for SELinux label the disk, and boot once more; our program labels it.
const MASKED: [&str; 18] = [
    "getty.target",
    "systemd-logind.service",
    "systemd-user-sessions.service",
    "systemd-hwdb-update.service",
    "systemd-journal-flush.service",
    "systemd-random-seed.service",
    "systemd-binfmt.service",
    "systemd-pcrmachine.service",
    "ldconfig.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "e2scrub_reap.service",
    "selinux-autorelabel-mark.service",
];
/// Units that the machine is to start, and where they lie.
const ENABLED: [(&str, &str); 4] = [
    ("containerd.service", "/usr/lib/systemd/system"),
    ("crio.service", "/etc/systemd/system"),
    ("kubelet.service", "/etc/systemd/system"),
    ("lab.service", "/etc/systemd/system"),
];

/// containerd is the distribution's, with its unit; beside it stand-ins for two other units that start containers. Each
/// writes down what it finds when it starts.
pub const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "lab\n"),
    ("etc/fstab", ""),
    ("etc/machine-id", "1ab01ab01ab01ab01ab01ab01ab01ab0\n"),
    // As rdma-core has it loaded where there is RDMA.
    ("etc/modules-load.d/rdma.conf", "ib_uverbs\nib_umad\nrdma_ucm\n"),
    (
        "etc/systemd/system/lab.service",
        "[Unit]\nAfter=containerd.service\n[Service]\nType=exec\nExecStart=/usr/bin/lab-boot\n\
         StandardOutput=file:/dev/ttyS0\nStandardError=journal\nPassEnvironment=LAB_CASES LAB_BOOT\n",
    ),
    (
        "etc/systemd/system/containerd.service.d/witness.conf",
        "[Service]\nExecStartPre=/usr/bin/lab-boot witness containerd\n",
    ),
    (
        "etc/systemd/system/crio.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/lab-boot witness crio\n",
    ),
    (
        "etc/systemd/system/kubelet.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/lab-boot witness kubelet\n",
    ),
];

/// Makes the machine's disk anew and returns where it is.
pub fn make(
    packages: &Packages,
    kernel: &Kernel,
    plan: &Plan,
    programs: &[Program],
) -> anyhow::Result<PathBuf> {
    let tree = packages.system(finish)?;
    let lab = super::directory();
    let root = lab.join(format!("{}-root", plan.name));
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    // What is not changed is not copied.
    copy_by_links(&tree, &root)?;
    let modules = Path::new("usr/lib/modules");
    std::fs::create_dir_all(root.join(modules))?;
    let of_kernel = modules.join(&kernel.version);
    copy_by_links(&kernel.modules.join(&of_kernel), &root.join(&of_kernel))?;
    for directory in DIRECTORIES {
        std::fs::create_dir_all(root.join(directory))?;
    }
    let units = root.join("etc/systemd/system");
    for name in MASKED {
        symlink("/dev/null", units.join(name))?;
    }
    for (name, directory) in ENABLED {
        let wants = units.join("multi-user.target.wants").join(name);
        symlink(format!("{directory}/{name}"), wants)?;
    }
    for (name, target) in LINKS {
        let link = root.join(name);
        if link.symlink_metadata().is_err() {
            symlink(target, link)?;
        }
    }
    for (place, content) in plan.files {
        put(&root.join(place), content.as_bytes(), 0o644)?;
    }
    for program in programs {
        put(&root.join(program.place), &without_debug(&program.path)?, 0o755)?;
    }
    image_libraries(&root)?;
    // Newer than `/usr`: nothing is to be updated at the first boot.
    for place in ["etc/.updated", "var/.updated"] {
        put(&root.join(place), b"", 0o644)?;
    }
    let disk = lab.join(format!("disk-{}.img", plan.name));
    let file = std::fs::File::create(&disk)?;
    file.set_len(SIZE)?;
    let mut mke2fs = Command::new("unshare");
    mke2fs.arg("--map-root-user").arg(packages.loader()).arg("--library-path");
    mke2fs.arg(tree.join("usr/lib/x86_64-linux-gnu")).arg(tree.join("usr/sbin/mke2fs"));
    mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(&disk);
    // Without it, options come from this computer's file.
    quiet(mke2fs.env("MKE2FS_CONFIG", tree.join("etc/mke2fs.conf")))?;
    std::fs::remove_dir_all(&root)?;
    Ok(disk)
}

/// What the packages' own scripts would have done, once for the unpacked packages.
fn finish(tree: &Path) -> anyhow::Result<()> {
    for (name, target) in LINKS.iter().filter(|(name, _)| !name.contains('/')) {
        let link = tree.join(name);
        if link.symlink_metadata().is_err() {
            symlink(target, link)?;
        }
    }
    for directory in ["proc", "dev", "root"] {
        std::fs::create_dir_all(tree.join(directory))?;
    }
    put(&tree.join("etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\n", 0o644)?;
    put(&tree.join("etc/group"), b"root:x:0:\n", 0o644)?;
    put(&tree.join("etc/selinux/config"), b"SELINUX=enforcing\nSELINUXTYPE=default\n", 0o644)?;
    inside(tree, &["/usr/bin/systemd-sysusers"])?;
    policy(tree)?;
    // Nobody reads it there, and each of its files would be labelled.
    for place in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/selinux"] {
        match std::fs::remove_dir_all(tree.join(place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The policy as the package's script builds it: of all modules that it lists.
fn policy(tree: &Path) -> anyhow::Result<()> {
    let modules = "/usr/share/selinux/default";
    let list = std::fs::read_to_string(tree.join(&modules[1..]).join(".modules"))?;
    let files = list.split_whitespace().map(|module| format!("-i{modules}/{module}.pp.bz2"));
    let words = ["/usr/sbin/semodule", "-X", "100", "-n", "-s", "default"].map(str::to_owned);
    let words: Vec<String> = words.into_iter().chain(files).collect();
    inside(tree, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs a program of the tree with the tree as its root.
fn inside(tree: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-ec"]);
    unshare.arg(
        "mount --rbind /proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"; exec chroot \"$0\" \"$@\"",
    );
    unshare.arg(tree).args(words).env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin");
    quiet(&mut unshare)
}

/// What a program says is of interest only where it fails.
fn quiet(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("cannot start unshare, which comes with util-linux")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

/// The libraries of our programs, for the directory that stands for our container image.
fn image_libraries(root: &Path) -> anyhow::Result<()> {
    const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
    let image = root.join("image");
    for (place, name) in [
        ("usr/lib64", "ld-linux-x86-64.so.2"),
        (LIBRARIES, "libc.so.6"),
        (LIBRARIES, "libm.so.6"),
        (LIBRARIES, "libgcc_s.so.1"),
    ] {
        std::fs::create_dir_all(image.join(place))?;
        std::fs::copy(root.join(place).join(name), image.join(place).join(name))?;
    }
    Ok(())
}

fn copy_by_links(from: &Path, to: &Path) -> anyhow::Result<()> {
    quiet(Command::new("cp").args(["--archive", "--link"]).arg(from).arg(to))
}

/// Writes a file of its own: what lies there may be a link to a file of the packages.
fn put(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path.parent().with_context(told)?).with_context(told)?;
    let _ = std::fs::remove_file(path);
    std::fs::write(path, content).with_context(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).with_context(told)
}
