//! What comes from outside: faults that strike by the draw, and the acts of users and fate.

use super::faults::Fault;
use super::run::Simulation;
use super::story::Act;
use crate::store::User;
use api::files;
use host::sim::{Fault as Kernel, FunctionKind};
use std::time::Duration;

impl Simulation {
    /// Draws whether a fault strikes: one in `odds`, only while the story lasts. Whoever asks says by `fired` what
    /// came of it.
    pub(super) fn strikes(&mut self, fault: Fault, odds: u32) -> bool {
        let drawn = self.fate.u32(..odds) == 0;
        drawn && !self.story.is_over(self.start, self.now) && self.may_strike(fault)
    }

    /// True where the run leaves the fault in. Each one has a number, by which a shrunk run leaves it out.
    fn may_strike(&mut self, fault: Fault) -> bool {
        if !self.options.faults.contains(&fault) {
            return false;
        }
        self.struck += 1;
        let strikes = self.options.keep.as_ref().is_none_or(|keep| keep.contains(&self.struck));
        if strikes {
            self.strokes.push((self.struck, fault));
            self.trace.line(self.now, &format!("fault {}: {fault}", self.struck));
        }
        strikes
    }

    pub(super) fn act(&mut self, index: usize) {
        let Some(act) = self.story.acts.get(index).cloned() else { return };
        self.trace.line(self.now, &format!("act: {}", act.name));
        if let Some(feature) = act.feature.filter(|feature| self.meets(*feature)) {
            self.felt.insert(feature);
        }
        if act.fault.is_none_or(|fault| self.may_strike(fault)) {
            self.carry_out(act.what, act.fault);
        }
        self.wake_cluster(self.now + Duration::from_millis(1));
    }

    fn carry_out(&mut self, what: Act, fault: Option<Fault>) {
        match what {
            Act::Send(request) => {
                let before = self.store.revision();
                let response = self.store.handle(self.now, &User::admin(), &request);
                self.trace.line(self.now, &format!("  {}", response.status));
                if let Some(fault) = fault {
                    // A budget that nobody meets does not matter yet; `write` sees whether one is met.
                    let changed = self.store.revision() != before;
                    self.faults.fired(fault, changed && fault != Fault::StuckBudget);
                }
            }
            Act::Outage(length) => {
                self.faults.fired(Fault::Outage, false);
                self.outage_until = self.now + length;
                self.outage_felt = false;
            }
            Act::PowerCut(node) => {
                let until = self.now + Duration::from_secs(self.fate.u64(20..120));
                let was_up = self.cut(&node, until);
                self.faults.fired(Fault::PowerCut, was_up);
            }
            Act::LoseDisk(node) => {
                let until = self.now + Duration::from_secs(self.fate.u64(20..120));
                let was_up = self.cut(&node, until);
                let kept = self.cluster.nodes.get(&node).is_some_and(|slot| {
                    let files = &mut slot.kubelet.host.machine().files;
                    let before = files.contains_key(files::REBOOTS);
                    files.retain(|path, _| !path.starts_with(files::STATE));
                    before
                });
                self.faults.fired(Fault::LostDisk, was_up && kept);
            }
            Act::StaysDown(node) => {
                let forever = self.now + Duration::from_secs(365 * 24 * 3600);
                let was_up = self.cut(&node, forever);
                self.faults.fired(Fault::StaysDown, was_up);
                self.lost.insert(node);
            }
            Act::KubeletRestart(node) => self.restart_kubelet(&node),
            Act::CrashCni(node) => {
                let crash = (self.fate.u64(1..40), self.fate.bool());
                if let Some(slot) = self.cluster.nodes.get_mut(&node) {
                    slot.kubelet.cni_crash = Some(crash);
                }
            }
            Act::ClockJump { node, seconds } => {
                let old = self.skew.insert(node, seconds);
                if old.is_none() {
                    self.faults.fired(Fault::ClockJump, false);
                }
            }
            Act::ClockRight(node) => {
                self.skew.remove(&node);
            }
            Act::SecondOperator => self.start_second_operator(),
            Act::SecondOperatorEnds => self.containers.forget(SECOND_OPERATOR),
            Act::Firmware(node) => self.spoil_firmware(&node),
            Act::Kernel { node, kernel, on } => self.kernel(&node, kernel, on, fault),
        }
    }

    pub(super) fn cut(&mut self, node: &str, until: api::Timestamp) -> bool {
        match self.cluster.nodes.get_mut(node).filter(|slot| slot.is_up()) {
            Some(slot) => {
                slot.cut(&mut self.containers, until);
                true
            }
            None => false,
        }
    }

    /// Its containers run on; every device plugin has lost its connection and registers again.
    pub(super) fn restart_kubelet(&mut self, node: &str) {
        let Some(slot) = self.cluster.nodes.get_mut(node).filter(|slot| slot.is_up()) else {
            return;
        };
        let registered = !slot.kubelet.devices.capacity().is_empty();
        slot.kubelet.devices.all_disconnected();
        self.faults.fired(Fault::KubeletRestart, registered);
        self.containers.stirred.insert(node.to_owned());
        self.containers.disconnect(node);
        self.wake_plugin(node);
    }

    fn start_second_operator(&mut self) {
        let Some(mut second) = self.containers.operator.clone() else { return };
        SECOND_OPERATOR.clone_into(&mut second.id);
        second.pod += "-second";
        self.faults.fired(Fault::TwoLeaders, false);
        self.be_born(&second);
    }

    fn spoil_firmware(&mut self, node: &str) {
        let Some(slot) = self.cluster.nodes.get(node) else { return };
        for function in slot.kubelet.host.machine().functions.values_mut() {
            let FunctionKind::Physical(part) = &mut function.kind else { continue };
            part.firmware.iter_mut().for_each(|firmware| firmware.ignores_writes = true);
        }
        self.faults.fired(Fault::FirmwareIgnored, false);
    }

    fn kernel(&mut self, node: &str, kernel: Kernel, on: bool, fault: Option<Fault>) {
        let Some(slot) = self.cluster.nodes.get(node) else { return };
        let host = &slot.kubelet.host;
        match on {
            true => {
                host.machine().faults.insert(kernel);
                if kernel == Kernel::ServiceWithPrivateNetwork {
                    host.machine().start_process_in_new_namespace("systemd-private");
                }
                host.take_journal();
                // One fault may be several misbehaviours, and fires once.
                let parts = [Kernel::IgnoresModprobeOption, Kernel::ServiceWithPrivateNetwork];
                let refused = fault.filter(|_| !parts.contains(&kernel));
                refused.into_iter().for_each(|fault| self.faults.fired(fault, false));
            }
            false => {
                host.machine().faults.remove(&kernel);
                let refusals = [": device or resource busy", ": no space left on device"];
                let felt = |line: &String| refusals.iter().any(|words| line.ends_with(words));
                if host.take_journal().iter().any(felt) {
                    self.faults.mattered(Fault::RefusingKernel);
                }
            }
        }
    }
}

/// The container of the operator that is one too many.
pub(super) const SECOND_OPERATOR: &str = "second-operator/0";
