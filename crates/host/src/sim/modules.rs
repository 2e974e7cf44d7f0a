//! The modules of the RDMA stack: which need which, who uses them, and what becomes of devices with their driver.

use super::Fault;
use super::machine::Machine;
use super::programs::{failure, success};
use crate::seam::{Output, RdmaCount, RdmaOwner, RdmaUser};
use api::PciAddress;
use rustix::io::Errno;

/// A module, and those that it calls, which it holds (kernel/module/main.c, ref_module). What the RDMA core's own need:
/// lab; what drivers and users of cards need: belief.
const NEEDS: [(&str, &[&str]); 7] = [
    ("ib_umad", &["ib_core"]),
    ("ib_uverbs", &["ib_core"]),
    ("irdma", &["ib_core", "ib_uverbs", "ice"]),
    ("mlx5_ib", &["ib_core", "ib_uverbs", "mlx5_core"]),
    ("nvidia_peermem", &["ib_uverbs"]),
    ("nvme_rdma", &["ib_core", "rdma_cm"]),
    ("rdma_cm", &["ib_core"]),
];

/// The RDMA driver on top of a card's driver.
const PROVIDERS: [(&str, &str); 2] = [("ice", "irdma"), ("mlx5_core", "mlx5_ib")];

/// The number of the process of `Fault::RdmaProcess`.
const PROCESS: u32 = 812;

/// Letters of `/sys/module/<name>/taint` (kernel/module/main.c, module_flags_taint): O is out of tree, E unsigned.
pub(super) fn taint(module: &str) -> &'static str {
    if module == "nvidia_peermem" { "OE" } else { "" }
}

impl Machine {
    /// The loaded modules that need this one.
    pub(super) fn holders_of(&self, module: &str) -> Vec<&'static str> {
        let needs = NEEDS.iter().filter(|(_, needs)| needs.contains(&module));
        needs.map(|(name, _)| *name).filter(|name| self.modules.contains(*name)).collect()
    }

    /// `refcnt`: one for each holder, and one for each open file of the module's.
    pub(super) fn references_of(&self, module: &str) -> usize {
        let opened =
            module == "ib_uverbs" && self.has(Fault::RdmaProcess) && !self.rdma.devices.is_empty();
        self.holders_of(module).len() + usize::from(opened)
    }

    /// delete_module(2) as rmmod asks for it: this module and no other.
    pub(super) fn rmmod(&mut self, arguments: &[&str]) -> Output {
        let [module] = arguments else {
            return failure(1, "rmmod: ERROR: missing module name.");
        };
        if !self.modules.contains(*module) {
            return failure(1, &format!("rmmod: ERROR: Module {module} is not currently loaded"));
        }
        let holders = self.holders_of(module);
        if !holders.is_empty() {
            let text = format!("rmmod: ERROR: Module {module} is in use by: {}", holders.join(" "));
            return failure(1, &text);
        }
        let stays = *module == "ib_uverbs" && self.has(Fault::ModuleStays);
        if stays || self.references_of(module) > 0 {
            return failure(1, &format!("rmmod: ERROR: Module {module} is in use"));
        }
        self.modules.remove(*module);
        match *module {
            "ib_core" => self.rdma.mode = None,
            provider => self.end_rdma(provider),
        }
        success("")
    }

    /// The provider goes: its RDMA devices vanish wherever they are, and IPoIB interfaces with them. Ethernet interfaces
    /// are the card's driver's and stay.
    fn end_rdma(&mut self, provider: &str) {
        let gone = self.served_by(provider);
        self.rdma.devices.retain(|_, device| !gone.contains(&device.parent));
        let is_infiniband = |pci: &PciAddress| self.is_infiniband(pci);
        let interfaces: Vec<PciAddress> = gone.iter().copied().filter(is_infiniband).collect();
        self.links.retain(|_, link| link.parent.is_none_or(|pci| !interfaces.contains(&pci)));
    }

    /// The provider comes: an RDMA device on each function whose driver is bound.
    pub(super) fn serve_rdma(&mut self, provider: &str) {
        for pci in self.served_by(provider) {
            let row = self.driver_of(Some(&pci));
            if let (Some(row), true) = (row, self.rdma_of(&pci).is_none()) {
                self.make_rdma_device(&pci, row);
            }
            if self.is_infiniband(&pci) && self.netdev_of(&pci).is_none() {
                self.make_netdev(&pci);
            }
        }
        self.settle_lags();
    }

    fn is_infiniband(&self, pci: &PciAddress) -> bool {
        let physical = self.virtual_part(pci).map_or(*pci, |part| part.physical);
        self.physical(&physical).is_some_and(|part| part.infiniband)
    }

    /// Functions whose bound driver the provider stands on.
    fn served_by(&self, provider: &str) -> Vec<PciAddress> {
        let functions = self.functions.keys().copied();
        functions.filter(|pci| self.provider_of(pci) == Some(provider)).collect()
    }

    fn provider_of(&self, pci: &PciAddress) -> Option<&'static str> {
        let driver = self.functions.get(pci)?.driver.as_deref()?;
        PROVIDERS.iter().find(|(below, _)| *below == driver).map(|(_, provider)| *provider)
    }

    /// True where nothing says that the driver of the function's RDMA device is not loaded.
    pub(super) fn rdma_is_served(&self, pci: &PciAddress) -> bool {
        self.provider_of(pci).is_none_or(|provider| self.modules.contains(provider))
    }

    /// RDMA_NLDEV_CMD_RES_GET: EINVAL for a device that the namespace does not see (drivers/infiniband/core/nldev.c,
    /// nldev_res_get_doit). Kinds in the order of enum rdma_restrack_type. That each user has one domain, and a queue with
    /// its completions: belief.
    pub(super) fn rdma_resources_of(
        &self,
        space: u64,
        index: u32,
    ) -> Result<Vec<RdmaCount>, Errno> {
        let seen = self.rdma_devices_in(space);
        let device = seen.iter().find(|device| device.index == index).ok_or(Errno::INVAL)?;
        let users = self.rdma_users_in(space);
        let mine = || users.iter().filter(|user| user.device == device.name);
        let processes = mine().filter(|user| matches!(user.owner, RdmaOwner::Process(_))).count();
        let all = mine().count();
        let kinds = ["pd", "cq", "qp", "cm_id", "mr", "ctx", "srq"];
        let counts = [all, all, all, 0, 0, processes, 0];
        let count =
            |(name, value): (&str, usize)| RdmaCount { name: name.to_owned(), value: value as u64 };
        Ok(kinds.into_iter().zip(counts).map(count).collect())
    }

    /// RDMA_NLDEV_CMD_STAT_GET, as the caller hears it: nothing of a device that is not seen.
    pub(super) fn rdma_counters_of(&self, space: u64, index: u32, port: u32) -> Vec<RdmaCount> {
        let device = self.rdma.devices.get(&index).filter(|device| self.sees_rdma(space, device));
        let counters = device.filter(|_| port == 1).map(|device| &device.hw_counters);
        let count =
            |(name, value): (&String, &u64)| RdmaCount { name: name.clone(), value: *value };
        counters.into_iter().flatten().map(count).collect()
    }

    /// The core has a protection domain for the management packets of each device (drivers/infiniband/core/mad.c,
    /// ib_mad_port_open); what else is there are faults.
    pub(super) fn rdma_users_in(&self, space: u64) -> Vec<RdmaUser> {
        let mut users = Vec::new();
        for (index, device) in self.rdma_devices_in(space).iter().enumerate() {
            let mut uses = |owner| users.push(RdmaUser { device: device.name.clone(), owner });
            uses(RdmaOwner::Kernel("ib_core".to_owned()));
            if index == 0 && self.has(Fault::NvmeOverRdma) {
                uses(RdmaOwner::Kernel("nvme_rdma".to_owned()));
            }
            if index == 0 && self.has(Fault::RdmaProcess) {
                uses(RdmaOwner::Process(PROCESS));
            }
        }
        users
    }
}
