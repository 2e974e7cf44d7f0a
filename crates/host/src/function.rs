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
