//! Any sequence of operations, of an administrator's writes, of pods that come and go, of boots and of crashes: the
//! machine never contradicts itself, and afterwards every VF can be brought to where it belongs.

use crate::crashing::{Crash, Crashing, Death, Side, survive};
use crate::seam::{Host, LinkChange, Namespace, RdmaChange};
use crate::sim::{Fault, SimHost};
use crate::testing::{PF, pf, worker};
use crate::{driver_bind, function, home, link, rdma_mode, vf_count, vf_settings};
use api::{PciAddress, RdmaMode};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Deed {
    Count { count: u32, probe: bool },
    Unbind(u32),
    BindDefault(u32),
    BindVfio(u32),
    Mac(u32),
    Mtu(u32),
    Mode(RdmaMode),
    PodComes(u32),
    PodGoes(u32),
    PodTakesLink(u32),
    PodTakesRdma(u32),
    RdmaComesHome(u32),
    Write(&'static str, &'static str),
    Boot,
    Wait,
    Fault(Fault, bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    let vf = 0..4u32;
    let writes = prop::sample::select(vec![
        ("sriov_numvfs", "3"),
        ("sriov_numvfs", "0"),
        ("sriov_numvfs", "-1"),
        ("sriov_numvfs", ""),
        ("sriov_drivers_autoprobe", "0"),
        ("driver/unbind", "0000:03:00.0"),
        ("../../../../bus/pci/drivers_probe", "0000:03:00.0"),
        ("virtfn0/driver_override", "vfio-pci"),
        ("vendor", "0"),
        ("nothing", "1"),
    ]);
    let faults = prop::sample::select(vec![
        Fault::VfsAppearLate,
        Fault::DriverMakesFewerVfs,
        Fault::VfProbeFails,
        Fault::RenamesAfterRebind,
        Fault::RenumbersUverbs,
        Fault::VfCountBusy,
    ]);
    prop_oneof![
        (0..10u32, any::<bool>()).prop_map(|(count, probe)| Deed::Count { count, probe }),
        vf.clone().prop_map(Deed::Unbind),
        vf.clone().prop_map(Deed::BindDefault),
        vf.clone().prop_map(Deed::BindVfio),
        vf.clone().prop_map(Deed::Mac),
        vf.clone().prop_map(Deed::Mtu),
        any::<bool>().prop_map(|on| Deed::Mode(if on {
            RdmaMode::Exclusive
        } else {
            RdmaMode::Shared
        })),
        vf.clone().prop_map(Deed::PodComes),
        vf.clone().prop_map(Deed::PodGoes),
        vf.clone().prop_map(Deed::PodTakesLink),
        vf.clone().prop_map(Deed::PodTakesRdma),
        vf.prop_map(Deed::RdmaComesHome),
        writes.prop_map(|(file, text)| Deed::Write(file, text)),
        Just(Deed::Boot),
        Just(Deed::Wait),
        (faults, any::<bool>()).prop_map(|(fault, on)| Deed::Fault(fault, on)),
    ]
}

fn pod(number: u32) -> String {
    format!("/var/run/netns/pod-{number}")
}

/// Does the deed. Whether it succeeds is the machine's business; that it leaves no contradiction is ours.
fn act(host: &dyn Host, machine: &SimHost, deed: &Deed) {
    let vf = |index: u32| function::vf(host, &pf(), index).ok();
    let on_vf = |index: u32, operation: &dyn Fn(&PciAddress)| vf(index).iter().for_each(operation);
    match deed {
        Deed::Count { count, probe } => drop(vf_count::set(host, &pf(), *count, *probe)),
        Deed::Unbind(index) => on_vf(*index, &|vf| drop(driver_bind::unbind(host, vf))),
        Deed::BindDefault(index) => on_vf(*index, &|vf| drop(driver_bind::bind_default(host, vf))),
        Deed::BindVfio(index) => on_vf(*index, &|vf| drop(driver_bind::bind(host, vf, "vfio-pci"))),
        Deed::Mac(index) => {
            let mac = format!("02:00:00:00:00:{index:02x}");
            drop(vf_settings::set_mac(host, &pf(), *index, &mac));
        }
        Deed::Mtu(index) => on_vf(*index, &|vf| drop(link::set_mtu(host, vf, 9000))),
        Deed::Mode(mode) => drop(rdma_mode::switch(host, *mode)),
        Deed::PodComes(number) => drop(machine.machine().create_namespace(&pod(*number))),
        Deed::PodGoes(number) => drop(machine.machine().delete_namespace(&pod(*number))),
        Deed::PodTakesLink(index) => on_vf(*index, &|vf| {
            let Ok(Some((from, link))) = link::find(host, vf) else { return };
            let to = Namespace::At(pod(*index));
            let change = LinkChange::Move { link: link.index, to, name: Some("net1".to_owned()) };
            drop(host.change_link(&from, &change));
        }),
        Deed::PodTakesRdma(index) => on_vf(*index, &|vf| {
            let devices = home::rdma_devices_at_home(host, &vf.to_string()).unwrap_or_default();
            for device in devices {
                let to = Namespace::At(pod(*index));
                let change = RdmaChange::Move { device: device.index, to };
                drop(host.change_rdma(&Namespace::Host, &change));
            }
        }),
        Deed::RdmaComesHome(index) => {
            let from = Namespace::At(pod(*index));
            for device in host.rdma_devices(&from).unwrap_or_default() {
                let change = RdmaChange::Move { device: device.index, to: Namespace::Host };
                drop(host.change_rdma(&from, &change));
            }
        }
        Deed::Write(file, text) => drop(host.write(&format!("{PF}/{file}"), text)),
        Deed::Boot => machine.machine().boot(),
        Deed::Wait => drop(host.wait(&[], Duration::from_secs(10))),
        Deed::Fault(fault, true) => drop(machine.machine().faults.insert(*fault)),
        Deed::Fault(fault, false) => drop(machine.machine().faults.remove(fault)),
    }
}

/// A machine that went through anything can be brought to four VFs with drivers, at home.
fn recovers(host: &SimHost) -> Result<(), TestCaseError> {
    let fail = |error: String| TestCaseError::fail(error);
    {
        let mut machine = host.machine();
        machine.faults.clear();
        for number in 0..4 {
            let _ = machine.delete_namespace(&pod(number));
        }
    }
    driver_bind::bind_default(host, &pf()).map_err(|error| fail(error.to_string()))?;
    vf_count::set(host, &pf(), 0, true).map_err(|error| fail(error.to_string()))?;
    vf_count::set(host, &pf(), 4, false).map_err(|error| fail(error.to_string()))?;
    for index in 0..4 {
        let vf = function::vf(host, &pf(), index).map_err(|error| fail(error.to_string()))?;
        driver_bind::bind_default(host, &vf).map_err(|error| fail(error.to_string()))?;
        let at_home =
            home::interface_at_home(host, &vf).map_err(|error| fail(error.to_string()))?;
        prop_assert!(at_home.is_some(), "{vf} has no interface at home");
        let devices = home::rdma_devices_at_home(host, &vf.to_string());
        let devices = devices.map_err(|error| fail(error.to_string()))?;
        prop_assert_eq!(devices.len(), 1, "RDMA devices of {}", vf);
    }
    prop_assert_eq!(crate::autoprobe::held(host).map_err(|error| fail(error.to_string()))?, vec![]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_deeds_and_crashes_makes_the_machine_contradict_itself(
        deeds in prop::collection::vec((deed(), 0..60u64, any::<bool>()), 1..25)
    ) {
        let machine = SimHost::new(worker());
        for (deed, primitive, before) in &deeds {
            let host = Crashing::new(machine.process(), Death::Unwind);
            // Zero is no crash; a number beyond the deed's end is none either.
            let side = if *before { Side::Before } else { Side::After };
            host.arm(Crash { primitive: *primitive, side });
            drop(survive(|| act(&host, &machine, deed)));
            let contradictions = machine.machine().contradictions();
            prop_assert!(contradictions.is_empty(), "after {:?}: {:?}", deed, contradictions);
        }
        recovers(&machine)?;
    }
}
