//! Power on and reboot: what a boot forgets, and what it reads again.

use super::build::Flavour;
use super::drivers::claimed_by;
use super::machine::{FunctionKind, HOST_NAMESPACE, Machine, NetNamespace};
use super::pci::fnv;
use super::{Fault, files};
use api::{EswitchMode, PciAddress, RdmaMode};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a boot takes on the machine's clock: belief, real servers take minutes.
const BOOT: Duration = Duration::from_secs(60);

/// The one file of the host's that a driver container's modprobe reads (belief, NVIDIA's documentation).
const CONTAINERS_FILE: &str = "/etc/modprobe.d/ib_core.conf";

impl Machine {
    /// Boots the machine: drivers, VFs, namespaces, processes and tmpfs start afresh; files and firmware stay.
    pub fn boot(&mut self) {
        self.advance(if self.boots == 0 { Duration::ZERO } else { BOOT });
        self.forget();
        self.boots += 1;
        self.boot_id = boot_id(&self.name, self.boots);
        self.kernel_arguments = self.next_kernel_arguments.clone();
        self.load_modules();
        self.namespaces.insert(HOST_NAMESPACE, NetNamespace::default());
        self.add_loopback(HOST_NAMESPACE);
        let functions: Vec<PciAddress> = self.functions.keys().copied().collect();
        for pci in functions {
            self.probe(&pci);
        }
        self.start_network();
        self.units = ["containerd", "kubelet"].map(|unit| format!("{unit}.service")).into();
        if self.flavour == Flavour::Coreos {
            self.files.insert("/run/ostree-booted".to_owned(), Vec::new());
        }
        self.start_services();
    }

    /// A reboot that was asked for, unless the machine ignores it; answers whether it booted.
    pub fn reboot_if_requested(&mut self) -> bool {
        let boots = self.is_about_to_reboot();
        if boots {
            self.boot();
        }
        boots
    }

    /// A reboot was asked for, and the machine does as it is told.
    pub fn is_about_to_reboot(&self) -> bool {
        self.reboot_requested.is_some() && !self.has(Fault::IgnoresReboot)
    }

    fn forget(&mut self) {
        self.reboot_requested = None;
        self.uptime = Duration::ZERO;
        self.vdpa.clear();
        self.pending.clear();
        self.links.clear();
        self.rdma.devices.clear();
        self.rdma.last_index = 0;
        self.rdma.mode = None;
        self.namespaces.clear();
        self.namespace_paths.clear();
        self.processes.clear();
        self.modules.clear();
        self.files.retain(|path, _| !files::is_volatile(path));
        self.directories.retain(|path| !files::is_volatile(path));
        self.functions.retain(|_, function| !matches!(function.kind, FunctionKind::Virtual(_)));
        for function in self.functions.values_mut() {
            function.driver = None;
            function.driver_override = None;
            if let FunctionKind::Physical(part) = &mut function.kind {
                part.num_vfs = 0;
                part.vfs.clear();
                part.autoprobe = true;
                part.eswitch = EswitchMode::Legacy;
                // The firmware decides how many VFs the capability tells (belief; spec operator.md 4.11).
                if let Some(firmware) = &mut part.firmware {
                    if !firmware.ignores_writes {
                        firmware.current = firmware.next.clone();
                    }
                    let count =
                        |name: &str| firmware.current.get(name).and_then(|text| text.parse().ok());
                    let enabled = firmware
                        .current
                        .get("SRIOV_EN")
                        .is_none_or(|text| text.starts_with("True"));
                    part.total_vfs =
                        if enabled { count("NUM_OF_VFS").unwrap_or(part.total_vfs) } else { 0 };
                }
            }
        }
    }

    /// What udev loads for the devices that are there, and the RDMA core behind the drivers that need it. What the drivers
    /// of cards pull in: belief.
    fn load_modules(&mut self) {
        let drivers: Vec<&str> =
            self.functions.values().filter_map(claimed_by).map(|row| row.module).collect();
        for module in drivers {
            if module != "pcieport" {
                self.load_module(module, None);
            }
        }
        for (fault, module) in
            [(Fault::NvmeOverRdma, "nvme_rdma"), (Fault::PeerMemory, "nvidia_peermem")]
        {
            if self.has(fault) {
                self.load_module(module, None);
            }
        }
        // A VF's driver is loaded when its first VF appears; loading it now makes no difference that anybody sees.
        if self.modules.contains("igb") {
            self.load_module("igbvf", None);
        }
        if self.modules.contains("ice") {
            self.load_module("iavf", None);
        }
    }

    /// Loads a module and those it needs (those of the RDMA core: lab).
    pub(super) fn load_module(&mut self, module: &str, netns_mode: Option<RdmaMode>) {
        if !self.modules.insert(module.to_owned()) {
            return;
        }
        match module {
            "mlx5_core" => self.load_module("mlx5_ib", netns_mode),
            "ice" => self.load_module("irdma", netns_mode),
            "mlx5_ib" | "irdma" | "nvidia_peermem" => self.load_module("ib_uverbs", netns_mode),
            "nvme_rdma" => self.load_module("rdma_cm", netns_mode),
            "ib_uverbs" | "ib_umad" | "rdma_cm" => self.load_module("ib_core", netns_mode),
            "ib_core" => {
                self.rdma.mode = Some(netns_mode.unwrap_or_else(|| self.mode_by_options()))
            }
            "vfio_pci" => self.load_module("vfio", None),
            _ => {}
        }
        if module == "mlx5_ib" || module == "irdma" {
            self.modules.extend(["rdma_cm", "ib_umad"].map(str::to_owned));
            self.serve_rdma(module);
        }
    }

    /// The parameter `netns_mode` that ib_core is loaded with. The kernel's default is shared (drivers/infiniband/core/
    /// device.c); modprobe passes the options of its files and after them those of the kernel command line
    /// (libkmod/libkmod-config.c, kmod_config_new reads the command line last), and of two values the last counts
    /// (kernel/params.c, parse_args).
    fn mode_by_options(&self) -> RdmaMode {
        let mut mode = RdmaMode::Shared;
        if !self.has(Fault::IgnoresModprobeOption) {
            mode = self.mode_in_modprobe_files().unwrap_or(mode);
        }
        if !self.has(Fault::IgnoresKernelArgument) {
            let values = self
                .kernel_arguments
                .iter()
                .filter_map(|word| word.strip_prefix("ib_core.netns_mode="));
            mode = values.filter_map(mode_of).next_back().unwrap_or(mode);
        }
        mode
    }

    fn mode_in_modprobe_files(&self) -> Option<RdmaMode> {
        // modprobe.d(5): files in the order of their names, whatever the directory; a name in an earlier directory
        // hides the same name in a later one.
        let directories =
            ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
        let mut texts: BTreeMap<&str, &[u8]> = BTreeMap::new();
        for directory in directories {
            for (path, content) in &self.files {
                let name = path.rsplit_once('/').filter(|(above, _)| *above == directory);
                let mounted =
                    |path: &str| !self.has(Fault::DriverContainer) || path == CONTAINERS_FILE;
                let name = name.filter(|(_, name)| name.ends_with(".conf") && mounted(path));
                if let Some((_, name)) = name {
                    texts.entry(name).or_insert(content);
                }
            }
        }
        texts
            .values()
            .filter_map(|content| mode_in_options(&String::from_utf8_lossy(content)))
            .next_back()
    }
}

/// The last `options ib_core netns_mode=…` of one file.
fn mode_in_options(text: &str) -> Option<RdmaMode> {
    let options = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        ((words.next(), words.next()) == (Some("options"), Some("ib_core"))).then_some(words)
    });
    let values = options.flatten().filter_map(|word| word.strip_prefix("netns_mode="));
    values.filter_map(mode_of).next_back()
}

/// A bool parameter as the kernel reads it (lib/kstrtox.c, kstrtobool): 0 is exclusive, 1 is shared.
pub(super) fn mode_of(text: &str) -> Option<RdmaMode> {
    match text {
        "0" | "N" | "n" => Some(RdmaMode::Exclusive),
        "1" | "Y" | "y" => Some(RdmaMode::Shared),
        _ => None,
    }
}

/// A boot id that is the same on every run: name and number of the boot, spread.
fn boot_id(name: &str, boots: u32) -> String {
    let (a, b) = (fnv(&format!("{name}/{boots}")), fnv(&format!("{boots}\\{name}")));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}
