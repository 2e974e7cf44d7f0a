//! Two soft drivers of a kernel with a few changes, built out of tree in a root made of Debian's packages.
//!
//! rxe as it is knows no PCI device and dies with its interface's move. With the changes it is, for whoever looks from
//! outside, an RDMA device on each VF, as a ConnectX card has one. It shows how ib_core behaves, and nothing of mlx5.
//! netdevsim, which Debian leaves out, has an embedded switch; with its changes devlink knows it as a PCI device, with the
//! permanent parameters of a card whose firmware does SR-IOV. It shows how devlink behaves, and nothing of a card.

use super::packages::{KernelPackages, Packages};
use crate::tools;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What building a module takes; apt brings what they need, and the headers bring their compiler.
const TOOLS: [&str; 8] =
    ["base-files", "make", "binutils", "coreutils", "dash", "sed", "grep", "mawk"];

/// One change: file, the text that it goes by, and what is put there instead.
struct Change {
    file: &'static str,
    text: &'static str,
    becomes: &'static str,
}

/// A driver of the kernel's source, built as a module.
struct Driver {
    module: &'static str,
    /// Below the kernel's source.
    directory: &'static str,
    /// What make is told.
    options: &'static [&'static str],
    changes: &'static [Change],
}

const DRIVERS: [Driver; 2] = [
    Driver {
        module: "rdma_rxe",
        directory: "drivers/infiniband/sw/rxe",
        options: &["CONFIG_RDMA_RXE=m"],
        changes: &SOFT_RDMA,
    },
    Driver {
        module: "netdevsim",
        directory: "drivers/net/netdevsim",
        // The kernel that this is for was configured without it.
        options: &["CONFIG_NETDEVSIM=m", "KCFLAGS=-DCONFIG_NETDEVSIM_MODULE"],
        changes: &SOFT_SWITCH,
    },
];

/// Devlink's name of a device is that of its bus and its own: a function of an otherwise unused PCI bus. What is set in its
/// firmware is kept and does nothing, as on a card until its next boot.
const SOFT_SWITCH: [Change; 4] = [
    Change {
        file: "dev.c",
        text: "static const struct devlink_param nsim_devlink_params[] = {\n",
        becomes: "static bool nsim_sriov;\nstatic u32 nsim_total_vfs = 4;\n\n\
            static int nsim_firmware_get(struct devlink *devlink, u32 id,\n\
            \tstruct devlink_param_gset_ctx *ctx, struct netlink_ext_ack *extack)\n{\n\
            \tif (id == DEVLINK_PARAM_GENERIC_ID_ENABLE_SRIOV)\n\t\tctx->val.vbool = nsim_sriov;\n\
            \telse\n\t\tctx->val.vu32 = nsim_total_vfs;\n\treturn 0;\n}\n\n\
            static int nsim_firmware_set(struct devlink *devlink, u32 id,\n\
            \tstruct devlink_param_gset_ctx *ctx, struct netlink_ext_ack *extack)\n{\n\
            \tif (id == DEVLINK_PARAM_GENERIC_ID_ENABLE_SRIOV)\n\t\tnsim_sriov = ctx->val.vbool;\n\
            \telse\n\t\tnsim_total_vfs = ctx->val.vu32;\n\treturn 0;\n}\n\n\
            static const struct devlink_param nsim_devlink_params[] = {\n\
            \tDEVLINK_PARAM_GENERIC(ENABLE_SRIOV, BIT(DEVLINK_PARAM_CMODE_PERMANENT),\n\
            \t\tnsim_firmware_get, nsim_firmware_set, NULL),\n\
            \tDEVLINK_PARAM_GENERIC(TOTAL_VFS, BIT(DEVLINK_PARAM_CMODE_PERMANENT),\n\
            \t\tnsim_firmware_get, nsim_firmware_set, NULL),\n",
    },
    Change {
        file: "bus.c",
        text: "static const struct bus_type nsim_bus = {",
        becomes: "static struct bus_type nsim_bus = {",
    },
    Change {
        file: "bus.c",
        text: "\terr = driver_register(&nsim_driver);\n",
        becomes: "\tnsim_bus.name = \"pci\";\n\terr = driver_register(&nsim_driver);\n",
    },
    Change {
        file: "bus.c",
        text: "\tnsim_bus_dev->port_count = port_count;\n",
        becomes: "\tdev_set_name(&nsim_bus_dev->dev, \"0000:%02x:00.0\", id);\n\
            \tnsim_bus_dev->port_count = port_count;\n",
    },
];

const SOFT_RDMA: [Change; 3] = [
    // The parent is what stands below the PCI device in sysfs.
    Change {
        file: "rxe_verbs.c",
        text: "\terr = ib_device_set_netdev(",
        becomes: "\trxe->ib_dev.dev.parent = ndev->dev.parent;\n\terr = ib_device_set_netdev(",
    },
    // An interface that only changes its namespace keeps its RDMA device, which listens where the interface goes.
    Change {
        file: "rxe_net.c",
        text: "\tcase NETDEV_UNREGISTER:\n",
        becomes: "\tcase NETDEV_REGISTER:\n\t\trxe_net_init(ndev);\n\t\tbreak;\n\
            \tcase NETDEV_UNREGISTER:\n\t\tif (ndev->reg_state == NETREG_REGISTERED) {\n\
            \t\t\trxe_net_del(&rxe->ib_dev);\n\t\t\tbreak;\n\t\t}\n",
    },
    // The first queue pair is made again in the new namespace, and must find its place free.
    Change {
        file: "rxe_qp.c",
        text: "\tstruct rxe_qp *qp = container_of(elem, typeof(*qp), elem);\n",
        becomes: "\tstruct rxe_qp *qp = container_of(elem, typeof(*qp), elem);\n\n\
            \tif (qp_type(qp) == IB_QPT_GSI)\n\t\tto_rdev(qp->ibqp.device)->port.qp_gsi_index = 0;\n",
    },
];

/// The modules by their names, as they are built for this kernel and these changes; None where they are not yet.
pub fn built(kernel: &KernelPackages) -> Option<Vec<(&'static str, PathBuf)>> {
    let modules = places(kernel);
    let is_there = modules.iter().all(|(_, module)| module.exists());
    let noted = std::fs::read_to_string(note()).ok();
    (is_there && noted == Some(wanted(kernel))).then(|| modules.into())
}

fn places(kernel: &KernelPackages) -> [(&'static str, PathBuf); DRIVERS.len()] {
    let place = |module: &str| format!("{module}-{}.ko", kernel.version);
    DRIVERS.map(|Driver { module, .. }| (module, super::directory().join(place(module))))
}

/// What the modules that are there were built from.
fn note() -> PathBuf {
    super::directory().join("drivers.changes")
}

fn wanted(kernel: &KernelPackages) -> String {
    let changes = DRIVERS.iter().flat_map(|driver| driver.changes).map(|change| change.becomes);
    format!("{}\n{}", kernel.version, changes.collect::<String>())
}

/// Builds the modules.
pub fn build(
    packages: &Packages,
    kernel: &KernelPackages,
) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let lab = super::directory();
    let modules = places(kernel);
    let tree = lab.join("builder");
    let source = packages.builder(&TOOLS, &kernel.version, &tree)?;
    links(&tree)?;
    extract(&tree, &source)?;
    for (driver, (name, module)) in DRIVERS.iter().zip(&modules) {
        let place = tree.join(driver.directory);
        driver.changes.iter().try_for_each(|change| change.apply(&place))?;
        make(&kernel.version, &tree, driver)?;
        let built = super::without_debug(&place.join(format!("{name}.ko")))?;
        super::write_whole(module, &built)?;
    }
    super::write_whole(&note(), wanted(kernel).as_bytes())?;
    // Much that nobody needs again.
    std::fs::remove_dir_all(&tree)?;
    Ok(modules.into())
}

/// What the packages' own scripts would have made, had they been run.
fn links(tree: &Path) -> anyhow::Result<()> {
    let links = [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("usr/bin/sh", "dash"),
        ("usr/bin/awk", "mawk"),
    ];
    for (link, target) in links {
        let link = tree.join(link);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(target, &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    for directory in ["proc", "dev", "tmp"] {
        std::fs::create_dir_all(tree.join(directory))?;
    }
    Ok(())
}

/// The drivers' directories out of the kernel's source: it is unpacked once.
fn extract(tree: &Path, source: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(source).arg("-C").arg(tree);
    tar.args(["--strip-components=1", "--wildcards"]);
    tar.args(DRIVERS.iter().map(|driver| format!("linux-source-*/{}", driver.directory)));
    tools::run(&mut tar)
}

impl Change {
    fn apply(&self, driver: &Path) -> anyhow::Result<()> {
        let Self { file, text, becomes } = self;
        let path = driver.join(file);
        let content =
            std::fs::read_to_string(&path).with_context(|| format!("the driver has no {file}"))?;
        if content.matches(text).count() != 1 {
            bail!("{file} of this kernel does not have the text that the lab changes: {text:?}")
        }
        Ok(std::fs::write(&path, content.replacen(text, becomes, 1))?)
    }
}

/// Builds in the tree as its root, in a mount namespace that is gone with the build.
fn make(version: &str, tree: &Path, driver: &Driver) -> anyhow::Result<()> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-ec"]);
    unshare.arg(
        "mount --rbind /proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"; exec chroot \"$0\" \"$@\"",
    );
    unshare.arg(tree).args(["make", "-s", "-j2", "-C"]);
    unshare.arg(format!("/usr/src/linux-headers-{version}"));
    unshare.arg(format!("M=/{}", driver.directory)).args(driver.options).arg("modules");
    unshare.env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin");
    tools::run(&mut unshare)
}
