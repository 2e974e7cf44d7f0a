//! The programs of the machine: what is installed, what they print, what they change.
//!
//! Belief, read in the tools' manuals; of these lab.md has seen modprobe alone.

use super::boot;
use super::build::Flavour;
use super::drivers::{DRIVERS, claimed_by};
use super::machine::{HOST_NAMESPACE, Machine, Pending, PendingEvent, RebootRequest};
use super::sysfs_pci::modalias;
use crate::seam::{Output, Program};
use rustix::io::Errno;
use std::time::Duration;

impl Machine {
    /// Runs a program; one that the distribution has not is ENOENT.
    pub(super) fn run_program(
        &mut self,
        program: &Program,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Output, Errno> {
        match (program, self.flavour) {
            (Program::Modprobe, _) => Ok(self.modprobe(arguments)),
            (Program::Rmmod, _) => Ok(self.rmmod(arguments)),
            (Program::Systemctl, flavour) if flavour != Flavour::Immutable => {
                Ok(self.systemctl(arguments))
            }
            (Program::SystemdRun, flavour) if flavour != Flavour::Immutable => {
                Ok(self.systemd_run(arguments))
            }
            (Program::Grubby, Flavour::Rhel) => Ok(self.grubby(arguments)),
            (Program::UpdateGrub, Flavour::Ubuntu) => Ok(self.update_grub()),
            (Program::RpmOstree, Flavour::Coreos) => Ok(self.rpm_ostree(arguments)),
            (Program::TransactionalUpdate, Flavour::SleMicro) => {
                Ok(self.transactional_update(arguments))
            }
            (Program::Udevadm, _) => Ok(success("")),
            (Program::Mstconfig, flavour) if flavour != Flavour::Immutable => {
                Ok(self.mstconfig(arguments))
            }
            (Program::Mstfwreset, flavour) if flavour != Flavour::Immutable => {
                Ok(self.mstfwreset(arguments))
            }
            (Program::Own { path }, _) if self.files.contains_key(path) => {
                Ok(own(path, &self.files[path]))
            }
            (Program::Ipam { path, environment }, _) if path.ends_with("/host-local") => {
                Ok(self.host_local(environment, input))
            }
            _ => Err(Errno::NOENT),
        }
    }

    fn modprobe(&mut self, arguments: &[&str]) -> Output {
        let remove = arguments.contains(&"-r");
        let mut words = arguments.iter().filter(|word| !word.starts_with('-'));
        let Some(name) = words.next() else {
            return failure(1, "modprobe: ERROR: missing parameters");
        };
        let module = self.module_of_alias(name).unwrap_or_else(|| name.replace('-', "_"));
        if remove {
            let used = match module.as_str() {
                "ib_core" => self.references_of("ib_core") > 0,
                other => self.functions.values().any(|function| {
                    let row =
                        DRIVERS.iter().find(|row| Some(row.name) == function.driver.as_deref());
                    row.is_some_and(|row| row.module == other)
                }),
            };
            if used {
                return failure(1, &format!("modprobe: FATAL: Module {module} is in use."));
            }
            self.modules.remove(&module);
            return success("");
        }
        let known = DRIVERS.iter().any(|row| row.module == module);
        let extra = [
            "ib_core",
            "ib_uverbs",
            "ib_umad",
            "rdma_cm",
            "mlx5_ib",
            "irdma",
            "tun",
            "vhost_net",
            "vfio",
            "vhost_vdpa",
            "virtio_vdpa",
        ];
        if !known && !extra.contains(&module.as_str()) {
            let text = format!(
                "modprobe: FATAL: Module {name} not found in directory /lib/modules/6.12.0"
            );
            return failure(1, &text);
        }
        if module == "mlx5_ib" && self.has(super::Fault::ModuleLoadsNoMore) {
            let text = "modprobe: ERROR: could not insert 'mlx5_ib': Cannot allocate memory";
            return failure(1, text);
        }
        if module == "vhost_net" && self.has(super::Fault::ModuleNotSigned) {
            let text = "modprobe: ERROR: could not insert 'vhost_net': Operation not permitted";
            return failure(1, text);
        }
        let mode = words
            .filter_map(|word| word.strip_prefix("netns_mode="))
            .filter_map(boot::mode_of)
            .next_back();
        self.load_module(&module, mode);
        success("")
    }

    /// The module whose id table has a function with this alias.
    fn module_of_alias(&self, alias: &str) -> Option<String> {
        let function = self.functions.values().find(|function| modalias(function) == alias)?;
        claimed_by(function).map(|row| row.module.to_owned())
    }

    fn systemctl(&mut self, arguments: &[&str]) -> Output {
        match arguments {
            ["--root=/", arguments @ ..] => self.systemctl(arguments),
            ["reboot", ..] => {
                self.request_reboot("systemctl reboot");
                success("")
            }
            [verb @ ("start" | "restart" | "stop"), units @ ..] => {
                for unit in units {
                    let unit = unit_name(unit);
                    if *verb == "stop" {
                        self.units.remove(&unit)
                    } else {
                        self.units.insert(unit)
                    };
                }
                success("")
            }
            ["is-active", rest @ ..] => {
                let active = rest.iter().any(|unit| self.units.contains(&unit_name(unit)));
                let mut output = success(if active { "active\n" } else { "inactive\n" });
                output.status = if active { 0 } else { 3 };
                output
            }
            // What is enabled is wanted by multi-user.target (systemctl(1): links below the target's directory).
            [verb @ ("enable" | "disable"), units @ ..] => {
                for unit in units {
                    let unit = unit_name(unit);
                    let link = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
                    match *verb {
                        "enable" => _ = self.files.insert(link, Vec::new()),
                        _ => _ = self.files.remove(&link),
                    }
                }
                success("")
            }
            ["daemon-reload" | "reenable", ..] => success(""),
            _ => failure(1, "Unknown command verb."),
        }
    }

    /// Runs a command as a unit. The reboot is only asked for: whoever drives the machine carries it out.
    fn systemd_run(&mut self, arguments: &[&str]) -> Output {
        let command = arguments.join(" ");
        if command.contains("systemctl stop kubelet") {
            self.units.remove("kubelet.service");
        }
        let reboots =
            command.split(|c: char| c.is_whitespace() || c == ';').any(|word| word == "reboot");
        let refused = self.has(super::Fault::RefusesReboot);
        if reboots && !refused {
            self.request_reboot(&command);
        }
        if let Some((_, rest)) = command.split_once("reboot && sleep ")
            && let Some((seconds, "systemctl start kubelet.service")) = rest.split_once("; ")
        {
            // sh(1): what stands behind && runs where what is before it went well. A boot ends the unit.
            let pause = if refused { 0 } else { seconds.parse().unwrap_or_default() };
            let at = self.clock + Duration::from_secs(pause);
            self.pending.push(Pending { at, event: PendingEvent::KubeletStarts });
            self.advance(Duration::ZERO);
        }
        success("")
    }

    fn request_reboot(&mut self, command: &str) {
        let at = self.clock;
        self.reboot_requested.get_or_insert(RebootRequest { at, command: command.to_owned() });
    }

    /// `grubby --update-kernel=DEFAULT --args=… --remove-args=…`, `grubby --info=DEFAULT`.
    fn grubby(&mut self, arguments: &[&str]) -> Output {
        if arguments.iter().any(|word| word.starts_with("--info")) {
            let (loader, rest) = split_loader(&self.next_kernel_arguments);
            return success(&format!("index=0\nkernel=\"{loader}\"\nargs=\"{rest}\"\n"));
        }
        if !arguments.iter().any(|word| word.starts_with("--update-kernel=")) {
            return failure(1, "grubby: no action specified");
        }
        let of = |option: &str| {
            arguments
                .iter()
                .filter_map(|word| word.strip_prefix(option))
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (remove, add) = (of("--remove-args="), of("--args="));
        self.edit_next_arguments(&remove, &add);
        success("")
    }

    /// `rpm-ostree kargs [--append…=…] [--delete…=…]`; without either it prints the arguments.
    fn rpm_ostree(&mut self, arguments: &[&str]) -> Output {
        let ["kargs", edits @ ..] = arguments else { return failure(1, "error: Unknown command") };
        let mut changed = false;
        for edit in edits {
            let Some((option, argument)) =
                edit.strip_prefix("--").and_then(|edit| edit.split_once('='))
            else {
                continue;
            };
            let held = self.next_kernel_arguments.iter().any(|word| word == argument);
            let argument = [argument.to_owned()];
            match option {
                "append" => self.edit_next_arguments(&[], &argument),
                "append-if-missing" if !held => self.edit_next_arguments(&[], &argument),
                "delete" if !held => {
                    return failure(1, &format!("error: No key '{}' found", argument[0]));
                }
                "delete" | "delete-if-present" => self.edit_next_arguments(&argument, &[]),
                _ => {}
            }
            changed = true;
        }
        if changed {
            return success(
                "Changes queued for next boot. Run \"systemctl reboot\" to start a reboot\n",
            );
        }
        let (_, rest) = split_loader(&self.next_kernel_arguments);
        success(&format!("{rest}\n"))
    }

    fn edit_next_arguments(&mut self, remove: &[String], add: &[String]) {
        if self.has(super::Fault::LosesKernelArgument) {
            return;
        }
        // grubby: an argument without value takes every value of that name away.
        self.next_kernel_arguments.retain(|word| {
            !remove.iter().any(|gone| {
                gone == word || word.split_once('=').is_some_and(|(name, _)| name == gone)
            })
        });
        for argument in add {
            if !self.next_kernel_arguments.contains(argument) {
                self.next_kernel_arguments.push(argument.clone());
            }
        }
    }

    /// `transactional-update grub.cfg`: grub2-mkconfig in a new snapshot, which the next boot mounts (belief, its manual).
    /// Without `--continue` it begins with the root that runs, and what waits for a boot is lost.
    fn transactional_update(&mut self, arguments: &[&str]) -> Output {
        if !arguments.contains(&"grub.cfg") {
            return failure(1, "transactional-update: only grub.cfg is played");
        }
        let line = self.grub_line(&["/etc/default/grub".to_owned()]);
        let number = (1..).find(|number| !self.files.contains_key(&snapshot_config(*number)));
        let line = match self.has(super::Fault::LosesKernelArgument) {
            true => split_loader(&self.next_kernel_arguments).1,
            false => line,
        };
        self.boot_with(&line);
        let path = snapshot_config(number.unwrap_or_default());
        self.files.insert(path, grub_config(line.trim()).into_bytes());
        success("New default snapshot\n")
    }

    fn boot_with(&mut self, line: &str) {
        let (loader, _) = split_loader(&self.next_kernel_arguments);
        let words = line.split_whitespace().map(str::to_owned);
        self.next_kernel_arguments =
            [format!("BOOT_IMAGE={loader}")].into_iter().chain(words).collect();
    }

    /// Reads `/etc/default/grub` and then `/etc/default/grub.d/*.cfg`, as grub-mkconfig of Debian and Ubuntu does.
    fn update_grub(&mut self) -> Output {
        let drop_ins = self
            .files
            .keys()
            .filter(|path| path.starts_with("/etc/default/grub.d/") && path.ends_with(".cfg"));
        let files: Vec<String> =
            ["/etc/default/grub".to_owned()].iter().chain(drop_ins).cloned().collect();
        let line = self.grub_line(&files);
        if !self.has(super::Fault::LosesKernelArgument) {
            self.boot_with(&line);
            self.files.insert(GRUB_CONFIG.to_owned(), grub_config(line.trim()).into_bytes());
        }
        success("Generating grub configuration file ...\ndone\n")
    }

    /// `GRUB_CMDLINE_LINUX` after a shell has read these files.
    fn grub_line(&self, files: &[String]) -> String {
        let mut line = String::new();
        for path in files {
            let text = self
                .files
                .get(path)
                .map(|content| String::from_utf8_lossy(content))
                .unwrap_or_default();
            for assigned in
                text.lines().filter_map(|text| text.trim().strip_prefix("GRUB_CMDLINE_LINUX="))
            {
                // What follows the closing quote is a comment.
                let value = assigned.split('"').nth(1).unwrap_or_default();
                line = value
                    .replace("${GRUB_CMDLINE_LINUX}", &line)
                    .replace("$GRUB_CMDLINE_LINUX", &line);
            }
        }
        line
    }

    /// True while a unit runs: `kubelet.service`.
    pub fn unit_runs(&self, unit: &str) -> bool {
        self.units.contains(unit)
    }

    /// True when a process of this number is in the host's namespace.
    pub fn in_host_namespace(&self, process: u32) -> bool {
        self.processes.get(&process).is_some_and(|process| process.namespace == HOST_NAMESPACE)
    }
}

/// What update-grub writes, as far as it matters here.
pub(super) const GRUB_CONFIG: &str = "/boot/grub/grub.cfg";

/// The boot loader's file in a snapshot of the root.
pub(super) fn snapshot_config(number: u32) -> String {
    format!("/.snapshots/{number}/snapshot/boot/grub2/grub.cfg")
}

pub(super) fn grub_config(line: &str) -> String {
    format!("menuentry 'Linux' {{\n\tlinux\t/vmlinuz {line}\n}}\n")
}

/// One that needs a C library starts nowhere but beside it (belief: glibc, elf/dl-version.c, match_symbol).
fn own(path: &str, content: &[u8]) -> Output {
    match content.starts_with(b"dynamic") {
        true => failure(
            1,
            &format!(
                "{path}: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by {path})"
            ),
        ),
        false => success("ironrail-node 0.1.0\n"),
    }
}

pub(super) fn success(text: &str) -> Output {
    Output { status: 0, stdout: text.as_bytes().to_vec(), stderr: Vec::new() }
}

pub(super) fn failure(status: i32, text: &str) -> Output {
    Output { status, stdout: Vec::new(), stderr: format!("{text}\n").into_bytes() }
}

fn unit_name(unit: &str) -> String {
    if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") }
}

/// The kernel image, and the arguments after it.
fn split_loader(arguments: &[String]) -> (String, String) {
    let loader =
        arguments.iter().find_map(|word| word.strip_prefix("BOOT_IMAGE=")).unwrap_or("/vmlinuz");
    let rest: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with("BOOT_IMAGE="))
        .collect();
    (loader.to_owned(), rest.join(" "))
}
