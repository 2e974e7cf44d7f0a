//! The running kubelet as the host shows it: its arguments, and which of its feature gates somebody has set. Reads only.
//!
//! What follows from a gate is `cdi`'s. A kubelet inside another program (k3s) is not found, and that is said.

use host::{Host, Refusal, processes};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// The gates that somebody has set; all others are as the kubelet's version has them.
pub type Gates = BTreeMap<String, bool>;

/// The arguments of the process that is called kubelet.
pub fn arguments(host: &dyn Host) -> Option<Vec<String>> {
    processes::directories(host).into_iter().flatten().find_map(|process| {
        let name = host.read(&format!("{process}/comm")).ok()?;
        if name.trim_ascii() != b"kubelet" {
            return None;
        }
        let line = host.read(&format!("{process}/cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0);
        Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    })
}

/// The kubelet's own default.
const ROOT_DIR: &str = "/var/lib/kubelet";

/// Where the running kubelet has its files; None where no process is called kubelet.
pub fn root_dir(host: &dyn Host) -> Option<String> {
    Some(flag(&arguments(host)?, "--root-dir").unwrap_or_else(|| ROOT_DIR.to_owned()))
}

/// The sentence for a directory (device and inode) that was given to us as the kubelet's, where its process says another.
pub fn elsewhere(host: &dyn Host, ours: (u64, u64)) -> Option<String> {
    let root = root_dir(host)?;
    let found = host.metadata(&root).ok()?;
    ((found.device, found.inode) != ours).then(|| {
        format!(
            "the kubelet of this host has its files in {root} (--root-dir), and we were given another directory; set KUBELET_ROOT_DIR of the operator's Deployment to {root}"
        )
    })
}

/// `--name=value` or `--name value`; the last one counts, as it does for the kubelet.
pub fn flag(arguments: &[String], name: &str) -> Option<String> {
    flags(arguments, name).pop()
}

fn flags(arguments: &[String], name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        match argument.strip_prefix(name) {
            Some("") => found.extend(arguments.get(index + 1).cloned()),
            Some(rest) => found.extend(rest.strip_prefix('=').map(str::to_owned)),
            None => {}
        }
    }
    found
}

/// Those of `names` that are set: in the configuration file, over it in the files of `--config-dir`, over all in the
/// arguments. Err: the sentence that says why nobody knows.
pub fn gates(host: &dyn Host, names: &[&str]) -> Result<Gates, String> {
    let arguments = arguments(host).ok_or("no process of this host is called kubelet")?;
    let mut gates = Gates::new();
    for file in files(host, &arguments)? {
        let text = host.read(&file).map_err(unread)?;
        let text = String::from_utf8_lossy(&text);
        gates.extend(
            names.iter().filter_map(|name| Some(((*name).to_owned(), set_in(&text, name)?))),
        );
    }
    for one in flags(&arguments, "--feature-gates").iter().flat_map(|value| value.split(',')) {
        let Some((name, value)) = one.split_once('=') else { continue };
        if let (true, Some(value)) = (names.contains(&name.trim()), boolean(value.trim())) {
            gates.insert(name.trim().to_owned(), value);
        }
    }
    Ok(gates)
}

/// A setting of the configuration that is a text: in the file, over it in the files of `--config-dir`. None: nobody has
/// set it. Err: the sentence that says why nobody knows.
pub fn setting(
    host: &dyn Host,
    arguments: &[String],
    name: &str,
) -> Result<Option<String>, String> {
    let mut found = None;
    for file in files(host, arguments)? {
        let text = host.read(&file).map_err(unread)?;
        let text = String::from_utf8_lossy(&text);
        let value = text_in(&text, name).map_err(|line| {
            format!("{file} says {line:?}, and the value of {name} is read from its own line alone")
        })?;
        found = value.or(found);
    }
    Ok(found)
}

/// The files of the configuration, the later over the earlier.
fn files(host: &dyn Host, arguments: &[String]) -> Result<Vec<String>, String> {
    let mut files: Vec<String> = flag(arguments, "--config").into_iter().collect();
    if let Some(directory) = flag(arguments, "--config-dir") {
        let names = match host.list(&directory) {
            Err(refusal) if refusal.errno != Errno::NOENT => return Err(unread(refusal)),
            names => names.unwrap_or_default(),
        };
        let drop_ins = names.iter().filter(|name| name.ends_with(".conf"));
        files.extend(drop_ins.map(|name| format!("{directory}/{name}")));
    }
    Ok(files)
}

fn unread(refusal: Refusal) -> String {
    format!("cannot {refusal}")
}

/// The value of a gate in YAML of either style, or in JSON. A gate's name stands nowhere else.
fn set_in(text: &str, name: &str) -> Option<bool> {
    text.lines().find_map(|line| boolean(behind(line, name)?.split(ENDS).next()?))
}

/// The same of a text; Err: the line that has the name and not the value.
fn text_in<'a>(text: &'a str, name: &str) -> Result<Option<String>, &'a str> {
    let found = text.lines().find_map(|line| Some((line, behind(line, name)?)));
    let Some((line, value)) = found else { return Ok(None) };
    let value = match value.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(['"', '\'']).next(),
        None => value.split(ENDS).next().filter(|value| !value.is_empty()),
    };
    // JSON may write a slash as `\/`.
    value.map(|value| Some(value.replace("\\/", "/"))).ok_or(line.trim())
}

/// What ends a value that is not quoted.
const ENDS: [char; 5] = [',', '}', ' ', '\t', '\r'];

/// What is behind a name and its colon in a line.
fn behind<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.split_once('#').map_or(line, |(before, _)| before);
    let (before, after) = line.split_once(name)?;
    let opened = before.chars().next_back().is_none_or(|c| " \t{,\"'".contains(c));
    let value = after.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?;
    opened.then(|| value.trim_start())
}

/// As YAML and Go's flags write it.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use host::linux::LinuxHost;

    const KUBELET: (&str, &str) = ("/proc/77/comm", "kubelet\n");
    const CONFIG: &str = "/var/lib/kubelet/config.yaml";

    fn check(files: &[(&str, &str)], expected: Expect) {
        let directory = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
        for (path, content) in files {
            host.replace(path, content.as_bytes(), 0o644).unwrap();
        }
        let told = match gates(&host, &["DevicePluginCDIDevices", "AllBeta"]) {
            Ok(gates) => format!("{gates:?}"),
            Err(why) => why,
        };
        expected.assert_eq(&told);
    }

    fn with_file(text: &str, expected: Expect) {
        let line = ("/proc/77/cmdline", "kubelet\0--config\0/var/lib/kubelet/config.yaml\0");
        check(&[KUBELET, line, (CONFIG, text)], expected);
    }

    #[test]
    fn a_gate_is_found_in_every_way_to_write_the_file() {
        with_file(
            "kind: KubeletConfiguration\nfeatureGates:\n  DevicePluginCDIDevices: false\n",
            expect![[r#"{"DevicePluginCDIDevices": false}"#]],
        );
        with_file(
            "featureGates: {AllBeta: true, DevicePluginCDIDevices: False}\n",
            expect![[r#"{"AllBeta": true, "DevicePluginCDIDevices": false}"#]],
        );
        with_file(
            r#"{"featureGates":{"DevicePluginCDIDevices":true,"AllBeta":false}}"#,
            expect![[r#"{"AllBeta": false, "DevicePluginCDIDevices": true}"#]],
        );
        with_file(
            "featureGates:\n#  DevicePluginCDIDevices: false\n  NotAllBeta: true\n",
            expect!["{}"],
        );
        with_file("", expect!["{}"]);
    }

    #[test]
    fn arguments_go_over_drop_ins_and_drop_ins_over_the_file() {
        let file = (CONFIG, "featureGates:\n  DevicePluginCDIDevices: false\n  AllBeta: false\n");
        let drop_in =
            ("/etc/kubelet.d/10-gates.conf", "featureGates: {DevicePluginCDIDevices: true}\n");
        let other =
            ("/etc/kubelet.d/20-gates.bak", "featureGates: {DevicePluginCDIDevices: false}\n");
        let line = "kubelet\0--config=/var/lib/kubelet/config.yaml\0--config-dir=/etc/kubelet.d\0";
        check(
            &[KUBELET, file, drop_in, other, ("/proc/77/cmdline", line)],
            expect![[r#"{"AllBeta": false, "DevicePluginCDIDevices": true}"#]],
        );
        let line = format!(
            "{line}--feature-gates=AllBeta=true,X=1\0--feature-gates\0DevicePluginCDIDevices=f\0"
        );
        check(
            &[KUBELET, file, drop_in, ("/proc/77/cmdline", &line)],
            expect![[r#"{"AllBeta": true, "DevicePluginCDIDevices": false}"#]],
        );
    }

    #[test]
    fn what_cannot_be_read_is_said_and_not_taken_for_unset() {
        check(
            &[("/proc/12/comm", "k3s-server\n")],
            expect!["no process of this host is called kubelet"],
        );
        let line = ("/proc/77/cmdline", "kubelet\0--config=/var/lib/kubelet/config.yaml\0");
        check(
            &[KUBELET, line],
            expect!["cannot read /var/lib/kubelet/config.yaml: no such file or directory"],
        );
        check(&[KUBELET, ("/proc/77/cmdline", "kubelet\0--v=2\0")], expect!["{}"]);
    }
}
