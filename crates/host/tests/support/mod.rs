//! What the tests over the running kernel share: private network namespaces with interfaces in them.
//!
//! A namespace lives as long as its keeper thread; nothing of the machine's own namespace is ever touched.

#![allow(dead_code)] // Each test binary uses its part.

use host::linux::LinuxHost;
use host::netlink::attribute::Writer;
use host::netlink::message::{CREATE, EXCLUSIVE, Request, replies};
use host::netlink::{Body, rdma};
use host::seam::{Host, LinkQuery, Namespace};
use netlink_sys::{Socket, SocketAddr};
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace of our own.
pub struct Space {
    path: String,
    work: Option<Sender<Work>>,
    keeper: Option<JoinHandle<()>>,
}

/// A private namespace, or None, said aloud, where this process may not make one. With `root` in `IRONRAIL_REQUIRE`
/// that is a failure.
pub fn private_space() -> Option<Space> {
    match Space::new() {
        Ok(space) => Some(space),
        Err(errno) => {
            skip("root", &format!("cannot make a network namespace ({errno})"));
            None
        }
    }
}

/// Says aloud that a test is skipped, and why; where `IRONRAIL_REQUIRE` has the word, it fails instead.
pub fn skip(word: &str, why: &str) {
    let required = std::env::var("IRONRAIL_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|required| required == word),
        "{why}, and IRONRAIL_REQUIRE asks for {word}"
    );
    say(&format!("SKIPPED: {why}; it takes {word}"));
}

/// To standard error itself: the test harness swallows what `eprintln!` says.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Space {
    pub fn new() -> Result<Self, rustix::io::Errno> {
        let (ready, answer) = channel();
        let (work, orders) = channel::<Work>();
        let keeper = std::thread::spawn(move || {
            // Deprecated for its other flags, which can break descriptors that threads share; this one cannot.
            #[allow(deprecated)]
            let left = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
            let thread = rustix::thread::gettid().as_raw_nonzero();
            let process = std::process::id();
            let _ = ready.send(left.map(|()| format!("/proc/{process}/task/{thread}/ns/net")));
            for order in orders {
                order();
            }
        });
        let path = answer.recv().expect("the keeper answers once")?;
        Ok(Self { path, work: Some(work), keeper: Some(keeper) })
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::At(self.path.clone())
    }

    /// The running kernel, with this namespace in the place of the host's.
    pub fn host(&self) -> LinuxHost {
        LinuxHost::at_home("/", &self.path).expect("the root directory opens")
    }

    /// Runs `work` inside the namespace.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let order: Work = Box::new(move || {
            let _ = done.send(work());
        });
        self.work.as_ref().expect("the keeper lives").send(order).expect("the keeper listens");
        result.recv().expect("the work ends well")
    }

    /// Makes a pair of interfaces that are joined by a cable.
    pub fn veth(&self, one: &str, other: &str) {
        const IFLA_IFNAME: u16 = 3;
        const IFLA_LINKINFO: u16 = 18;
        let mut peer = vec![0; 16];
        peer.extend(Writer::new().text(IFLA_IFNAME, other).done());
        let info = Writer::new().text(1, "veth").nest(2, Writer::new().bytes(1, &peer));
        let mut payload = vec![0; 16];
        payload.extend(Writer::new().text(IFLA_IFNAME, one).nest(IFLA_LINKINFO, info).done());
        let flags = 0x5 | CREATE | EXCLUSIVE;
        self.run(move || tell(0, &Request { kind: 16, flags, payload }));
    }

    /// Makes an interface without hardware, on top of another where its kind wants one.
    pub fn link(&self, name: &str, kind: &str, lower: Option<u32>) {
        const IFLA_LINK: u16 = 5;
        let info = Writer::new().text(1, kind);
        let mut payload = vec![0; 16];
        let attributes = Writer::new().text(3, name).maybe(lower, |w, at| w.u32(IFLA_LINK, at));
        payload.extend(attributes.nest(18, info).done());
        self.run(move || tell(0, &Request { kind: 16, flags: 0x5 | CREATE | EXCLUSIVE, payload }));
    }

    /// Makes an interface a port of a bridge.
    pub fn put_below(&self, leg: u32, master: u32) {
        const IFLA_MASTER: u16 = 10;
        let mut payload = vec![0; 16];
        payload[4..8].copy_from_slice(&leg.to_ne_bytes());
        payload.extend(Writer::new().u32(IFLA_MASTER, master).done());
        self.run(move || tell(0, &Request { kind: 16, flags: 0x5, payload }));
    }

    pub fn index(&self, name: &str) -> u32 {
        let query = LinkQuery { name: Some(name.to_owned()), ..LinkQuery::default() };
        self.host().links(&Namespace::Host, &query).expect("the interface is there")[0].index
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Makes a soft RDMA device in the namespace of the calling thread.
pub fn soft_rdma(name: &str, kind: &str, netdev: &str) {
    tell(20, &rdma::soft_device(name, kind, netdev));
}

/// The indexes of the RDMA devices as the kernel lists them once, as every other program has them.
pub fn rdma_list() -> Vec<u32> {
    let mut socket = Socket::new(20).expect("a netlink socket");
    socket.bind_auto().expect("an address");
    let query = rdma::device_query().bytes(1);
    socket.send_to(&query, &SocketAddr::new(0, 0), 0).expect("the kernel listens");
    let mut indexes = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full().expect("the kernel answers");
        for reply in replies(&bytes).expect("a message") {
            assert!(!reply.interrupted, "the kernel says that the list has holes");
            match reply.body {
                Body::Data { payload, .. } => {
                    indexes.push(rdma::parse_device(&payload).expect("a device").index);
                }
                Body::Done => return indexes,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Tells the kernel something that the seam has no words for, since the product never says it.
fn tell(protocol: isize, request: &Request) {
    let mut socket = Socket::new(protocol).expect("a netlink socket");
    socket.bind_auto().expect("an address");
    socket.send_to(&request.bytes(1), &SocketAddr::new(0, 0), 0).expect("the kernel listens");
    let (bytes, _) = socket.recv_from_full().expect("the kernel answers");
    let bodies: Vec<Body> =
        replies(&bytes).expect("a message").into_iter().map(|reply| reply.body).collect();
    assert_eq!(bodies, [Body::Done]);
}
