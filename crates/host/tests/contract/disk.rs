//! The contract of ordinary files: what is read, listed, replaced, removed and locked, and what is wrong.
//!
//! In a directory of its own, which is left empty.

use super::cases::{Case, Stage};
use host::Host;
use std::time::Duration;

pub const CASES: [Case; 1] =
    [("a file of the disk is replaced and locked, and what is wrong is refused", files)];

const PLACE: &str = "/tmp/contract";

fn files(stage: &mut Stage<'_>) {
    let host = stage.host;
    let at = |name: &str| match name.starts_with('/') {
        true => name.to_owned(),
        false => format!("{PLACE}/{name}"),
    };
    let read = |host: &dyn Host, name: &str| {
        host.read(&at(name)).map(|content| String::from_utf8_lossy(&content).into_owned())
    };
    for name in ["one/file", "one/file", "one", "one/file/below"] {
        stage.say(
            &format!("replace {name}"),
            host.replace(&at(name), b"text", 0o600).map(|()| "done"),
        );
    }
    for name in ["one/file", "one", "one/file/below", "gone", "gone/below"] {
        stage.say(&format!("read {name}"), read(host, name));
        stage.say(&format!("list {name}"), host.list(&at(name)).map(|names| names.join(" ")));
        stage.say(&format!("link {name}"), host.link_target(&at(name)));
        stage.say(
            &format!("look at {name}"),
            host.metadata(&at(name)).map(|found| format!("{:?}", found.kind)),
        );
    }
    for name in ["one/file", "gone"] {
        stage.say(&format!("write {name}"), host.write(&at(name), "more").map(|()| "done"));
    }
    stage.say("read one/file", read(host, "one/file"));
    let first = host.lock(&at("lock"), Duration::ZERO);
    stage.say("lock", first.as_ref().map(|_| "held").map_err(Clone::clone));
    let second = host.lock(&at("lock"), Duration::ZERO);
    stage.say("lock again", second.map(|_| "held"));
    drop(first);
    stage.say("lock when it is free", host.lock(&at("lock"), Duration::ZERO).map(|_| "held"));
    stage.say("lock one", host.lock(&at("one"), Duration::ZERO).map(|_| "held"));
    for name in ["one", "one/file", "one/file", "lock"] {
        stage.say(&format!("remove {name}"), host.remove(&at(name)).map(|()| "done"));
    }
    for name in ["/sys/contract", "/sys/bus/pci/contract", "/proc/contract"] {
        stage.say(&format!("replace {name}"), host.replace(name, b"", 0o600).map(|()| "done"));
    }
    let unreadable = "/sys/bus/pci/drivers_probe";
    stage.say(&format!("read {unreadable}"), read(host, unreadable));
    let space = "/proc/self/ns/net";
    stage.say(&format!("read {space}"), read(host, space));
}
