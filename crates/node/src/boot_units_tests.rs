//! Units and program on a simulated machine: what is written, run and taken away.

use super::*;
use expect_test::expect;
use host::sim::{Flavour, Machine, SimHost};

fn machine() -> Machine {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let mut machine = Machine::small_worker("worker-0", Flavour::Rhel, now);
    machine.boot();
    machine
}

fn with_systemd() -> SimHost {
    let host = SimHost::new(machine());
    host.replace(&format!("{RUN_SYSTEMD}/notify"), b"", 0o600).unwrap();
    host.take_journal();
    host
}

/// What was done to the host, a line each.
fn did(host: &SimHost) -> String {
    let journal = host.take_journal().into_iter();
    journal.filter_map(|line| line.lines().next().map(|line| line.to_owned() + "\n")).collect()
}

#[test]
fn units_and_program_are_installed_where_there_is_systemd_and_refused_by_name_where_not() {
    let host = SimHost::new(machine());
    let without = install(&host, None, b"ELF", By::Hand).unwrap_err();
    host.replace(&format!("{RUN_SYSTEMD}/notify"), b"", 0o600).unwrap();
    host.take_journal();
    let read_only = install(&host, Some("/usr/local/bin/"), b"ELF", By::Hand).unwrap_err();
    install(&host, None, b"ELF", By::Hand).unwrap();
    let unit = host.read("/etc/systemd/system/ironrail-boot-pre.service").unwrap();
    let did: Vec<String> = host
        .take_journal()
        .into_iter()
        .filter_map(|l| l.lines().next().map(str::to_owned))
        .collect();
    let told = format!(
        "{without}\n{read_only}\n\n{}\n\n{}",
        did.join("\n"),
        String::from_utf8_lossy(&unit)
    );
    expect![[r#"
        cannot install the boot phases: this host has no systemd (/run/systemd/system is not there); without them the daemon sets mode and VFs after the container runtime has started
        cannot install the boot phases: /usr/local/bin/: read-only file system; give a directory for programs that this host can write, with --to

        replace /usr/local/bin/ironrail-node.tried: ELF: read-only file system
        replace /usr/local/bin/ironrail-node.tried: ELF: read-only file system
        replace /opt/bin/ironrail-node.tried: ELF
        run /opt/bin/ironrail-node.tried --version
        remove /opt/bin/ironrail-node.tried
        replace /opt/bin/ironrail-node: ELF
        replace /etc/systemd/system/ironrail-boot-pre.service: # Written by install-boot; sriov-network-config-daemon writes it anew when it differs. | [Unit] | Description=ironrail: RDMA mode and virtual functions (pre) | …
        replace /etc/systemd/system/ironrail-boot-post.service: # Written by install-boot; sriov-network-config-daemon writes it anew when it differs. | [Unit] | Description=ironrail: RDMA mode and virtual functions (post) |…
        run systemctl --root=/ enable ironrail-boot-pre.service ironrail-boot-post.service
        run systemctl daemon-reload

        # Written by install-boot; sriov-network-config-daemon writes it anew when it differs.
        [Unit]
        Description=ironrail: RDMA mode and virtual functions (pre)
        ConditionPathExists=/var/lib/ironrail/order.json
        DefaultDependencies=no
        Conflicts=shutdown.target
        After=local-fs.target systemd-modules-load.service systemd-udev-settle.service
        Wants=systemd-udev-settle.service network-pre.target
        Before=network-pre.target shutdown.target containerd.service crio.service kubelet.service k3s.service k3s-agent.service rke2-server.service rke2-agent.service

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        Environment=HOST_ROOT=/
        ExecStart=/opt/bin/ironrail-node boot pre
        TimeoutStartSec=300
        KillSignal=SIGKILL

        [Install]
        WantedBy=multi-user.target
    "#]].assert_eq(&told);
}

#[test]
fn the_boot_unit_counts_as_a_lever_once_it_is_enabled() {
    let host = SimHost::new(machine());
    assert_eq!(is_installed(&host), Ok(false));
    host.replace(&format!("{RUN_SYSTEMD}/x"), b"", 0o644).unwrap();
    install(&host, Some("/opt/bin"), b"program", By::Hand).unwrap();
    assert_eq!(is_installed(&host), Ok(true));
}

#[test]
fn what_was_installed_goes_again_and_nothing_else() {
    let host = with_systemd();
    let before = host.list(DIRECTORY).unwrap_or_default();
    install(&host, Some("/opt/bin"), b"program", By::Hand).unwrap();
    host.take_journal();
    remove(&host, None).unwrap();
    let first = did(&host);
    assert_eq!(is_installed(&host), Ok(false));
    assert_eq!(host.list(DIRECTORY).unwrap_or_default().len(), before.len());
    // Nothing is there any more, and that is well too.
    remove(&host, Some("/opt/bin")).unwrap();
    expect![[r#"
        run systemctl stop ironrail-boot-pre.service ironrail-boot-post.service
        run systemctl --root=/ disable ironrail-boot-pre.service ironrail-boot-post.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-pre.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-post.service
        remove /etc/systemd/system/ironrail-boot-pre.service
        remove /etc/systemd/system/ironrail-boot-post.service
        remove /opt/bin/ironrail-node.tried
        remove /opt/bin/ironrail-node
        run systemctl daemon-reload
        run systemctl reset-failed ironrail-boot-pre.service ironrail-boot-post.service

        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-pre.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-post.service
        remove /etc/systemd/system/ironrail-boot-pre.service
        remove /etc/systemd/system/ironrail-boot-post.service
        remove /opt/bin/ironrail-node.tried
        remove /opt/bin/ironrail-node
        run systemctl daemon-reload
        run systemctl reset-failed ironrail-boot-pre.service ironrail-boot-post.service
    "#]]
    .assert_eq(&(first + "\n" + &did(&host)));
}

#[test]
fn a_half_that_an_install_left_behind_goes_too() {
    let host = with_systemd();
    let half = format!("{DIRECTORY}/ironrail-boot-post.service");
    host.replace(&half, b"[Unit]\n", 0o644).unwrap();
    host.take_journal();
    remove(&host, None).unwrap();
    expect![[r#"
        run systemctl stop ironrail-boot-post.service
        run systemctl --root=/ disable ironrail-boot-post.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-pre.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-post.service
        remove /etc/systemd/system/ironrail-boot-pre.service
        remove /etc/systemd/system/ironrail-boot-post.service
        remove /usr/local/bin/ironrail-node.tried
        remove /usr/local/bin/ironrail-node
        run systemctl daemon-reload
        run systemctl reset-failed ironrail-boot-pre.service ironrail-boot-post.service
    "#]]
    .assert_eq(&did(&host));
}

#[test]
fn a_file_that_cannot_be_taken_away_is_named() {
    let host = SimHost::new(machine());
    host.machine().files.insert("/usr/local/bin/ironrail-node".to_owned(), b"ELF".to_vec());
    let error = remove(&host, None).unwrap_err();
    expect!["cannot remove the boot phases: /usr/local/bin/ironrail-node: read-only file system"]
        .assert_eq(&error);
}

const OURS: &[u8] = b"ELF of today";

/// What the daemon finds at its start and what it does: `configurationMode: systemd` or not, and its own program.
fn follows(host: &SimHost, by_mode: bool, program: &[u8]) -> String {
    host.take_journal();
    let there = follow(host, by_mode, || Ok(program.to_vec()));
    let did = did(host).lines().count();
    format!("{there:?}, {did} changes; a lever: {}\n", is_installed(host).unwrap())
}

#[test]
fn the_mode_brings_the_boot_phases_keeps_them_current_and_takes_them_away() {
    let host = with_systemd();
    let mut told = follows(&host, false, OURS);
    told += &follows(&host, true, OURS);
    told += &follows(&host, true, OURS);
    told += &follows(&host, true, b"ELF of tomorrow");
    assert_eq!(host.read("/opt/bin/ironrail-node").unwrap(), b"ELF of tomorrow");
    // Somebody's update of the host has emptied the directory.
    host.remove("/opt/bin/ironrail-node").unwrap();
    assert_eq!(is_installed(&host), Ok(false));
    told += &follows(&host, true, OURS);
    told += &follows(&host, false, OURS);
    told += &follows(&host, false, OURS);
    expect![[r#"
        Ok(false), 0 changes; a lever: false
        Ok(true), 9 changes; a lever: true
        Ok(true), 0 changes; a lever: true
        Ok(true), 9 changes; a lever: true
        Ok(true), 9 changes; a lever: true
        Ok(false), 10 changes; a lever: false
        Ok(false), 0 changes; a lever: false
    "#]]
    .assert_eq(&told);
}

#[test]
fn what_a_person_installed_is_renewed_in_its_place_and_stays_whatever_the_mode() {
    let host = with_systemd();
    install(&host, Some("/var/lib/programs"), b"ELF of yesterday", By::Hand).unwrap();
    let mut told = follows(&host, false, OURS);
    assert_eq!(host.read("/var/lib/programs/ironrail-node").unwrap(), OURS);
    told += &follows(&host, true, OURS);
    told += &follows(&host, false, OURS);
    // Units of a version that wrote them in other words.
    let unit = format!("{DIRECTORY}/ironrail-boot-pre.service");
    let old = String::from_utf8(host.read(&unit).unwrap()).unwrap().replace("300", "200");
    host.replace(&unit, old.as_bytes(), 0o644).unwrap();
    told += &follows(&host, false, OURS);
    expect![[r#"
        Ok(true), 8 changes; a lever: true
        Ok(true), 0 changes; a lever: true
        Ok(true), 0 changes; a lever: true
        Ok(true), 8 changes; a lever: true
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_program_that_does_not_run_on_this_host_is_named_and_takes_nobodys_place() {
    let host = with_systemd();
    let dynamic = b"dynamic ELF";
    let refused = install(&host, None, dynamic, By::Hand).unwrap_err();
    expect!["cannot install the boot phases: /opt/bin/ironrail-node: it does not run on this host: /opt/bin/ironrail-node.tried: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by /opt/bin/ironrail-node.tried); give an ironrail-node that is linked statically, with --from"].assert_eq(&refused);
    assert_eq!(is_installed(&host), Ok(false), "it is no lever");
    assert_eq!(host.list("/opt/bin").unwrap_or_default(), [""; 0]);

    install(&host, None, OURS, By::Mode).unwrap();
    assert!(follow(&host, true, || Ok(dynamic.to_vec())).is_err());
    assert_eq!(host.read("/opt/bin/ironrail-node").unwrap(), OURS);
    assert_eq!(is_installed(&host), Ok(true));
}

/// When the daemon looks at them over an hour, second by second, and each look fails until it says otherwise.
fn looks(fails: impl Fn(i64) -> bool) -> Vec<i64> {
    let mut follow = Follow::default();
    let mut looks = Vec::new();
    for second in 0..3600 {
        let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
        if follow.is_due(true, now) {
            looks.push(second);
            follow.note(true, !fails(second), now);
        }
    }
    looks
}

#[test]
fn boot_phases_that_could_not_be_installed_are_tried_again_ever_more_rarely() {
    assert_eq!(looks(|_| false), [0]);
    assert_eq!(looks(|_| true), [0, 30, 90, 210, 450, 930, 1890]);
    assert_eq!(looks(|second| second < 100), [0, 30, 90, 210], "it went well at last");
}

#[test]
fn boot_phases_are_looked_at_anew_when_the_mode_changes_or_the_clock_is_set_back() {
    let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
    let mut follow = Follow::default();
    follow.note(true, true, at(0));
    assert_eq!([follow.is_due(true, at(1)), follow.is_due(false, at(1))], [false, true]);
    follow.note(true, false, at(2));
    assert_eq!([31, 32, -3600].map(|second| follow.is_due(true, at(second))), [false, true, true]);
}
