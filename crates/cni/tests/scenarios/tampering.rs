//! A host that refuses one primitive of a call, or tells it something else than the machine did.

use api::{PciAddress, RdmaMode, Timestamp};
use host::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, Errno, Interest, Link, LinkChange,
    LinkQuery, Lock, Metadata, Output, Program, RdmaChange, RdmaCount, RdmaDevice, RdmaPort,
    RdmaUser, Route, RouteChange, Woken,
};
use host::unfinished::Unfinished;
use host::{Host, Namespace, Refusal};
use std::cell::{Cell, RefCell};
use std::sync::Mutex;
use std::time::Duration;

/// What happens to the chosen primitive.
#[derive(Debug, Clone, Copy)]
pub enum Tamper {
    /// It is not done, and refused like this.
    Refuse(Errno),
    /// A file is not what it was: this is read in its place.
    Content(&'static [u8]),
    /// A program finds this lock held, and fails for it.
    Locks(&'static str),
    /// Just before it the VFs of this PF are taken away.
    VfsGone(&'static str),
}

pub struct Tampering<'a> {
    inner: &'a dyn Host,
    at: u32,
    tamper: Tamper,
    state: Mutex<(Cell<u32>, RefCell<Option<String>>)>,
    asked: Mutex<Vec<String>>,
}

impl<'a> Tampering<'a> {
    /// Tampers with the primitive of this number, counted from 1; of files, only reads are counted.
    pub fn new(inner: &'a dyn Host, at: u32, tamper: Tamper) -> Self {
        Self { inner, at, tamper, state: Mutex::default(), asked: Mutex::default() }
    }

    /// Nothing is tampered with.
    pub fn listening(inner: &'a dyn Host) -> Self {
        Self::new(inner, 0, Tamper::Refuse(Errno::IO))
    }

    /// All that was asked of the machine, but for reads.
    pub fn heard(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// What was tampered with; None: the call came to its end before.
    pub fn hit(&self) -> Option<String> {
        self.state.lock().unwrap().1.borrow().clone()
    }

    /// True when it is this one's turn.
    fn is_next(&self, what: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.0.set(state.0.get() + 1);
        let is_next = state.0.get() == self.at;
        if is_next {
            state.1.replace(Some(what.to_owned()));
        }
        is_next
    }

    fn asked<T>(
        &self,
        what: String,
        primitive: impl FnOnce(&dyn Host) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.asked.lock().unwrap().push(what.clone());
        match self.tamper {
            Tamper::Refuse(errno) if self.is_next(&what) => Err(Refusal::new(what, errno)),
            Tamper::Locks(path) if what == "run a program" && self.is_next(&what) => {
                self.inner.lock(path, Duration::ZERO).map(drop)?;
                primitive(self.inner)
            }
            Tamper::VfsGone(pf) if self.is_next(&what) => {
                let count = format!("/sys/bus/pci/devices/{pf}/sriov_numvfs");
                self.inner.write(&count, "0")?;
                primitive(self.inner)
            }
            _ => primitive(self.inner),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! refusable {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty, $what:expr;)*) => {
        impl Host for Tampering<'_> {
            fn read(&self, path: &str) -> Result<Vec<u8>, Refusal> {
                match self.tamper {
                    Tamper::Content(content) if self.is_next(path) => Ok(content.to_vec()),
                    _ => self.asked(format!("read {path}"), |host| host.read(path)),
                }
            }

            fn unfinished(&self) -> Vec<Unfinished> {
                self.inner.unfinished()
            }

            fn now(&self) -> Timestamp {
                self.inner.now()
            }

            fn wait(&self, interests: &[Interest], timeout: Duration) -> Woken {
                self.inner.wait(interests, timeout)
            }

            $(fn $name(&self, $($argument: $kind),*) -> Result<$answer, Refusal> {
                self.asked($what.to_string(), |host| host.$name($($argument),*))
            })*
        }
    };
}

refusable! {
    write(path: &str, content: &str) -> (), format!("write {content} to {path}");
    list(path: &str) -> Vec<String>, format!("list {path}");
    link_target(path: &str) -> String, format!("read the link {path}");
    metadata(path: &str) -> Metadata, format!("look at {path}");
    replace(path: &str, content: &[u8], mode: u32) -> (), format!("replace {path}");
    append(path: &str, content: &[u8]) -> (), format!("add to {path}");
    remove(path: &str) -> (), format!("remove {path}");
    lock(path: &str, timeout: Duration) -> Lock, format!("lock {path}");
    links(space: &Namespace, query: &LinkQuery) -> Vec<Link>, "list the interfaces";
    change_link(space: &Namespace, change: &LinkChange) -> (), "change an interface";
    addresses(space: &Namespace, link: Option<u32>) -> Vec<Address>, "list the addresses";
    change_address(space: &Namespace, change: &AddressChange) -> (), "change an address";
    routes(space: &Namespace) -> Vec<Route>, "list the routes";
    change_route(space: &Namespace, change: &RouteChange) -> (), "change a route";
    send_frame(space: &Namespace, link: u32, frame: &[u8]) -> (), format!("send {}", hex(frame));
    set_sysctl(space: &Namespace, name: &str, value: &str) -> (), format!("set {name}");
    devlink(device: &PciAddress) -> DevlinkDevice, "ask devlink";
    change_devlink(device: &PciAddress, change: &DevlinkChange) -> (), "change by devlink";
    rdma_mode() -> RdmaMode, "ask for the rdma mode";
    rdma_devices(space: &Namespace) -> Vec<RdmaDevice>, "list the rdma devices";
    rdma_ports(space: &Namespace, device: u32) -> Vec<RdmaPort>, "list the ports of an rdma device";
    rdma_users(space: &Namespace) -> Vec<RdmaUser>, "list the users of rdma devices";
    rdma_counters(space: &Namespace, device: u32, port: u32) -> Vec<RdmaCount>, "ask for counters";
    rdma_resources(space: &Namespace, device: u32) -> Vec<RdmaCount>, "count resources";
    change_rdma(space: &Namespace, change: &RdmaChange) -> (), "change an rdma device";
    run(program: &Program, arguments: &[&str], input: &[u8]) -> Output, "run a program";
}
