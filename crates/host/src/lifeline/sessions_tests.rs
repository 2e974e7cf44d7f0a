//! Texts of the kernel and of people, as they are found in the field.

use super::*;
use expect_test::{Expect, expect};

fn check<T: std::fmt::Debug>(lines: &[&str], read: impl Fn(&str) -> T, expected: Expect) {
    let text: String = lines.iter().map(|line| format!("{line}: {:?}\n", read(line))).collect();
    expected.assert_eq(&text);
}

#[test]
fn a_server_is_read_from_its_url() {
    check(
        &[
            "https://10.0.0.1:6443",
            "https://api-int.example.org:6443/",
            "'https://[fd00::1]:6443'",
            "https://ABCDEF.gr7.eu-west-1.eks.example",
            "http://10.0.0.1:8080",
            "https://10.0.0.1:99999",
        ],
        server,
        expect![[r#"
            https://10.0.0.1:6443: Some(("10.0.0.1", 6443))
            https://api-int.example.org:6443/: Some(("api-int.example.org", 6443))
            'https://[fd00::1]:6443': Some(("fd00::1", 6443))
            https://ABCDEF.gr7.eu-west-1.eks.example: Some(("ABCDEF.gr7.eu-west-1.eks.example", 443))
            http://10.0.0.1:8080: None
            https://10.0.0.1:99999: None
        "#]],
    );
}

#[test]
fn only_established_connections_count() {
    check(
        &[
            "1: 0B00000A:8B12 0200000A:192B 01 00000000:00000000 02:000003E8 00000000     0        0 1 2",
            "2: 0B00000A:8B12 0200000A:192B 06 00000000:00000000 02:000003E8 00000000     0        0 1 2",
            "3: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1",
            "4: 0000000000000000FFFF00000B00000A:8B12 0000000000000000FFFF00000300000A:192B 01 0:0 0:0 0",
            "5: short:1 zz:2 01",
        ],
        established,
        expect![[r#"
            1: 0B00000A:8B12 0200000A:192B 01 00000000:00000000 02:000003E8 00000000     0        0 1 2: Some(10.0.0.2:6443)
            2: 0B00000A:8B12 0200000A:192B 06 00000000:00000000 02:000003E8 00000000     0        0 1 2: None
            3: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1: None
            4: 0000000000000000FFFF00000B00000A:8B12 0000000000000000FFFF00000300000A:192B 01 0:0 0:0 0: Some(10.0.0.3:6443)
            5: short:1 zz:2 01: None
        "#]],
    );
}

#[test]
fn servers_of_mounts_are_read_from_options_and_sources() {
    check(
        &[
            "fs.example:/home /home nfs4 rw,vers=4.2,clientaddr=10.0.0.11,addr=10.0.0.5 0 0",
            "fs.example:/home /home nfs rw,vers=3,mountaddr=10.0.0.9,addr=fd00::5 0 0",
            "//nas/share /mnt cifs rw,vers=3.1.1,addr=10.0.0.6,file_mode=0755 0 0",
            "10.0.0.1:6789,10.0.0.2:6789:/ /ceph ceph rw,name=admin 0 0",
            "admin@07fe3187.fs=/ /ceph ceph rw,mon_addr=10.0.0.1:3300/10.0.0.2:3300 0 0",
            "10.0.0.3@o2ib:10.0.0.4@o2ib:/scratch /scratch lustre rw,flock 0 0",
            "gluster.example:/vol /vol fuse.glusterfs rw 0 0",
            "10.0.0.8:/vol /vol fuse.glusterfs rw 0 0",
            "/dev/sda2 / ext4 rw,addr=10.0.0.5 0 0",
            "cut off",
        ],
        |line| mounts(line).into_iter().map(|peer| peer.detail).collect::<Vec<_>>(),
        expect![[r#"
            fs.example:/home /home nfs4 rw,vers=4.2,clientaddr=10.0.0.11,addr=10.0.0.5 0 0: ["nfs4 from 10.0.0.5"]
            fs.example:/home /home nfs rw,vers=3,mountaddr=10.0.0.9,addr=fd00::5 0 0: ["nfs from fd00::5"]
            //nas/share /mnt cifs rw,vers=3.1.1,addr=10.0.0.6,file_mode=0755 0 0: ["cifs from 10.0.0.6"]
            10.0.0.1:6789,10.0.0.2:6789:/ /ceph ceph rw,name=admin 0 0: ["ceph from 10.0.0.1", "ceph from 10.0.0.2"]
            admin@07fe3187.fs=/ /ceph ceph rw,mon_addr=10.0.0.1:3300/10.0.0.2:3300 0 0: ["ceph from 10.0.0.1", "ceph from 10.0.0.2"]
            10.0.0.3@o2ib:10.0.0.4@o2ib:/scratch /scratch lustre rw,flock 0 0: ["lustre from 10.0.0.3", "lustre from 10.0.0.4"]
            gluster.example:/vol /vol fuse.glusterfs rw 0 0: []
            10.0.0.8:/vol /vol fuse.glusterfs rw 0 0: ["fuse.glusterfs from 10.0.0.8"]
            /dev/sda2 / ext4 rw,addr=10.0.0.5 0 0: []
            cut off: []
        "#]],
    );
}

#[test]
fn the_running_kernel_shows_a_connection_as_it_is_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let _open = std::net::TcpStream::connect(to).unwrap();
    #[allow(clippy::disallowed_methods, reason = "the kernel's own table, not the host's files")]
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    assert!(table.lines().skip(1).filter_map(established).any(|peer| peer == to), "{table}");
}
