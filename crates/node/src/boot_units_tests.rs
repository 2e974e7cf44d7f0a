//! Units and program on a simulated machine: what is written, run and taken away.

use super::*;
use expect_test::expect;
use host::sim::{Flavour, Machine, SimHost};

fn machine() -> Machine {
    let now = api::Timestamp::from_second(1_700_000_000).unwrap();
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
    let without = install(&host, "/usr/local/bin/", b"ELF").unwrap_err();
    host.replace(&format!("{RUN_SYSTEMD}/notify"), b"", 0o600).unwrap();
    host.take_journal();
    let read_only = install(&host, "/usr/local/bin/", b"ELF").unwrap_err();
    install(&host, "/opt/bin/", b"ELF").unwrap();
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
        cannot install the boot phases: /usr/local/bin/ironrail-node: read-only file system; give a directory for programs that this host can write, with --to

        replace /usr/local/bin/ironrail-node: ELF: read-only file system
        replace /opt/bin/ironrail-node: ELF
        replace /etc/systemd/system/ironrail-boot-pre.service: # Written by sriov-network-config-daemon; it is written anew when it differs. | [Unit] | Description=ironrail: RDMA mode and virtual functions (pre) | Condition…
        replace /etc/systemd/system/ironrail-boot-post.service: # Written by sriov-network-config-daemon; it is written anew when it differs. | [Unit] | Description=ironrail: RDMA mode and virtual functions (post) | Conditio…
        run systemctl --root=/ enable ironrail-boot-pre.service ironrail-boot-post.service
        run systemctl daemon-reload

        # Written by sriov-network-config-daemon; it is written anew when it differs.
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
    install(&host, "/opt/bin", b"program").unwrap();
    assert_eq!(is_installed(&host), Ok(true));
}

#[test]
fn what_was_installed_goes_again_and_nothing_else() {
    let host = with_systemd();
    let before = host.list(DIRECTORY).unwrap_or_default();
    install(&host, "/opt/bin", b"program").unwrap();
    host.take_journal();
    remove(&host, "/opt/bin/").unwrap();
    let first = did(&host);
    assert_eq!(is_installed(&host), Ok(false));
    assert_eq!(host.list(DIRECTORY).unwrap_or_default().len(), before.len());
    // Nothing is there any more, and that is well too.
    remove(&host, "/opt/bin").unwrap();
    expect![[r#"
        run systemctl stop ironrail-boot-pre.service ironrail-boot-post.service
        run systemctl --root=/ disable ironrail-boot-pre.service ironrail-boot-post.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-pre.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-post.service
        remove /etc/systemd/system/ironrail-boot-pre.service
        remove /etc/systemd/system/ironrail-boot-post.service
        remove /opt/bin/ironrail-node
        run systemctl daemon-reload
        run systemctl reset-failed ironrail-boot-pre.service ironrail-boot-post.service

        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-pre.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-post.service
        remove /etc/systemd/system/ironrail-boot-pre.service
        remove /etc/systemd/system/ironrail-boot-post.service
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
    remove(&host, "/usr/local/bin").unwrap();
    expect![[r#"
        run systemctl stop ironrail-boot-post.service
        run systemctl --root=/ disable ironrail-boot-post.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-pre.service
        remove /etc/systemd/system/multi-user.target.wants/ironrail-boot-post.service
        remove /etc/systemd/system/ironrail-boot-pre.service
        remove /etc/systemd/system/ironrail-boot-post.service
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
    let error = remove(&host, "/usr/local/bin").unwrap_err();
    expect!["cannot remove the boot phases: /usr/local/bin/ironrail-node: read-only file system"]
        .assert_eq(&error);
}
