//! One match: an action of the plan to the operation of `host` that does it. Nothing is chosen here.
//!
//! Each VF that a step touches is locked meanwhile, so that the CNI neither attaches nor detaches it under our hands.

use api::{PciAddress, RdmaMode, files};
use host::seam::{Lock, RdmaChange};
use host::{Host, Namespace};
use planner::{Action, Step};
use std::time::Duration;

/// How long the CNI may hold a VF; an ADD takes well under a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does one step. The error is a sentence that names the object.
pub fn step(host: &dyn Host, step: &Step) -> Result<(), String> {
    let _locks = step.touches.iter().map(|pci| lock(host, pci)).collect::<Result<Vec<_>, _>>()?;
    action(host, &step.action)
}

fn lock(host: &dyn Host, pci: &PciAddress) -> Result<Lock, String> {
    let path = format!("{}/{pci}", files::VF_LOCKS);
    host.lock(&path, PATIENCE).map_err(|refusal| {
        format!(
            "cannot change {pci}: the CNI is attaching or detaching it ({refusal}); trying again"
        )
    })
}

fn action(host: &dyn Host, action: &Action) -> Result<(), String> {
    match action {
        Action::SetModprobeOption { mode } => {
            let text = format!(
                "{}\noptions ib_core netns_mode={}\n",
                files::MODPROBE_HEADER,
                netns_mode(*mode)
            );
            host.replace(files::MODPROBE, text.as_bytes(), 0o644).map_err(|r| r.to_string())
        }
        Action::RemoveModprobeOption => host.remove(files::MODPROBE).map_err(|r| r.to_string()),
        Action::SwitchRdmaMode { mode } => {
            host.change_rdma(&Namespace::Host, &RdmaChange::Mode(*mode)).map_err(|r| r.to_string())
        }
        other => Err(format!("cannot {other}: not possible yet")),
    }
}

fn netns_mode(mode: RdmaMode) -> u8 {
    match mode {
        RdmaMode::Shared => 1,
        RdmaMode::Exclusive => 0,
    }
}
