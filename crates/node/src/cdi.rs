//! Whether the container runtime gives containers their devices by CDI name, judged by what it says of itself. Pure.
//!
//! The kubelets that we work with pass the names on: their gate DevicePluginCDIDevices is on since 1.29. A runtime may
//! have it switched off, or look for specs elsewhere; then devices are given by path. Asking is `sandboxes`'.

use api::files;
use serde_json::Value;

/// What a container runtime says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    pub name: String,
    pub version: String,
    /// containerd's configuration as JSON; empty where the runtime tells none.
    pub configuration: String,
}

/// The finding, and the sentence that the node state reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdi {
    pub is_on: bool,
    pub sentence: String,
}

/// None where the runtime says too little: then CDI stays the default.
pub fn judge(runtime: &Runtime) -> Option<Cdi> {
    let told: Value = serde_json::from_str(&runtime.configuration).unwrap_or_default();
    let switched = told.get("enableCDI").and_then(Value::as_bool);
    let who = format!("{} {}", runtime.name, runtime.version);
    match (runtime.name.as_str(), switched, release(&runtime.version)) {
        (_, Some(false), _) => Some(off(format!(
            "{who} has it switched off; set enable_cdi = true in its CRI configuration and restart it"
        ))),
        ("containerd", None, Some(release)) if release < (1, 7) => {
            Some(off(format!("{who} does not know it; containerd has it since 1.7")))
        }
        ("containerd", None, Some(release)) if release < (2, 0) => {
            Some(off(format!("{who} does not say that it is switched on")))
        }
        (_, Some(true), _) | ("containerd", None, Some(_)) | ("cri-o", None, _) => {
            Some(match elsewhere(&told) {
                None => Cdi { is_on: true, sentence: format!("on: {who} has it") },
                Some(directories) => off(format!(
                    "{who} reads specs in {directories} and not in {}; add it to its cdi_spec_dirs and restart it",
                    files::CDI
                )),
            })
        }
        _ => None,
    }
}

fn off(why: String) -> Cdi {
    let consequence = "until then devices are given by path, and a pod whose character devices get other numbers must be recreated";
    Cdi { is_on: false, sentence: format!("off: {why}; {consequence}") }
}

/// The directories that the runtime reads, where ours is not among them.
fn elsewhere(told: &Value) -> Option<String> {
    let directories = told.get("cdiSpecDirs")?.as_array()?;
    let directories: Vec<&str> = directories.iter().filter_map(Value::as_str).collect();
    // /var/run is /run.
    let plain = |path: &str| path.trim_end_matches('/').trim_start_matches("/var").to_owned();
    let is_ours = |path: &&str| plain(path) == plain(files::CDI);
    (!directories.is_empty() && !directories.iter().any(is_ours)).then(|| directories.join(", "))
}

/// `v1.7.24~ds1` is release 1.7.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn cdi_is_on_where_the_runtime_says_so_and_off_with_the_way_out() {
        let off = r#"{"enableCDI":false,"cdiSpecDirs":["/etc/cdi","/var/run/cdi"]}"#;
        let on = r#"{"enableCDI":true,"cdiSpecDirs":["/etc/cdi","/run/cdi/"]}"#;
        let elsewhere = r#"{"enableCDI":true,"cdiSpecDirs":["/etc/cdi"]}"#;
        let runtimes = [
            ("containerd", "1.7.24", off),
            ("containerd", "v1.7.24~ds1", on),
            ("containerd", "1.7.24", elsewhere),
            ("containerd", "1.6.20", "{}"),
            ("containerd", "1.7.2", "garbage"),
            ("containerd", "v2.1.4", ""),
            ("cri-o", "1.33.0", ""),
            ("containerd", "unknown", ""),
            ("docker", "0.3", ""),
        ];
        let told = runtimes.map(|(name, version, configuration)| {
            let [name, version, configuration] = [name, version, configuration].map(str::to_owned);
            judge(&Runtime { name, version, configuration })
                .map_or_else(|| "nobody knows".to_owned(), |cdi| cdi.sentence)
        });
        expect![[r#"
            off: containerd 1.7.24 has it switched off; set enable_cdi = true in its CRI configuration and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            on: containerd v1.7.24~ds1 has it
            off: containerd 1.7.24 reads specs in /etc/cdi and not in /var/run/cdi; add it to its cdi_spec_dirs and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            off: containerd 1.6.20 does not know it; containerd has it since 1.7; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            off: containerd 1.7.2 does not say that it is switched on; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            on: containerd v2.1.4 has it
            on: cri-o 1.33.0 has it
            nobody knows
            nobody knows"#]].assert_eq(&told.join("\n"));
    }
}
