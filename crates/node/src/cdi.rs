//! Whether containers are given their devices by CDI name: judged by what container runtime and kubelet say of
//! themselves, and while the runtime is silent by what was done before. Pure.
//!
//! A runtime may have CDI switched off, or look for specs elsewhere; a kubelet may have the gate switched off that passes
//! names on. Then devices are given by path. Asking is `sandboxes`' and `kubelet`'s.

use crate::kubelet::Gates;
use api::{Timestamp, files};
use serde_json::Value;
use std::time::Duration;

/// Without it a kubelet throws the names away that a device plugin gives: alpha in 1.28, on since 1.29, locked in 1.31.
const GATE: &str = "DevicePluginCDIDevices";
/// A gate that nobody has set follows the one for all of its stage.
const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";
/// The gates to look for.
pub const GATES: [&str; 3] = [GATE, ALL_ALPHA, ALL_BETA];

/// How often a runtime that answers is asked again, and the longest pause with one that does not.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// The first pause with a silent runtime; doubled each time.
const ASK_SOON: Duration = Duration::from_secs(1);

/// What a container runtime says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    pub name: String,
    pub version: String,
    /// containerd's configuration as JSON; empty where the runtime tells none.
    pub configuration: String,
}

/// What is known at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// None: it has not answered yet.
    pub runtime: Option<&'a Runtime>,
    /// Why it did not answer when it was asked last; empty where it did.
    pub silence: &'a str,
    /// The kubelet's version as its Node tells it.
    pub kubelet: &'a str,
    /// None: nobody has looked yet.
    pub gates: Option<&'a Result<Gates, String>>,
    /// How devices were offered last in this boot.
    pub by_path: Option<bool>,
    /// `useCDI: false` is written out.
    pub refused: bool,
    /// What the node state says.
    pub told: &'a str,
}

/// The finding, and the sentence that the node state reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdi {
    pub is_on: bool,
    pub sentence: String,
}

const WRITTEN_OUT: &str = "SriovOperatorConfig/default says useCDI: false, take it out";

/// What stands before the reason why a runtime could not be asked; it is no part of what was found out before.
const SILENT: &str = "; it does not answer now: ";

/// Where nobody can tell, CDI is the default, and the sentence says so.
pub fn judge(known: &Known<'_>) -> Cdi {
    if known.refused {
        return off(WRITTEN_OUT.to_owned());
    }
    let told = known.told.split(SILENT).next().unwrap_or_default();
    // It was a person's wish, and says nothing of the runtime.
    let told = if told.contains(WRITTEN_OUT) { "" } else { told };
    let mut cdi = found_out(&Known { told, ..*known });
    if !known.silence.is_empty() {
        cdi.sentence.push_str(&format!("{SILENT}{}", known.silence));
    }
    cdi
}

fn found_out(known: &Known<'_>) -> Cdi {
    let remark = match passes_names(known.kubelet, known.gates) {
        Names::Dropped(why) => return off(why),
        Names::Passed => None,
        Names::Unknown(why) => Some(why),
    };
    let Some(runtime) = known.runtime else { return as_before(known) };
    let of_runtime = of_runtime(runtime).unwrap_or_else(|| {
        on(format!(
            "{} {} does not say whether it has it, so it is taken to",
            runtime.name, runtime.version
        ))
    });
    match remark.filter(|_| of_runtime.is_on) {
        Some(why) => Cdi {
            sentence: format!(
                "{}; whether the kubelet passes names on to it cannot be found out, so it is taken to: {why}",
                of_runtime.sentence
            ),
            ..of_runtime
        },
        None => of_runtime,
    }
}

/// The runtime is silent: what pods were given in this boot goes on, else what the node state says.
fn as_before(known: &Known<'_>) -> Cdi {
    let told = ["on", "off"].into_iter().find(|word| known.told.starts_with(&format!("{word}:")));
    let is_on = known.by_path.map(|by_path| !by_path).or(told.map(|word| word == "on"));
    match (is_on, told) {
        (Some(true), Some("on")) | (Some(false), Some("off")) => {
            Cdi { is_on: told == Some("on"), sentence: known.told.to_owned() }
        }
        (Some(false), _) => off("devices were last given so in this boot, and the container runtime has not answered since".to_owned()),
        (Some(true), _) => on("devices were last given so in this boot, and the container runtime has not answered since".to_owned()),
        (None, _) => on("it is the default, and the container runtime has not answered yet".to_owned()),
    }
}

/// What a kubelet does with the CDI names of a device plugin.
enum Names {
    Passed,
    Dropped(String),
    Unknown(String),
}

fn passes_names(version: &str, gates: Option<&Result<Gates, String>>) -> Names {
    let release = release(version);
    if release.is_some_and(|release| release < (1, 28)) {
        return Names::Dropped(format!("the kubelet {version} does not know it"));
    }
    // Locked: a kubelet with the gate off would not start.
    let (is_locked, is_alpha) = (release >= Some((1, 31)), release == Some((1, 28)));
    let unset = Gates::new();
    let gates = match gates {
        _ if is_locked => return Names::Passed,
        None if release.is_none() => return Names::Passed,
        None => &unset,
        Some(Ok(gates)) => gates,
        Some(Err(_)) if is_alpha => &unset,
        Some(Err(why)) => return Names::Unknown(why.clone()),
    };
    let who = format!("the kubelet {version}");
    let who = who.trim_end();
    let stage = if is_alpha { ALL_ALPHA } else { ALL_BETA };
    let set = [GATE, stage].into_iter().find_map(|name| Some((name, *gates.get(name)?)));
    match set {
        Some((_, true)) => Names::Passed,
        Some((name, false)) => Names::Dropped(format!(
            "{who} has its feature gate {name} switched off, so it keeps CDI names from the runtime; take it out of its featureGates and restart it"
        )),
        None if is_alpha => Names::Dropped(format!(
            "{who} has its feature gate {GATE} off by default; switch it on in its featureGates and restart it"
        )),
        None => Names::Passed,
    }
}

/// None where the runtime says too little.
fn of_runtime(runtime: &Runtime) -> Option<Cdi> {
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
                None => on(format!("{who} has it")),
                Some(directories) => off(format!(
                    "{who} reads specs in {directories} and not in {}; add it to its cdi_spec_dirs and restart it",
                    files::CDI
                )),
            })
        }
        _ => None,
    }
}

fn on(why: String) -> Cdi {
    Cdi { is_on: true, sentence: format!("on: {why}") }
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

/// When the container runtime is asked what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    last: Option<Timestamp>,
    /// The pause while it is silent.
    silence: Option<Duration>,
}

impl Ask {
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.left(now).is_zero()
    }

    pub fn answered(&mut self, now: Timestamp) {
        *self = Self { last: Some(now), silence: None };
    }

    pub fn failed(&mut self, now: Timestamp) {
        let pause = self.silence.map_or(ASK_SOON, |pause| pause.saturating_mul(2).min(ASK_AGAIN));
        *self = Self { last: Some(now), silence: Some(pause) };
    }

    /// None while it is not silent: nobody needs to wake up for it.
    pub fn silence_ends_in(&self, now: Timestamp) -> Option<Duration> {
        self.silence.map(|_| self.left(now))
    }

    /// A clock that was set back counts as time that has passed.
    fn left(&self, now: Timestamp) -> Duration {
        let passed = self.last.map(|last| now.duration_since(last).unsigned_abs());
        passed.map_or(Duration::ZERO, |passed| {
            self.silence.unwrap_or(ASK_AGAIN).saturating_sub(passed)
        })
    }
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
            let runtime = Runtime { name, version, configuration };
            judge(&Known { runtime: Some(&runtime), ..Known::default() }).sentence
        });
        expect![[r#"
            off: containerd 1.7.24 has it switched off; set enable_cdi = true in its CRI configuration and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            on: containerd v1.7.24~ds1 has it
            off: containerd 1.7.24 reads specs in /etc/cdi and not in /var/run/cdi; add it to its cdi_spec_dirs and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            off: containerd 1.6.20 does not know it; containerd has it since 1.7; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            off: containerd 1.7.2 does not say that it is switched on; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            on: containerd v2.1.4 has it
            on: cri-o 1.33.0 has it
            on: containerd unknown does not say whether it has it, so it is taken to
            on: docker 0.3 does not say whether it has it, so it is taken to"#]].assert_eq(&told.join("\n"));
    }

    const OFF: &str = "off: containerd 1.7.24 has it switched off";
    const ON: &str = "on: containerd 2.1.4 has it";

    #[test]
    fn while_the_runtime_is_silent_devices_are_given_as_before() {
        let moments = [
            (None, ""),
            (None, OFF),
            (None, ON),
            (None, "something else"),
            (Some(true), OFF),
            (Some(true), ON),
            (Some(false), OFF),
            (Some(false), ""),
        ];
        let told = moments.map(|(by_path, told)| {
            let Cdi { is_on, sentence } = judge(&Known { by_path, told, ..Known::default() });
            assert!(sentence.starts_with(if is_on { "on:" } else { "off:" }));
            sentence
        });
        expect![[r#"
            on: it is the default, and the container runtime has not answered yet
            off: containerd 1.7.24 has it switched off
            on: containerd 2.1.4 has it
            on: it is the default, and the container runtime has not answered yet
            off: containerd 1.7.24 has it switched off
            off: devices were last given so in this boot, and the container runtime has not answered since; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            on: devices were last given so in this boot, and the container runtime has not answered since
            on: devices were last given so in this boot, and the container runtime has not answered since"#]].assert_eq(&told.join("\n"));
    }

    #[test]
    fn a_kubelet_that_keeps_names_to_itself_is_named_with_the_way_out() {
        let runtime = Runtime {
            name: "cri-o".to_owned(),
            version: "1.30.1".to_owned(),
            ..Runtime::default()
        };
        let gates = |set: &[(&str, bool)]| {
            Some(Ok(set.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()))
        };
        let unread = || Some(Err("no process of this host is called kubelet".to_owned()));
        let moments = [
            ("v1.27.16", None),
            ("v1.28.3", gates(&[])),
            ("v1.28.3", unread()),
            ("v1.28.3", gates(&[("AllAlpha", true)])),
            ("v1.30.2", None),
            ("v1.30.2", gates(&[])),
            ("v1.30.2", gates(&[(GATE, false)])),
            ("v1.30.2", gates(&[("AllBeta", false)])),
            ("v1.30.2", gates(&[("AllBeta", false), (GATE, true)])),
            ("v1.30.2", unread()),
            ("v1.31.0", unread()),
            ("v1.33.4+k3s1", gates(&[("AllBeta", false)])),
            ("", gates(&[(GATE, false)])),
            ("", None),
        ];
        let told = moments.map(|(kubelet, gates)| {
            let known = Known {
                runtime: Some(&runtime),
                kubelet,
                gates: gates.as_ref(),
                ..Known::default()
            };
            format!("{kubelet}: {}", judge(&known).sentence)
        });
        expect![[r#"
            v1.27.16: off: the kubelet v1.27.16 does not know it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            v1.28.3: off: the kubelet v1.28.3 has its feature gate DevicePluginCDIDevices off by default; switch it on in its featureGates and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            v1.28.3: off: the kubelet v1.28.3 has its feature gate DevicePluginCDIDevices off by default; switch it on in its featureGates and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            v1.28.3: on: cri-o 1.30.1 has it
            v1.30.2: on: cri-o 1.30.1 has it
            v1.30.2: on: cri-o 1.30.1 has it
            v1.30.2: off: the kubelet v1.30.2 has its feature gate DevicePluginCDIDevices switched off, so it keeps CDI names from the runtime; take it out of its featureGates and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            v1.30.2: off: the kubelet v1.30.2 has its feature gate AllBeta switched off, so it keeps CDI names from the runtime; take it out of its featureGates and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            v1.30.2: on: cri-o 1.30.1 has it
            v1.30.2: on: cri-o 1.30.1 has it; whether the kubelet passes names on to it cannot be found out, so it is taken to: no process of this host is called kubelet
            v1.31.0: on: cri-o 1.30.1 has it
            v1.33.4+k3s1: on: cri-o 1.30.1 has it
            : off: the kubelet has its feature gate DevicePluginCDIDevices switched off, so it keeps CDI names from the runtime; take it out of its featureGates and restart it; until then devices are given by path, and a pod whose character devices get other numbers must be recreated
            : on: cri-o 1.30.1 has it"#]].assert_eq(&told.join("\n"));
    }

    /// A daemon that cannot reach the runtime's socket is blind for ever: people must see that, and why.
    #[test]
    fn why_the_runtime_is_silent_is_said_once_and_taken_back_when_it_answers() {
        let why = "cannot ask the container runtime at /host/run/x.sock: no such file or directory";
        let runtime = Runtime { name: "cri-o".to_owned(), ..Runtime::default() };
        let (mut told, mut said) = (String::new(), vec![]);
        for (silence, runtime) in
            [(why, None), (why, None), ("", Some(&runtime)), (why, Some(&runtime)), (why, None)]
        {
            told = judge(&Known { silence, runtime, told: &told, ..Known::default() }).sentence;
            said.push(told.clone());
        }
        expect![[r#"
            on: it is the default, and the container runtime has not answered yet; it does not answer now: cannot ask the container runtime at /host/run/x.sock: no such file or directory
            on: it is the default, and the container runtime has not answered yet; it does not answer now: cannot ask the container runtime at /host/run/x.sock: no such file or directory
            on: cri-o  has it
            on: cri-o  has it; it does not answer now: cannot ask the container runtime at /host/run/x.sock: no such file or directory
            on: cri-o  has it; it does not answer now: cannot ask the container runtime at /host/run/x.sock: no such file or directory"#]].assert_eq(&said.join("\n"));
    }

    #[test]
    fn the_gate_counts_also_while_the_runtime_is_silent() {
        let gates = Ok(Gates::from([(GATE.to_owned(), false)]));
        let known = Known {
            kubelet: "v1.30.2",
            gates: Some(&gates),
            by_path: Some(false),
            told: ON,
            ..Known::default()
        };
        assert!(!judge(&known).is_on);
    }

    #[test]
    fn a_silent_runtime_is_asked_after_one_second_then_less_and_less_often() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut ask = Ask::default();
        assert!(ask.is_due(now));
        let mut pauses = vec![];
        for _ in 0..8 {
            ask.failed(now);
            let pause = ask.silence_ends_in(now).unwrap();
            now += pause;
            assert!(ask.is_due(now));
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        ask.answered(now);
        assert_eq!((ask.is_due(now), ask.silence_ends_in(now)), (false, None));
        assert!(ask.is_due(now + ASK_AGAIN));
    }
}
