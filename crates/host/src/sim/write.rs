//! One `write(2)` to a path: in sysfs and procfs a request, elsewhere the content of a file.

use super::machine::Machine;
use super::sysfs::kernel_path;
use super::{FunctionKind, files};
use api::PciAddress;
use rustix::io::Errno;

impl Machine {
    pub(super) fn write_path(
        &mut self,
        space: u64,
        path: &str,
        content: &str,
    ) -> Result<(), Errno> {
        if !kernel_path(&files::plain(path)) {
            return self.write_file(&files::plain(path), content);
        }
        // What cannot be looked at cannot be written: this also follows the links on the way.
        let resolved = self.canonical(space, path)?;
        let parts: Vec<&str> = resolved.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["sys", "bus", "pci", "drivers_probe"] => self.probe_by_hand(content),
            ["sys", "bus", "pci", "drivers", driver, "bind"] => {
                let driver = (*driver).to_owned();
                self.bind_by_hand(&driver, content)
            }
            ["sys", "bus", "pci", "drivers", driver, "unbind"] => {
                let driver = (*driver).to_owned();
                self.unbind_by_hand(&driver, content)
            }
            ["sys", "devices", .., pci, attribute] if pci.parse::<PciAddress>().is_ok() => {
                let pci = pci.parse().map_err(|_| Errno::NODEV)?;
                let attribute = (*attribute).to_owned();
                self.write_function(&pci, &attribute, content)
            }
            ["sys", "devices", .., "net", link, "mtu"] => {
                let mtu = content.trim_end().parse().map_err(|_| Errno::INVAL)?;
                let index = self
                    .links
                    .values()
                    .find(|known| known.namespace == space && known.name == *link);
                let index = index.ok_or(Errno::NOENT)?.index;
                self.set_link_mtu(space, index, mtu)
            }
            ["proc", "sys", "net", rest @ ..] => {
                // All that there are take a number (kernel/sysctl.c, proc_dointvec; lab).
                let value = content.trim_end();
                value.parse::<i32>().map_err(|_| Errno::INVAL)?;
                let key = rest.join("/");
                let namespace = self.namespaces.get_mut(&space).ok_or(Errno::NOENT)?;
                namespace.sysctls.insert(key, value.to_owned());
                Ok(())
            }
            // No store function, so no write permission (fs/kernfs/file.c, kernfs_fop_open).
            _ => Err(Errno::ACCESS),
        }
    }

    fn write_function(
        &mut self,
        pci: &PciAddress,
        attribute: &str,
        content: &str,
    ) -> Result<(), Errno> {
        match attribute {
            "sriov_numvfs" => self.write_vf_count(pci, content),
            "sriov_drivers_autoprobe" => {
                let on = match content.trim_end() {
                    "0" | "n" | "N" => false,
                    "1" | "y" | "Y" => true,
                    _ => return Err(Errno::INVAL),
                };
                self.physical_mut(pci).ok_or(Errno::NOENT)?.autoprobe = on;
                Ok(())
            }
            "driver_override" => {
                // drivers/base/driver.c, driver_set_override: a newline ends the name, an empty one clears.
                let name = content.trim_end_matches('\0').split('\n').next().unwrap_or_default();
                let function = self.functions.get_mut(pci).ok_or(Errno::NODEV)?;
                function.driver_override = (!name.is_empty()).then(|| name.to_owned());
                Ok(())
            }
            "reset" if content.trim_end() == "1" => {
                if matches!(self.functions.get(pci).map(|f| &f.kind), Some(FunctionKind::Bridge)) {
                    return Err(Errno::NOTTY);
                }
                Ok(())
            }
            "reset" => Err(Errno::INVAL),
            _ => Err(Errno::ACCESS),
        }
    }
}
