//! Questions about one PCI function that several operations ask.
//!
//! Nothing is changed here.

use crate::seam::{Host, Refusal};
use api::PciAddress;
use rustix::io::Errno;
use thiserror::Error;

/// A fact in sysfs that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FactError {
    #[error("cannot {0}")]
    Refused(Refusal),
    #[error("cannot understand {path}: {text:?} is not a number")]
    NotANumber { path: String, text: String },
    #[error("{pf} has no VF {index}")]
    NoSuchVf { pf: PciAddress, index: u32 },
    #[error("there is no PCI function {0}")]
    NoSuchFunction(PciAddress),
}

impl From<Refusal> for FactError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A file without its newline.
pub fn text(host: &dyn Host, path: &str) -> Result<String, Refusal> {
    Ok(String::from_utf8_lossy(&host.read(path)?).trim_end().to_owned())
}

/// A file that holds a number.
pub fn number(host: &dyn Host, path: &str) -> Result<u32, FactError> {
    let text = text(host, path)?;
    text.parse().map_err(|_| FactError::NotANumber { path: path.to_owned(), text })
}

/// ENOENT as none.
pub fn optional<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// The driver that is bound to a function.
pub fn driver(host: &dyn Host, pci: &PciAddress) -> Result<Option<String>, Refusal> {
    let target = optional(host.link_target(&pci.file("driver")))?;
    Ok(target.map(|target| last_part(&target).to_owned()))
}

/// The PF of a function that is a VF.
pub fn physical(host: &dyn Host, pci: &PciAddress) -> Result<Option<PciAddress>, Refusal> {
    let target = optional(host.link_target(&pci.file("physfn")))?;
    Ok(target.and_then(|target| last_part(&target).parse().ok()))
}

/// The address of a VF by its index.
pub fn vf(host: &dyn Host, pf: &PciAddress, index: u32) -> Result<PciAddress, FactError> {
    let target = optional(host.link_target(&pf.file(&format!("virtfn{index}"))))?;
    let address = target.and_then(|target| last_part(&target).parse().ok());
    address.ok_or(FactError::NoSuchVf { pf: *pf, index })
}

/// The address that a VF has, also before it is made: the PF's own, the offset of the first VF and the stride from one to
/// the next (drivers/pci/iov.c, `pci_iov_virtfn_bus` and `pci_iov_virtfn_devfn`). None where the card does not
/// tell, or has no room for it.
pub fn vf_address(host: &dyn Host, pf: &PciAddress, index: u32) -> Option<PciAddress> {
    number(host, &pf.file("sriov_totalvfs")).ok().filter(|total| index < *total)?;
    let offset = number(host, &pf.file("sriov_offset")).ok().filter(|offset| *offset > 0)?;
    let stride = number(host, &pf.file("sriov_stride")).ok()?;
    let own = u32::from(pf.bus) << 8 | u32::from(pf.device) << 3 | u32::from(pf.function);
    let id = own.checked_add(offset)?.checked_add(stride.checked_mul(index)?)?;
    let part = |shift: u32, mask: u32| u8::try_from(id >> shift & mask).ok();
    let bus = u8::try_from(id >> 8).ok()?;
    Some(PciAddress { domain: pf.domain, bus, device: part(3, 31)?, function: part(0, 7)? })
}

/// Refuses an address at which nothing is.
pub fn exists(host: &dyn Host, pci: &PciAddress) -> Result<(), FactError> {
    match optional(host.metadata(&pci.directory()))? {
        Some(_) => Ok(()),
        None => Err(FactError::NoSuchFunction(*pci)),
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
