//! `ib_core.netns_mode` on the kernel command line of the next boot, by the distribution's own tool.
//!
//! The tool is asked every time, and its answer is not believed: what it stored is read back.

use crate::function::optional;
use crate::rdma_mode::parameter;
use crate::seam::{Changed, Host, Output, Program, Refusal};
use api::RdmaMode;
use thiserror::Error;

/// A tool that edits the kernel command line. Closed: a distribution without one of these has no lever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Grubby,
    UpdateGrub,
    RpmOstree,
    TransactionalUpdate,
}

const TOOLS: [Tool; 4] =
    [Tool::Grubby, Tool::UpdateGrub, Tool::RpmOstree, Tool::TransactionalUpdate];

/// Our drop-in for Debian's and Ubuntu's grub-mkconfig, which reads these files after `/etc/default/grub`.
const DROP_IN: &str = "/etc/default/grub.d/ironrail.cfg";
const DROP_INS: &str = "/etc/default/grub.d";
/// What update-grub writes and the boot loader reads.
const GRUB_CONFIG: &str = "/boot/grub/grub.cfg";
/// What SUSE's grub2-mkconfig reads; it has no directory for drop-ins, so a line of ours stands in it, with this mark.
const DEFAULT_GRUB: &str = "/etc/default/grub";
const MARK: &str = "# ironrail: the RDMA mode";
/// Where snapper keeps the root file systems that were and that will be.
const SNAPSHOTS: &str = "/.snapshots";
const SUSE_GRUB_CONFIG: &str = "/boot/grub2/grub.cfg";

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KernelArgumentError {
    #[error(
        "there is no tool {0:?} for the kernel command line; known are grubby, update-grub, rpm-ostree and transactional-update"
    )]
    UnknownTool(String),
    #[error("cannot change the kernel command line by {tool}: {refusal}")]
    Refused { tool: &'static str, refusal: Refusal },
    #[error(
        "cannot change the kernel command line by {tool}: it ended with status {status}: {said}"
    )]
    Failed { tool: &'static str, status: i32, said: String },
    #[error("{tool} said yes, and the next boot's command line is still: {found}")]
    NotTaken { tool: &'static str, found: String },
}

impl Tool {
    /// As inventory, plan and ledger name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grubby => "grubby",
            Self::UpdateGrub => "update-grub",
            Self::RpmOstree => "rpm-ostree",
            Self::TransactionalUpdate => "transactional-update",
        }
    }

    pub fn parse(name: &str) -> Result<Self, KernelArgumentError> {
        TOOLS
            .into_iter()
            .find(|tool| tool.name() == name)
            .ok_or_else(|| KernelArgumentError::UnknownTool(name.to_owned()))
    }
}

/// The tool of this distribution, by its files. An ostree system may have grubby too, where it has no effect.
pub fn tool(host: &dyn Host) -> Option<Tool> {
    let there = |path: &str| host.metadata(path).is_ok();
    if there("/run/ostree-booted") {
        return there("/usr/bin/rpm-ostree").then_some(Tool::RpmOstree);
    }
    // SLE Micro and MicroOS: the root is read-only, and each change goes into a new snapshot. With systemd-boot in the place
    // of GRUB there is no such file, and this tool is none.
    if there("/usr/sbin/transactional-update") && there(DEFAULT_GRUB) {
        return Some(Tool::TransactionalUpdate);
    }
    if there("/usr/sbin/grubby") || there("/usr/bin/grubby") {
        return Some(Tool::Grubby);
    }
    (there("/usr/sbin/update-grub") && there("/etc/default/grub")).then_some(Tool::UpdateGrub)
}

/// The argument in a file that the tool reads and that we never write: a drop-in of somebody else's. What it says comes
/// with the next boot whatever is set beside it. The other tools edit the entries themselves, whoever wrote them.
pub fn elsewhere(host: &dyn Host, tool: Tool) -> Result<Option<(RdmaMode, String)>, Refusal> {
    if tool != Tool::UpdateGrub {
        return Ok(None);
    }
    // They are read in this order, and of two arguments the kernel takes the last.
    for name in optional(host.list(DROP_INS))?.unwrap_or_default().into_iter().rev() {
        let path = format!("{DROP_INS}/{name}");
        if !name.ends_with(".cfg") || path == DROP_IN {
            continue;
        }
        let text = optional(host.read(&path))?.unwrap_or_default();
        if let Some(mode) = in_grub_file(&String::from_utf8_lossy(&text)) {
            return Ok(Some((mode, path)));
        }
    }
    Ok(None)
}

/// The last one counts, as on the command line.
fn in_grub_file(text: &str) -> Option<RdmaMode> {
    let lines = text.lines().filter(|line| line.trim_start().starts_with("GRUB_CMDLINE_LINUX"));
    let words =
        lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || "\"'=".contains(c)));
    let words: Vec<&str> = words.collect();
    let mut values = words.windows(2).filter(|pair| pair[0] == "ib_core.netns_mode");
    let last = values.next_back()?[1];
    let is_it = |mode: &RdmaMode| parameter(*mode).to_string() == last;
    [RdmaMode::Shared, RdmaMode::Exclusive].into_iter().find(is_it)
}

/// Puts the argument of this mode on the next boot's command line, and takes the other one off; with `None` takes both
/// off, but for what a file of somebody else's says: whether that agrees was judged before.
pub fn set(
    host: &dyn Host,
    tool: Tool,
    wanted: Option<RdmaMode>,
) -> Result<Changed, KernelArgumentError> {
    let theirs = elsewhere(host, tool).map_err(|refusal| refused(tool, refusal))?;
    let expected = wanted.or(theirs.map(|(mode, _)| mode));
    let left = tool == Tool::UpdateGrub && wanted.is_none() && host.metadata(DROP_IN).is_ok();
    if is_right(&next(host, tool)?, expected) && !left {
        return Ok(Changed::AlreadyRight);
    }
    match tool {
        Tool::Grubby => grubby(host, wanted)?,
        Tool::RpmOstree => rpm_ostree(host, wanted)?,
        Tool::UpdateGrub => update_grub(host, wanted)?,
        Tool::TransactionalUpdate => transactional_update(host, wanted)?,
    }
    let found = next(host, tool)?;
    if is_right(&found, expected) {
        return Ok(Changed::Yes);
    }
    Err(KernelArgumentError::NotTaken { tool: tool.name(), found })
}

fn argument(mode: RdmaMode) -> String {
    format!("ib_core.netns_mode={}", parameter(mode))
}

fn is_right(line: &str, wanted: Option<RdmaMode>) -> bool {
    let modes = [RdmaMode::Shared, RdmaMode::Exclusive];
    let has = |mode: RdmaMode| line.split_whitespace().any(|word| word == argument(mode));
    modes.into_iter().all(|mode| has(mode) == (wanted == Some(mode)))
}

/// The command line that the next boot will have, as the tool stored it.
fn next(host: &dyn Host, tool: Tool) -> Result<String, KernelArgumentError> {
    match tool {
        Tool::Grubby => {
            let said = run(host, tool, &Program::Grubby, &["--info=DEFAULT"])?;
            let line = said.lines().find_map(|line| line.strip_prefix("args="));
            Ok(line.unwrap_or_default().trim_matches('"').to_owned())
        }
        Tool::RpmOstree => run(host, tool, &Program::RpmOstree, &["kargs"]),
        Tool::UpdateGrub => first_entry(host, tool, GRUB_CONFIG),
        Tool::TransactionalUpdate => {
            let newest = newest_snapshot(host).map_err(|refusal| refused(tool, refusal))?;
            first_entry(host, tool, &format!("{newest}{SUSE_GRUB_CONFIG}"))
        }
    }
}

/// The first entry of the boot loader's file is the one that is booted.
fn first_entry(host: &dyn Host, tool: Tool, path: &str) -> Result<String, KernelArgumentError> {
    let config = optional(host.read(path)).map_err(|refusal| refused(tool, refusal))?;
    let config = String::from_utf8_lossy(&config.unwrap_or_default()).into_owned();
    let line = config.lines().find_map(|line| line.trim_start().strip_prefix("linux"));
    Ok(line.unwrap_or_default().trim().to_owned())
}

/// The root file system that the next boot mounts, unless somebody rolled back: the snapshot of the highest number.
fn newest_snapshot(host: &dyn Host) -> Result<String, Refusal> {
    let names = optional(host.list(SNAPSHOTS))?.unwrap_or_default();
    let newest = names.iter().filter_map(|name| name.parse::<u32>().ok()).max();
    Ok(newest.map_or(String::new(), |number| format!("{SNAPSHOTS}/{number}/snapshot")))
}

/// `/etc/default/grub` is read by a shell, so a last line of ours adds to what an administrator wrote. The new snapshot is
/// made of the one that waits for a boot already (`--continue`), or what that has would be lost.
fn transactional_update(
    host: &dyn Host,
    wanted: Option<RdmaMode>,
) -> Result<(), KernelArgumentError> {
    let tool = Tool::TransactionalUpdate;
    let text = host.read(DEFAULT_GRUB).map_err(|refusal| refused(tool, refusal))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let theirs = without_argument(&text);
    let theirs = theirs.lines().filter(|line| !line.ends_with(MARK));
    let ours = wanted.map(|mode| {
        format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\" {MARK}", argument(mode))
    });
    let lines: Vec<&str> = theirs.chain(ours.as_deref()).collect();
    let changed = format!("{}\n", lines.join("\n"));
    if changed != text {
        host.replace(DEFAULT_GRUB, changed.as_bytes(), 0o644)
            .map_err(|refusal| refused(tool, refusal))?;
    }
    let arguments = ["--non-interactive", "--continue", "grub.cfg"];
    run(host, tool, &Program::TransactionalUpdate, &arguments).map(drop)
}

/// The file without our argument in the command lines that it has for GRUB, as grubby and rpm-ostree take it off whoever
/// put it there: whether it may go was judged before. Nothing else is touched, and what stands in other files stays.
fn without_argument(text: &str) -> String {
    let modes = [RdmaMode::Shared, RdmaMode::Exclusive];
    let clean = |line: &str| match line.trim_start().starts_with("GRUB_CMDLINE_LINUX") {
        true => modes.iter().fold(line.to_owned(), |line, mode| without(&line, &argument(*mode))),
        false => line.to_owned(),
    };
    text.split_inclusive('\n').map(clean).collect()
}

/// The line without this word, and without one of the blanks around it.
fn without(line: &str, word: &str) -> String {
    let edge = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let (mut kept, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(word) {
        let behind = &rest[at + word.len()..];
        kept.push_str(&rest[..at]);
        let begins = kept.ends_with(|c| edge(c) || c == '=');
        rest = behind;
        if !begins || !(behind.is_empty() || behind.starts_with(edge)) {
            kept.push_str(word);
        } else if kept.ends_with(' ') {
            kept.pop();
        } else {
            rest = behind.strip_prefix(' ').unwrap_or(behind);
        }
    }
    kept + rest
}

fn grubby(host: &dyn Host, wanted: Option<RdmaMode>) -> Result<(), KernelArgumentError> {
    let (add, remove) = edits(wanted);
    let remove = format!("--remove-args={}", remove.join(" "));
    let mut arguments = vec!["--update-kernel=DEFAULT", remove.as_str()];
    let add = add.map(|argument| format!("--args={argument}"));
    arguments.extend(add.as_deref());
    run(host, Tool::Grubby, &Program::Grubby, &arguments).map(drop)
}

fn rpm_ostree(host: &dyn Host, wanted: Option<RdmaMode>) -> Result<(), KernelArgumentError> {
    let (add, remove) = edits(wanted);
    let mut arguments = vec!["kargs".to_owned()];
    arguments.extend(remove.iter().map(|argument| format!("--delete-if-present={argument}")));
    arguments.extend(add.map(|argument| format!("--append-if-missing={argument}")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(host, Tool::RpmOstree, &Program::RpmOstree, &arguments).map(drop)
}

/// Our argument comes in a file of ours, after the administrator's; of two values the kernel takes the last.
fn update_grub(host: &dyn Host, wanted: Option<RdmaMode>) -> Result<(), KernelArgumentError> {
    let tool = Tool::UpdateGrub;
    let text = host.read(DEFAULT_GRUB).map_err(|refusal| refused(tool, refusal))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let cleaned = without_argument(&text);
    if cleaned != text {
        host.replace(DEFAULT_GRUB, cleaned.as_bytes(), 0o644)
            .map_err(|refusal| refused(tool, refusal))?;
    }
    let written = match wanted {
        Some(mode) => {
            let text = format!(
                "# Made by ironrail for the RDMA mode; removed when no pool asks for one.\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"\n",
                argument(mode)
            );
            host.replace(DROP_IN, text.as_bytes(), 0o644)
        }
        // The argument may have stood in the administrator's file alone.
        None => optional(host.remove(DROP_IN)).map(drop),
    };
    written.map_err(|refusal| refused(tool, refusal))?;
    run(host, tool, &Program::UpdateGrub, &[]).map(drop)
}

/// What to add, and what to remove.
fn edits(wanted: Option<RdmaMode>) -> (Option<String>, Vec<String>) {
    let modes = [RdmaMode::Shared, RdmaMode::Exclusive];
    let remove = modes.into_iter().filter(|mode| wanted != Some(*mode)).map(argument).collect();
    (wanted.map(argument), remove)
}

fn run(
    host: &dyn Host,
    tool: Tool,
    program: &Program,
    arguments: &[&str],
) -> Result<String, KernelArgumentError> {
    let Output { status, stdout, stderr } =
        host.run(program, arguments, b"").map_err(|refusal| refused(tool, refusal))?;
    if status != 0 {
        let said = String::from_utf8_lossy(&stderr).trim().to_owned();
        return Err(KernelArgumentError::Failed { tool: tool.name(), status, said });
    }
    Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned())
}

fn refused(tool: Tool, refusal: Refusal) -> KernelArgumentError {
    KernelArgumentError::Refused { tool: tool.name(), refusal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Flavour, Machine, SimHost};
    use crate::testing;
    use api::Timestamp;
    use expect_test::expect;

    fn machine(flavour: Flavour) -> Machine {
        Machine::small_worker("worker-0", flavour, Timestamp::UNIX_EPOCH)
    }

    const WITH_TOOL: [(Flavour, Tool); 4] = [
        (Flavour::Rhel, Tool::Grubby),
        (Flavour::Ubuntu, Tool::UpdateGrub),
        (Flavour::Coreos, Tool::RpmOstree),
        (Flavour::SleMicro, Tool::TransactionalUpdate),
    ];

    #[test]
    fn each_distribution_has_its_own_tool_or_none() {
        for (flavour, expected) in WITH_TOOL {
            assert_eq!(tool(&SimHost::new(machine(flavour))), Some(expected));
            assert_eq!(Tool::parse(expected.name()), Ok(expected));
        }
        for flavour in [Flavour::NoTool, Flavour::Immutable] {
            assert_eq!(tool(&SimHost::new(machine(flavour))), None);
        }
        assert_eq!(
            Tool::parse("lilo").unwrap_err().to_string(),
            "there is no tool \"lilo\" for the kernel command line; known are grubby, update-grub, rpm-ostree and transactional-update"
        );
    }

    #[test]
    fn an_argument_in_somebody_elses_grub_file_is_found_and_our_own_and_comments_are_not() {
        let check = |name: &str, text: &str| {
            let mut machine = machine(Flavour::Ubuntu);
            machine.files.insert(format!("/etc/default/grub.d/{name}"), text.as_bytes().to_vec());
            elsewhere(&SimHost::new(machine), Tool::UpdateGrub).unwrap()
        };
        let line = "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet ib_core.netns_mode=1\"\n";
        let site = "/etc/default/grub.d/50-site.cfg".to_owned();
        assert_eq!(check("50-site.cfg", line), Some((RdmaMode::Shared, site.clone())));
        let twice = "GRUB_CMDLINE_LINUX='ib_core.netns_mode=1'\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX ib_core.netns_mode=0\"\n";
        assert_eq!(check("50-site.cfg", twice), Some((RdmaMode::Exclusive, site)));
        assert_eq!(check("50-site.cfg", &format!("# {line}")), None);
        assert_eq!(check("50-site.cfg.bak", line), None);
        let both = |machine: &mut Machine| {
            for (name, mode) in [("10-first.cfg", 1), ("90-last.cfg", 0)] {
                let text = format!(
                    "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX ib_core.netns_mode={mode}\"\n"
                );
                machine.files.insert(format!("{DROP_INS}/{name}"), text.into_bytes());
            }
        };
        let mut machine_with_both = machine(Flavour::Ubuntu);
        both(&mut machine_with_both);
        assert_eq!(
            elsewhere(&SimHost::new(machine_with_both), Tool::UpdateGrub).unwrap(),
            Some((RdmaMode::Exclusive, format!("{DROP_INS}/90-last.cfg")))
        );
        assert_eq!(check("ironrail.cfg", line), None);
        let mut rhel = machine(Flavour::Rhel);
        rhel.files.insert("/etc/default/grub.d/50-site.cfg".to_owned(), line.as_bytes().to_vec());
        assert_eq!(elsewhere(&SimHost::new(rhel), Tool::Grubby).unwrap(), None);
    }

    #[test]
    fn the_argument_is_set_exchanged_and_taken_off() {
        let mut out = String::new();
        for (flavour, tool) in WITH_TOOL {
            let host = SimHost::new(machine(flavour));
            for wanted in [
                Some(RdmaMode::Exclusive),
                Some(RdmaMode::Exclusive),
                Some(RdmaMode::Shared),
                None,
                None,
            ] {
                let changed = set(&host, tool, wanted).unwrap();
                out.push_str(&format!("{wanted:?}: {changed:?}\n"));
                for line in host.take_journal() {
                    out.push_str(&format!("    {line}\n"));
                }
                host.machine().boot();
                out.push_str(&format!(
                    "    boots with {}\n",
                    host.machine().kernel_arguments.join(" ")
                ));
            }
        }
        expect![[r#"
            Some(Exclusive): Yes
                run grubby --info=DEFAULT
                run grubby --update-kernel=DEFAULT --remove-args=ib_core.netns_mode=1 --args=ib_core.netns_mode=0
                run grubby --info=DEFAULT
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Exclusive): AlreadyRight
                run grubby --info=DEFAULT
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Shared): Yes
                run grubby --info=DEFAULT
                run grubby --update-kernel=DEFAULT --remove-args=ib_core.netns_mode=0 --args=ib_core.netns_mode=1
                run grubby --info=DEFAULT
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1
            None: Yes
                run grubby --info=DEFAULT
                run grubby --update-kernel=DEFAULT --remove-args=ib_core.netns_mode=1 ib_core.netns_mode=0
                run grubby --info=DEFAULT
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            None: AlreadyRight
                run grubby --info=DEFAULT
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            Some(Exclusive): Yes
                replace /etc/default/grub.d/ironrail.cfg: # Made by ironrail for the RDMA mode; removed when no pool asks for one. | GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=0"
                run update-grub
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Exclusive): AlreadyRight
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Shared): Yes
                replace /etc/default/grub.d/ironrail.cfg: # Made by ironrail for the RDMA mode; removed when no pool asks for one. | GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=1"
                run update-grub
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1
            None: Yes
                remove /etc/default/grub.d/ironrail.cfg
                run update-grub
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            None: AlreadyRight
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            Some(Exclusive): Yes
                run rpm-ostree kargs
                run rpm-ostree kargs --delete-if-present=ib_core.netns_mode=1 --append-if-missing=ib_core.netns_mode=0
                run rpm-ostree kargs
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Exclusive): AlreadyRight
                run rpm-ostree kargs
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Shared): Yes
                run rpm-ostree kargs
                run rpm-ostree kargs --delete-if-present=ib_core.netns_mode=0 --append-if-missing=ib_core.netns_mode=1
                run rpm-ostree kargs
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1
            None: Yes
                run rpm-ostree kargs
                run rpm-ostree kargs --delete-if-present=ib_core.netns_mode=1 --delete-if-present=ib_core.netns_mode=0
                run rpm-ostree kargs
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            None: AlreadyRight
                run rpm-ostree kargs
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            Some(Exclusive): Yes
                replace /etc/default/grub: GRUB_TIMEOUT=5 | GRUB_CMDLINE_LINUX="root=/dev/sda2 ro" | GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=0" # ironrail: the RDMA mode
                run transactional-update --non-interactive --continue grub.cfg
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Exclusive): AlreadyRight
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
            Some(Shared): Yes
                replace /etc/default/grub: GRUB_TIMEOUT=5 | GRUB_CMDLINE_LINUX="root=/dev/sda2 ro" | GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=1" # ironrail: the RDMA mode
                run transactional-update --non-interactive --continue grub.cfg
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1
            None: Yes
                replace /etc/default/grub: GRUB_TIMEOUT=5 | GRUB_CMDLINE_LINUX="root=/dev/sda2 ro"
                run transactional-update --non-interactive --continue grub.cfg
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            None: AlreadyRight
                boots with BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
        "#]].assert_eq(&out);
    }

    #[test]
    fn a_tool_that_does_not_keep_its_word_is_found_out() {
        let mut out = String::new();
        for (flavour, tool) in WITH_TOOL {
            let machine = machine(flavour).with(Fault::LosesKernelArgument);
            out.push_str(&testing::run(machine, |host| set(host, tool, Some(RdmaMode::Exclusive))));
        }
        out.push_str(&testing::run(machine(Flavour::NoTool), |host| set(host, Tool::Grubby, None)));
        expect![[r#"
            grubby said yes, and the next boot's command line is still: root=/dev/sda2 ro
                run grubby --info=DEFAULT
                run grubby --update-kernel=DEFAULT --remove-args=ib_core.netns_mode=1 --args=ib_core.netns_mode=0
                run grubby --info=DEFAULT
            update-grub said yes, and the next boot's command line is still: /vmlinuz root=/dev/sda2 ro
                replace /etc/default/grub.d/ironrail.cfg: # Made by ironrail for the RDMA mode; removed when no pool asks for one. | GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=0"
                run update-grub
            rpm-ostree said yes, and the next boot's command line is still: root=/dev/sda2 ro
                run rpm-ostree kargs
                run rpm-ostree kargs --delete-if-present=ib_core.netns_mode=1 --append-if-missing=ib_core.netns_mode=0
                run rpm-ostree kargs
            transactional-update said yes, and the next boot's command line is still: /vmlinuz root=/dev/sda2 ro
                replace /etc/default/grub: GRUB_TIMEOUT=5 | GRUB_CMDLINE_LINUX="root=/dev/sda2 ro" | GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=0" # ironrail: the RDMA mode
                run transactional-update --non-interactive --continue grub.cfg
            cannot change the kernel command line by grubby: run grubby --info=DEFAULT: no such file or directory
                run grubby --info=DEFAULT: no such file or directory
        "#]].assert_eq(&out);
    }

    /// The planner lets it come so far where the file names the mode that the node goes back to.
    #[test]
    fn ours_is_taken_off_and_what_somebody_elses_grub_file_says_stays() {
        let mut machine = machine(Flavour::Ubuntu);
        let site = format!("{DROP_INS}/50-site.cfg");
        let text = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX ib_core.netns_mode=1\"\n";
        let out = testing::run(machine.clone(), |host| {
            set(host, Tool::UpdateGrub, Some(RdmaMode::Exclusive))
        });
        assert!(out.starts_with("Yes\n"), "{out}");
        let ours = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX ib_core.netns_mode=0\"\n";
        machine.files.insert(DROP_IN.to_owned(), ours.as_bytes().to_vec());
        machine.files.insert(site, text.as_bytes().to_vec());
        let host = SimHost::new(machine);
        assert_eq!(set(&host, Tool::UpdateGrub, None).unwrap(), Changed::Yes);
        assert!(host.metadata(DROP_IN).is_err());
        assert_eq!(set(&host, Tool::UpdateGrub, None).unwrap(), Changed::AlreadyRight);
        host.machine().boot();
        assert_eq!(
            host.machine().kernel_arguments.join(" "),
            "BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1"
        );
    }

    #[test]
    fn what_an_administrator_wrote_into_the_file_of_grub_stays() {
        let host = SimHost::new(machine(Flavour::SleMicro));
        let text = || String::from_utf8(host.read(DEFAULT_GRUB).unwrap()).unwrap();
        let before = text();
        set(&host, Tool::TransactionalUpdate, Some(RdmaMode::Exclusive)).unwrap();
        expect![[r#"
            GRUB_TIMEOUT=5
            GRUB_CMDLINE_LINUX="root=/dev/sda2 ro"
            GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ib_core.netns_mode=0" # ironrail: the RDMA mode
        "#]]
        .assert_eq(&text());
        set(&host, Tool::TransactionalUpdate, None).unwrap();
        assert_eq!(text(), before);
    }

    /// Upstream's `modprobe.d` file makes it ours to remove; where it stands is the administrator's file all the same.
    #[test]
    fn an_argument_that_was_typed_by_hand_is_taken_out_of_the_file_of_grub_and_nothing_else_is() {
        for (flavour, tool) in
            [(Flavour::Ubuntu, Tool::UpdateGrub), (Flavour::SleMicro, Tool::TransactionalUpdate)]
        {
            let host = SimHost::new(machine(flavour));
            let text = || String::from_utf8(host.read(DEFAULT_GRUB).unwrap()).unwrap();
            let before = text();
            let typed = before.replace(" ro\"", " ro ib_core.netns_mode=0\"");
            assert_ne!(typed, before);
            host.replace(DEFAULT_GRUB, typed.as_bytes(), 0o644).unwrap();
            set(&host, tool, Some(RdmaMode::Shared)).unwrap();
            host.machine().boot();
            let shared = "BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1";
            assert_eq!(host.machine().kernel_arguments.join(" "), shared, "{flavour:?}");
            host.replace(DEFAULT_GRUB, typed.as_bytes(), 0o644).unwrap();
            assert_eq!(set(&host, tool, None).unwrap(), Changed::Yes);
            assert_eq!(text(), before);
            host.machine().boot();
            assert_eq!(
                host.machine().kernel_arguments.join(" "),
                "BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro"
            );
        }
        let text = "# ib_core.netns_mode=0\nGRUB_CMDLINE_LINUX_DEFAULT='ib_core.netns_mode=0 quiet ib_core.netns_mode=01'\nGRUB_CMDLINE_LINUX=ib_core.netns_mode=1\nOTHER=\"ib_core.netns_mode=0\"";
        expect![[r#"
            # ib_core.netns_mode=0
            GRUB_CMDLINE_LINUX_DEFAULT='quiet ib_core.netns_mode=01'
            GRUB_CMDLINE_LINUX=
            OTHER="ib_core.netns_mode=0""#]]
        .assert_eq(&without_argument(text));
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        for (flavour, tool) in WITH_TOOL {
            testing::crash_everywhere(machine(flavour), |host| {
                set(host, tool, Some(RdmaMode::Exclusive))
            });
        }
    }
}
