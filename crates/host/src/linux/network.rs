//! The typed questions and changes of the seam, as conversations in the namespace of the calling thread.

use super::Failure;
use super::socket::{Conversation, Data, GENERIC, RDMA, ROUTE};
use crate::netlink::{address, devlink as codec, link, rdma, route};
use crate::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, DevlinkParameter, Link, LinkChange,
    LinkQuery, RdmaChange, RdmaCount, RdmaDevice, RdmaPort, RdmaUser, Route, RouteChange,
};
use api::{PciAddress, RdmaMode};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};

pub(super) fn links(query: &LinkQuery) -> Result<Vec<Link>, Failure> {
    let answer = Conversation::open(ROUTE)?.ask(&link::query(query))?;
    let answer = answer.iter().filter(|(kind, _)| *kind == link::RTM_NEWLINK);
    Ok(answer.map(|(_, payload)| link::parse(payload)).collect::<Result<_, _>>()?)
}

pub(super) fn change_link(change: &LinkChange, target: Option<&OwnedFd>) -> Result<(), Failure> {
    let request = link::change(change, target.map(AsRawFd::as_raw_fd))?;
    Conversation::open(ROUTE)?.ask(&request)?;
    Ok(())
}

pub(super) fn addresses(link: Option<u32>) -> Result<Vec<Address>, Failure> {
    let answer = Conversation::open(ROUTE)?.ask(&address::query())?;
    let mut found = Vec::new();
    for (_, payload) in answer.iter().filter(|(kind, _)| *kind == address::RTM_NEWADDR) {
        found.extend(address::parse(payload)?);
    }
    found.retain(|address| link.is_none_or(|link| address.link == link));
    Ok(found)
}

pub(super) fn change_address(change: &AddressChange) -> Result<(), Failure> {
    Conversation::open(ROUTE)?.ask(&address::change(change))?;
    Ok(())
}

pub(super) fn routes() -> Result<Vec<Route>, Failure> {
    let answer = Conversation::open(ROUTE)?.ask(&route::query())?;
    let mut found = Vec::new();
    for (_, payload) in answer.iter().filter(|(kind, _)| *kind == route::RTM_NEWROUTE) {
        found.extend(route::parse(payload)?);
    }
    Ok(found)
}

pub(super) fn change_route(change: &RouteChange) -> Result<(), Failure> {
    Conversation::open(ROUTE)?.ask(&route::change(change))?;
    Ok(())
}

/// Devlink, with the number that the kernel gave to the family at this boot.
struct Devlink {
    conversation: Conversation,
    family: u16,
}

impl Devlink {
    fn open() -> Result<Self, Failure> {
        let mut conversation = Conversation::open(GENERIC)?;
        let answer = match conversation.ask(&codec::family_query("devlink")) {
            // A kernel without devlink has no device of it either; that is what callers ask.
            Err(Failure { errno: Errno::NOENT, .. }) => {
                let note = "this kernel has no devlink".to_owned();
                return Err(Failure { errno: Errno::NODEV, note });
            }
            answer => answer?,
        };
        let payload = answer.first().map(|(_, payload)| payload.as_slice()).unwrap_or_default();
        Ok(Self { family: codec::parse_family(payload)?, conversation })
    }

    /// EINVAL for a parameter that the driver has not, EOPNOTSUPP for one without a value (net/devlink/param.c).
    fn parameter(&mut self, device: &PciAddress, name: &str) -> Result<codec::Parameter, Failure> {
        let answer = self.conversation.ask(&codec::parameter_query(self.family, device, name))?;
        let payload = answer.first().map(|(_, payload)| payload.as_slice()).unwrap_or_default();
        Ok(codec::parse_parameter(payload)?)
    }
}

pub(super) fn devlink(device: &PciAddress) -> Result<DevlinkDevice, Failure> {
    let mut devlink = Devlink::open()?;
    let eswitch = match devlink.conversation.ask(&codec::eswitch_query(devlink.family, device)) {
        Err(Failure { errno: Errno::OPNOTSUPP, .. }) => None,
        answer => match answer?.first() {
            Some((_, payload)) => codec::parse_eswitch(payload)?,
            None => None,
        },
    };
    // A parameter that cannot be read now (its firmware is busy) is none; the mode is known all the same.
    let known = codec::PARAMETERS.iter().filter_map(|name| devlink.parameter(device, name).ok());
    let parameters = known.flat_map(|parameter| parameter.rows).collect();
    Ok(DevlinkDevice { eswitch, parameters })
}

pub(super) fn change_devlink(device: &PciAddress, change: &DevlinkChange) -> Result<(), Failure> {
    let mut devlink = Devlink::open()?;
    let family = devlink.family;
    let request = match change {
        DevlinkChange::Eswitch(mode) => codec::set_eswitch(family, device, *mode),
        DevlinkChange::Parameter { name, mode, value } => {
            // The kernel wants the type said again; only reading the parameter tells it.
            let Some(value_type) = devlink.parameter(device, name)?.value_type else {
                return Err(Errno::INVAL.into());
            };
            let (name, mode, value) = (name.clone(), mode.clone(), value.clone());
            let wanted = DevlinkParameter { name, mode, value };
            codec::set_parameter(family, device, value_type, &wanted)
                .map_err(|malformed| Failure { errno: Errno::INVAL, note: malformed.to_string() })?
        }
    };
    devlink.conversation.ask(&request)?;
    Ok(())
}

pub(super) fn rdma_mode() -> Result<RdmaMode, Failure> {
    let answer = Conversation::open(RDMA)?.ask(&rdma::mode_query())?;
    let payload = answer.first().map(|(_, payload)| payload.as_slice()).unwrap_or_default();
    Ok(rdma::parse_mode(payload)?)
}

/// A list of RDMA devices with a device left out is asked for again this often: each time another one has left meanwhile.
const LIST_TRIES: u32 = 20;

/// The RDMA devices of the namespace.
///
/// The kernel tells one device a message, and finds the next one by its place in the list (drivers/infiniband/core/nldev.c,
/// `_nldev_get_dumpit`; device.c, `ib_enum_all_devs`). Where a device that was told leaves before the end, to a pod or into
/// the middle of a move, all behind it move up by one place, one of them is left out, and no flag says so
/// (NLM_F_DUMP_INTR). So the list is asked for until everything that was told is told again.
/// Where one comes into a place before, all behind it move down, and the last that was told is told twice.
fn list_rdma_devices(
    mut ask: impl FnMut() -> Result<Vec<RdmaDevice>, Failure>,
) -> Result<Vec<RdmaDevice>, Failure> {
    let mut told = ask()?;
    for _ in 1..LIST_TRIES {
        let mut again = ask()?;
        let stayed = |was: &RdmaDevice| again.iter().any(|now| now.index == was.index);
        if told.iter().all(stayed) {
            let mut seen = Vec::new();
            again.retain(|device| {
                let is_first = !seen.contains(&device.index);
                seen.push(device.index);
                is_first
            });
            return Ok(again);
        }
        told = again;
    }
    Err(Errno::AGAIN.into())
}

fn ask_for_rdma_devices(conversation: &mut Conversation) -> Result<Vec<RdmaDevice>, Failure> {
    list_rdma_devices(|| {
        let answer = conversation.ask(&rdma::device_query())?;
        let devices = answer.iter().map(|(_, payload)| rdma::parse_device(payload));
        Ok(devices.collect::<Result<_, _>>()?)
    })
}

pub(super) fn rdma_devices() -> Result<Vec<RdmaDevice>, Failure> {
    ask_for_rdma_devices(&mut Conversation::open(RDMA)?)
}

pub(super) fn rdma_ports(device: u32) -> Result<Vec<RdmaPort>, Failure> {
    match Conversation::open(RDMA)?.ask(&rdma::port_query(device)) {
        // It went away since it was listed (nldev.c says EINVAL for an index that nobody has).
        Err(Failure { errno: Errno::INVAL | Errno::NODEV, .. }) => Ok(Vec::new()),
        answer => {
            let answer = answer?;
            let ports = answer.iter().map(|(_, payload)| rdma::parse_port(payload));
            Ok(ports.collect::<Result<_, _>>()?)
        }
    }
}

pub(super) fn rdma_users() -> Result<Vec<RdmaUser>, Failure> {
    let mut conversation = Conversation::open(RDMA)?;
    let mut users = BTreeSet::new();
    for RdmaDevice { index, name: device, .. } in ask_for_rdma_devices(&mut conversation)? {
        for resource in rdma::RESOURCES {
            match conversation.ask(&rdma::owners_query(resource, index)) {
                Ok(answers) => {
                    for (_, payload) in answers {
                        let owners = rdma::parse_owners(resource, &payload)?.into_iter();
                        users
                            .extend(owners.map(|owner| RdmaUser { device: device.clone(), owner }));
                    }
                }
                // It went away between the questions.
                Err(Failure { errno: Errno::INVAL | Errno::NODEV, .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
    }
    Ok(users.into_iter().collect())
}

pub(super) fn rdma_counters(device: u32, port: u32) -> Result<Vec<RdmaCount>, Failure> {
    match Conversation::open(RDMA)?.ask(&rdma::counters_query(device, port)) {
        // A driver without counters (drivers/infiniband/core/nldev.c, stat_get_doit_default_counter); the same is said of
        // a device that nobody has.
        Err(Failure { errno: Errno::INVAL | Errno::OPNOTSUPP, .. }) => Ok(Vec::new()),
        answer => counts(rdma::COUNTERS, answer?),
    }
}

pub(super) fn rdma_resources(device: u32) -> Result<Vec<RdmaCount>, Failure> {
    let answer = Conversation::open(RDMA)?.ask(&rdma::resources_query(device))?;
    counts(rdma::SUMMARY, answer)
}

fn counts(table: rdma::Counts, answer: Vec<Data>) -> Result<Vec<RdmaCount>, Failure> {
    let parsed = answer.iter().map(|(_, payload)| rdma::parse_counts(table, payload));
    Ok(parsed.collect::<Result<Vec<_>, _>>()?.concat())
}

pub(super) fn change_rdma(change: &RdmaChange, target: Option<&OwnedFd>) -> Result<(), Failure> {
    let request = rdma::change(change, target.map(AsRawFd::as_raw_fd))?;
    Conversation::open(RDMA)?.ask(&request)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel tells each time, as indexes of devices; answers the list, and how often it was asked for.
    fn check(told: &[&[u32]]) -> (Result<Vec<u32>, Errno>, usize) {
        let mut asked = 0;
        let outcome = list_rdma_devices(|| {
            let indexes = told[asked.min(told.len() - 1)];
            asked += 1;
            Ok(indexes
                .iter()
                .map(|index| RdmaDevice { index: *index, ..Default::default() })
                .collect())
        });
        let indexes = |list: Vec<RdmaDevice>| list.iter().map(|device| device.index).collect();
        (outcome.map(indexes).map_err(|failure| failure.errno), asked)
    }

    #[test]
    fn a_list_of_rdma_devices_that_stays_is_asked_for_twice() {
        assert_eq!(check(&[&[0, 1, 2]]), (Ok(vec![0, 1, 2]), 2));
        assert_eq!(check(&[&[]]), (Ok(vec![]), 2));
    }

    #[test]
    fn a_device_that_came_meanwhile_is_in_the_list() {
        assert_eq!(check(&[&[0, 2], &[0, 1, 2]]), (Ok(vec![0, 1, 2]), 2));
    }

    #[test]
    fn the_device_that_is_left_out_where_another_one_leaves_is_found_again() {
        // Device 0 was told and left; device 1 stood then where device 0 had been.
        assert_eq!(check(&[&[0, 2], &[1, 2]]), (Ok(vec![1, 2]), 3));
        // And once more, with device 1.
        assert_eq!(check(&[&[0, 2], &[1, 3], &[2, 3]]), (Ok(vec![2, 3]), 4));
    }

    #[test]
    fn a_device_that_is_told_twice_since_another_one_came_is_in_the_list_once() {
        // After 3 was told, 0 came back from a pod, and 3 stood in the next place.
        assert_eq!(check(&[&[1, 3], &[1, 3, 3]]), (Ok(vec![1, 3]), 2));
        assert_eq!(check(&[&[1, 3], &[1, 3, 1, 3]]), (Ok(vec![1, 3]), 2));
    }

    #[test]
    fn a_list_that_never_stays_is_refused_and_not_believed() {
        let told: Vec<Vec<u32>> = (0..LIST_TRIES).map(|index| vec![index]).collect();
        let told: Vec<&[u32]> = told.iter().map(Vec::as_slice).collect();
        assert_eq!(check(&told), (Err(Errno::AGAIN), LIST_TRIES as usize));
    }
}
