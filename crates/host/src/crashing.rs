//! The one crash mechanism: a host that dies before or after its k-th primitive.
//!
//! In the simulation the process dies by unwinding with a `Killed` that `survive` catches, and no panic message is
//! printed; in the lab it aborts. A dead process touches nothing any more: what destructors still ask is refused.

use crate::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, Host, Interest, Link, LinkChange,
    LinkQuery, Lock, Metadata, Namespace, Output, Program, RdmaChange, RdmaCount, RdmaDevice,
    RdmaPort, RdmaUser, Refusal, Route, RouteChange, Woken,
};
use crate::unfinished::Unfinished;
use api::{PciAddress, RdmaMode, Timestamp};
use rustix::io::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When to die: at the `primitive`-th call, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crash {
    pub primitive: u64,
    pub side: Side,
}

/// On which side of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The kernel never hears of it.
    Before,
    /// It is done, and the process never learns.
    After,
}

/// How to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Unwinds up to `survive`: destructors run, so that locks are released as the kernel does.
    Unwind,
    /// The whole process, at once.
    Abort,
}

/// A death by unwinding: where it struck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    pub crash: Crash,
}

/// A host that counts primitives, and dies where it was told to.
pub struct Crashing<H> {
    inner: H,
    death: Death,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    count: u64,
    crash: Option<Crash>,
    dead: bool,
}

/// Runs a process until it ends or is killed. Other panics go on.
pub fn survive<T>(process: impl FnOnce() -> T) -> Result<T, Killed> {
    catch_unwind(AssertUnwindSafe(process)).map_err(|payload| match payload.downcast::<Killed>() {
        Ok(killed) => *killed,
        Err(other) => resume_unwind(other),
    })
}

impl<H: Host> Crashing<H> {
    /// Counts and never dies, until `arm` says otherwise.
    pub fn new(inner: H, death: Death) -> Self {
        Self { inner, death, state: Mutex::default() }
    }

    /// Dies at this call; counted from the start, not from now.
    pub fn arm(&self, crash: Crash) {
        self.state().crash = Some(crash);
    }

    /// How many primitives were called.
    pub fn count(&self) -> u64 {
        self.state().count
    }

    /// The host inside.
    pub fn inner(&self) -> &H {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One primitive, with death on either side of it. None: the process is dead.
    fn step<T>(&self, primitive: impl FnOnce(&H) -> T) -> Option<T> {
        let number = {
            let mut state = self.state();
            if state.dead {
                return None;
            }
            state.count += 1;
            state.count
        };
        self.die_if(number, Side::Before);
        let answer = primitive(&self.inner);
        self.die_if(number, Side::After);
        Some(answer)
    }

    fn die_if(&self, number: u64, side: Side) {
        let crash = Crash { primitive: number, side };
        {
            let mut state = self.state();
            if state.crash != Some(crash) {
                return;
            }
            state.dead = true;
        }
        match self.death {
            // resume_unwind does not call the panic hook, so nothing is printed.
            Death::Unwind => resume_unwind(Box::new(Killed { crash })),
            Death::Abort => std::process::abort(),
        }
    }

    /// Another thread of the dead process wants to wait: for it no time passes any more, so that it would wait for ever.
    fn too_late(&self) -> Woken {
        let crash = self.state().crash;
        match crash.filter(|_| !std::thread::panicking()) {
            Some(crash) => resume_unwind(Box::new(Killed { crash })),
            None => Woken::ByTimeout,
        }
    }

    fn asked<T>(&self, primitive: impl FnOnce(&H) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.step(primitive).unwrap_or_else(|| Err(Refusal::new("go on after death", Errno::INTR)))
    }
}

impl<H: Host> Host for Crashing<H> {
    fn read(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        self.asked(|host| host.read(path))
    }

    fn write(&self, path: &str, content: &str) -> Result<(), Refusal> {
        self.asked(|host| host.write(path, content))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Refusal> {
        self.asked(|host| host.list(path))
    }

    fn link_target(&self, path: &str) -> Result<String, Refusal> {
        self.asked(|host| host.link_target(path))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, Refusal> {
        self.asked(|host| host.metadata(path))
    }

    fn replace(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Refusal> {
        self.asked(|host| host.replace(path, content, mode))
    }

    fn append(&self, path: &str, content: &[u8]) -> Result<(), Refusal> {
        self.asked(|host| host.append(path, content))
    }

    fn remove(&self, path: &str) -> Result<(), Refusal> {
        self.asked(|host| host.remove(path))
    }

    fn lock(&self, path: &str, timeout: Duration) -> Result<Lock, Refusal> {
        self.asked(|host| host.lock(path, timeout))
    }

    fn links(&self, space: &Namespace, query: &LinkQuery) -> Result<Vec<Link>, Refusal> {
        self.asked(|host| host.links(space, query))
    }

    fn change_link(&self, space: &Namespace, change: &LinkChange) -> Result<(), Refusal> {
        self.asked(|host| host.change_link(space, change))
    }

    fn addresses(&self, space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal> {
        self.asked(|host| host.addresses(space, link))
    }

    fn change_address(&self, space: &Namespace, change: &AddressChange) -> Result<(), Refusal> {
        self.asked(|host| host.change_address(space, change))
    }

    fn routes(&self, space: &Namespace) -> Result<Vec<Route>, Refusal> {
        self.asked(|host| host.routes(space))
    }

    fn change_route(&self, space: &Namespace, change: &RouteChange) -> Result<(), Refusal> {
        self.asked(|host| host.change_route(space, change))
    }

    fn send_frame(&self, space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal> {
        self.asked(|host| host.send_frame(space, link, frame))
    }

    fn set_sysctl(&self, space: &Namespace, name: &str, value: &str) -> Result<(), Refusal> {
        self.asked(|host| host.set_sysctl(space, name, value))
    }

    fn devlink(&self, device: &PciAddress) -> Result<DevlinkDevice, Refusal> {
        self.asked(|host| host.devlink(device))
    }

    fn change_devlink(&self, device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal> {
        self.asked(|host| host.change_devlink(device, change))
    }

    fn rdma_mode(&self) -> Result<RdmaMode, Refusal> {
        self.asked(Host::rdma_mode)
    }

    fn rdma_devices(&self, space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal> {
        self.asked(|host| host.rdma_devices(space))
    }

    fn rdma_ports(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal> {
        self.asked(|host| host.rdma_ports(space, device))
    }

    fn change_rdma(&self, space: &Namespace, change: &RdmaChange) -> Result<(), Refusal> {
        self.asked(|host| host.change_rdma(space, change))
    }

    fn rdma_users(&self, space: &Namespace) -> Result<Vec<RdmaUser>, Refusal> {
        self.asked(|host| host.rdma_users(space))
    }

    fn rdma_counters(
        &self,
        space: &Namespace,
        device: u32,
        port: u32,
    ) -> Result<Vec<RdmaCount>, Refusal> {
        self.asked(|host| host.rdma_counters(space, device, port))
    }

    fn rdma_resources(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal> {
        self.asked(|host| host.rdma_resources(space, device))
    }

    fn run(&self, program: &Program, arguments: &[&str], input: &[u8]) -> Result<Output, Refusal> {
        self.asked(|host| host.run(program, arguments, input))
    }

    fn unfinished(&self) -> Vec<Unfinished> {
        // Asks our own memory, not the kernel.
        self.inner.unfinished()
    }

    fn now(&self) -> Timestamp {
        // Reading the clock touches nothing: it is no primitive to die at.
        self.inner.now()
    }

    fn wait(&self, interests: &[Interest], timeout: Duration) -> Woken {
        self.step(|host| host.wait(interests, timeout)).unwrap_or_else(|| self.too_late())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Flavour, Machine, SimHost};
    use expect_test::expect;

    fn host() -> Crashing<SimHost> {
        let machine = Machine::small_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH);
        Crashing::new(SimHost::new(machine), Death::Unwind)
    }

    fn process(host: &dyn Host) -> Result<(), Refusal> {
        let _lock = host.lock("/run/ironrail/lock", Duration::ZERO)?;
        host.replace("/var/lib/a", b"1", 0o644)?;
        host.replace("/var/lib/b", b"1", 0o644)
    }

    #[test]
    fn a_process_dies_before_or_after_the_call_it_was_told_and_its_locks_go_with_it() {
        let mut out = String::new();
        for primitive in 1..=4 {
            for side in [Side::Before, Side::After] {
                let host = host();
                host.arm(Crash { primitive, side });
                let end = survive(|| process(&host));
                let done = host.inner().list("/var/lib").unwrap().join(" ");
                let free = host.inner().lock("/run/ironrail/lock", Duration::ZERO).is_ok();
                out.push_str(&format!(
                    "{primitive} {side:?}: {end:?}; /var/lib: {done}; lock free: {free}\n"
                ));
            }
        }
        expect![[r#"
            1 Before: Err(Killed { crash: Crash { primitive: 1, side: Before } }); /var/lib: kubelet; lock free: true
            1 After: Err(Killed { crash: Crash { primitive: 1, side: After } }); /var/lib: kubelet; lock free: true
            2 Before: Err(Killed { crash: Crash { primitive: 2, side: Before } }); /var/lib: kubelet; lock free: true
            2 After: Err(Killed { crash: Crash { primitive: 2, side: After } }); /var/lib: a kubelet; lock free: true
            3 Before: Err(Killed { crash: Crash { primitive: 3, side: Before } }); /var/lib: a kubelet; lock free: true
            3 After: Err(Killed { crash: Crash { primitive: 3, side: After } }); /var/lib: a b kubelet; lock free: true
            4 Before: Ok(Ok(())); /var/lib: a b kubelet; lock free: true
            4 After: Ok(Ok(())); /var/lib: a b kubelet; lock free: true
        "#]].assert_eq(&out);
    }

    #[test]
    fn another_panic_is_not_swallowed() {
        let caught = catch_unwind(|| survive(|| resume_unwind(Box::new("another"))));
        assert!(caught.is_err());
    }

    #[test]
    fn a_dead_process_touches_nothing() {
        let host = host();
        host.arm(Crash { primitive: 1, side: Side::Before });
        let _ = survive(|| process(&host));
        let refusal = host.remove("/etc/hostname").unwrap_err();
        assert_eq!(refusal.to_string(), "go on after death: interrupted system call");
        assert!(host.inner().read("/etc/hostname").is_ok());
        assert_eq!(host.count(), 1);
    }

    #[test]
    fn another_thread_of_a_dead_process_does_not_wait_for_what_never_comes() {
        let host = host();
        let crash = Crash { primitive: 1, side: Side::Before };
        host.arm(crash);
        let _ = survive(|| process(&host));
        let end = survive(|| host.wait(&[], Duration::from_secs(1)));
        assert_eq!(end, Err(Killed { crash }));
    }
}
