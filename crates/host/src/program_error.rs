//! Why a module was not loaded or unloaded, or a card's firmware not read or set: what a program told, sorted once.
//!
//! A program tells the errno that it got in the words of the C library, and in no other way. Which words of which program
//! mean that the kernel did not permit it is known here and nowhere else; whether lockdown is the reason, `lockdown` asks.

use crate::seam::{Errno, Host, Program, Refusal, words};
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramError {
    #[error("this host has no {0}")]
    NotThere(&'static str),
    /// The kernel's own answer, to the start of a program or where there is none.
    #[error(transparent)]
    Kernel(#[from] Refusal),
    /// The program says that the kernel did not permit it.
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    Failed(String),
}

/// modprobe or rmmod.
pub fn kmod(host: &dyn Host, program: &Program, arguments: &[&str]) -> Result<(), ProgramError> {
    let output = host.run(program, arguments, b"")?;
    let said = text(&output.stderr);
    match output.status {
        0 => Ok(()),
        _ if is_denial_of_kmod(&said) => Err(ProgramError::NotPermitted(said)),
        _ => Err(ProgramError::Failed(said)),
    }
}

/// mstconfig; what it prints.
pub fn mstconfig(host: &dyn Host, arguments: &[&str]) -> Result<String, ProgramError> {
    let output = match host.run(&Program::Mstconfig, arguments, b"") {
        Err(refusal) if refusal.errno == Errno::NOENT => {
            return Err(ProgramError::NotThere(Program::Mstconfig.name()));
        }
        other => other?,
    };
    if output.status == 0 {
        return Ok(text(&output.stdout));
    }
    let said = [text(&output.stderr), text(&output.stdout)].join(" ");
    let why = format!("mstconfig ended with status {}: {}", output.status, said.trim());
    match is_denial_of_mstconfig(&said) {
        true => Err(ProgramError::NotPermitted(why)),
        false => Err(ProgramError::Failed(why)),
    }
}

/// What init_module(2) and delete_module(2) answer for want of a right: EPERM; and for a module whose signature the kernel
/// does not know, EKEYREJECTED or ENOKEY (kernel/module/signing.c, module_sig_check).
fn is_denial_of_kmod(said: &str) -> bool {
    has_words_of(said, &[Errno::PERM, Errno::KEYREJECTED, Errno::NOKEY])
}

/// What open(2) and pwrite(2) of a card's configuration space answer under lockdown.
fn is_denial_of_mstconfig(said: &str) -> bool {
    has_words_of(said, &[Errno::PERM])
}

fn has_words_of(said: &str, errnos: &[Errno]) -> bool {
    let said = said.to_lowercase();
    errnos.iter().any(|errno| said.contains(&words(*errno)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_each_program_are_told_apart_from_what_else_it_says() {
        for said in [
            "modprobe: ERROR: could not insert 'vhost_net': Operation not permitted",
            "modprobe: ERROR: could not insert 'mlx5_ib': Key was rejected by service",
            "modprobe: ERROR: could not insert 'mlx5_ib': Required key not available",
            "rmmod: ERROR: could not remove 'ib_umad': Operation not permitted",
        ] {
            assert!(is_denial_of_kmod(said), "{said}");
        }
        for said in [
            "modprobe: FATAL: Module igbx not found in directory /lib/modules/6.12.0",
            "rmmod: ERROR: Module ib_uverbs is in use",
            "modprobe: ERROR: could not insert 'mlx5_ib': Cannot allocate memory",
            "",
        ] {
            assert!(!is_denial_of_kmod(said), "{said}");
        }
        assert!(is_denial_of_mstconfig("-E- Failed to open the device: Operation not permitted"));
        assert!(!is_denial_of_mstconfig("-E- Failed to open the device: No such device"));
    }
}
