//! Which way packets leave: default routes, and the route towards an address, as the kernel would choose them.
//!
//! By destination only. Rules of policy routing are not read: what the main table does not answer, any table may.

use super::End;
use crate::seam::Route;
use api::lifeline::Carries;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The main table (include/uapi/linux/rtnetlink.h, RT_TABLE_MAIN).
const MAIN: u32 = 254;

/// The default routes in use, one end for each table and family.
pub(super) fn defaults(routes: &[Route]) -> Vec<End> {
    let mut by_table: BTreeMap<(u32, bool), Vec<&Route>> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.destination.1 == 0) {
        let family = route.destination.0.is_ipv6();
        by_table.entry((route.table, family)).or_default().push(route);
    }
    let end = |((table, ipv6), routes): ((u32, bool), Vec<&Route>)| {
        let words = [(ipv6, "IPv6".to_owned()), (table != MAIN, format!("table {table}"))];
        let words: Vec<String> = words.into_iter().filter(|(told, _)| *told).map(|w| w.1).collect();
        End { carries: Carries::DefaultRoute, detail: words.join(", "), links: first(&routes) }
    };
    by_table.into_iter().map(end).collect()
}

/// The links by which the host reaches an address: of the longest prefix, in the main table where it has one.
pub(super) fn towards(routes: &[Route], address: IpAddr) -> BTreeSet<u32> {
    let covers = |route: &&Route| within(route.destination, address);
    let longest = routes.iter().filter(covers).map(|route| route.destination.1).max();
    let best: Vec<&Route> =
        routes.iter().filter(covers).filter(|route| Some(route.destination.1) == longest).collect();
    let main: Vec<&Route> = best.iter().copied().filter(|route| route.table == MAIN).collect();
    first(if main.is_empty() { &best } else { &main })
}

/// Of routes to one destination the kernel takes those of the lowest metric; of several hops it uses all.
fn first(routes: &[&Route]) -> BTreeSet<u32> {
    let metric = |route: &&Route| route.priority.unwrap_or_default();
    let lowest = routes.iter().map(metric).min();
    let chosen = routes.iter().filter(|route| Some(metric(route)) == lowest);
    chosen.filter_map(|route| route.link).collect()
}

fn within((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let same = |network: u128, address: u128, bits: u32| {
        let ignored = bits.saturating_sub(u32::from(prefix));
        let kept = |value: u128| value.checked_shr(ignored).unwrap_or_default();
        kept(network) == kept(address)
    };
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => same(u32::from(n).into(), u32::from(a).into(), 32),
        (IpAddr::V6(n), IpAddr::V6(a)) => same(n.into(), a.into(), 128),
        _ => false,
    }
}
