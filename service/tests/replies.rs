//! Replies as programs and as people get them: whole strings.

mod common;

use service::admin::commands::inventory::HealthFinding;
use service::admin::commands::namespaces::check::Finding;
use service::console::Activity;
use service::error::AdminError;
use service::events::{Kind, Severity};
use service::mock::exposition;
use service::stats::Counter;

use common::Terminal;

/// One request's reply line in JSON mode, without its end.
fn json(terminal: &mut Terminal, line: &str) -> String {
    let reply = terminal.say(format!("{line}\n").as_bytes());
    let reply = reply.strip_suffix('\n').unwrap_or_else(|| panic!("{line}: no line: {reply:?}"));
    serde_json::from_str::<serde_json::Value>(reply).unwrap_or_else(|error| panic!("{line}: {error}: {reply}"));
    reply.into()
}

/// One request's text and exit status in text mode.
fn text(terminal: &mut Terminal, line: &str) -> (String, u8) {
    let reply = terminal.say(format!("{line}\n").as_bytes());
    let (text, status) = reply.rsplit_once('\x1e').unwrap_or_else(|| panic!("{line}: no status: {reply:?}"));
    let status = status.strip_suffix('\n').and_then(|status| status.parse().ok());
    (text.into(), status.unwrap_or_else(|| panic!("{line}: {reply:?}")))
}

#[test]
fn machine_replies_have_the_contracts_keys() {
    let mut terminal = Terminal::in_mode("json");
    for (line, reply) in [
        ("version", format!(r#"{{"ok":true,"name":"untorn","version":"{}"}}"#, service::VERSION)),
        (
            "status",
            format!(
                concat!(
                    r#"{{"ok":true,"version":"{}","cpus":2,"memory":268435456,"tables":["RSDP","APIC","NFIT"],"#,
                    r#""namespaces":[{{"dev":"namespace0.0","mode":"sector","size":33130496,"blockdev":"pmem0s","#,
                    r#""state":"active"}}],"exports":[],"uptime":12.345,"unclean_shutdowns_recovered":1,"persist":"clwb"}}"#
                ),
                service::VERSION
            ),
        ),
        (
            "nfit",
            concat!(
                r#"{"ok":true,"structures":[{"table":0,"offset":40,"kind":"spa_range","index":2,"base":4294967296,"#,
                r#""guid":"66f0d379-b4f3-4074-ac43-0d3318b78cdb","lines":[16,32],"hot_add":false}],"refused":[{"table":1,"#,
                r#""offset":96,"what":"structure type 1","why":"its length 0 is less than its header"}],"#,
                r#""remarks":[{"table":0,"offset":40,"what":"structure","why":"volatile memory is left alone"}]}"#
            )
            .into(),
        ),
        ("nfit --raw", r#"{"ok":true,"tables":["TkZJVCBhbmQgc28gb246IDIwIEI=","AAAA"]}"#.into()),
        ("init-labels nmem0 -f", r#"{"ok":true,"dev":"nmem0","label_version":"1.2","slots":510}"#.into()),
        ("destroy-namespace namespace0.0 -f", r#"{"ok":true,"dev":"namespace0.0","state":"destroyed"}"#.into()),
        ("disable-namespace pmem0s", r#"{"ok":true,"dev":"namespace0.0","state":"disabled"}"#.into()),
        (
            "arenas namespace0.0",
            concat!(
                r#"{"ok":true,"dev":"namespace0.0","arenas":[{"size":33550336,"external_lba_start":0,"internal_nlba":64964,"#,
                r#""internal_lbasize":512,"external_nlba":64708,"external_lbasize":512,"nfree":256,"version_major":1,"#,
                r#""version_minor":1,"nextoff":0,"infooff":0,"dataoff":4096,"mapoff":33267712,"logoff":33529856,"#,
                r#""info2off":33546240,"flags":0,"log_index_0":0,"log_index_1":1}]}"#
            )
            .into(),
        ),
        (
            "create-namespace -l 512",
            concat!(
                r#"{"ok":true,"dev":"namespace0.0","mode":"sector","size":33130496,"#,
                r#""uuid":"e412ddd9-4a9e-42e8-9953-05cfdd8f0459","sector_size":512,"blockdev":"pmem0s","#,
                r#""btt":{"uuid":"e412ddd9-4a9e-42e8-9953-05cfdd8f0459","version":"1.1","arenas":1,"nfree":256,"lanes":2,"#,
                r#""flog_slots":[0,1],"state":"active"}}"#
            )
            .into(),
        ),
        ("check-namespace namespace0.0", r#"{"ok":true,"dev":"namespace0.0","arenas":1,"findings":[],"verdict":"sound"}"#.into()),
        ("write pmem0s 3 --fill 0x41", r#"{"ok":true,"dev":"pmem0s","lba":3,"count":1}"#.into()),
        (
            "bench pmem0s --seconds 5 --mix 70 --seed 7 --verify",
            concat!(
                r#"{"ok":true,"dev":"pmem0s","seconds":5.0,"cpus":2,"seed":7,"mix":70,"run":1,"ops":8,"sectors_read":0,"#,
                r#""sectors_written":8,"errors":0,"ops_per_second":1.6,"fences_per_sector":2.5,"#,
                r#""write_backs_per_sector":3.0,"verify":{"sectors":4096,"good":8,"blank":4088,"foreign":0,"torn":0,"#,
                r#""misplaced":0,"unreadable":0,"version_max":2,"faults":[]}}"#
            )
            .into(),
        ),
        (
            "stats",
            concat!(
                r#"{"ok":true,"devices":[{"dev":"pmem0s","reads":7,"writes":0,"sectors_read":0,"sectors_written":0,"#,
                r#""read_errors":0,"write_errors":0,"fences":1,"write_backs":0,"collisions":0,"read_retries":0,"#,
                r#""refusals":0,"commits":0,"cpus":[{"reads":3,"writes":0,"sectors_read":0,"sectors_written":0,"read_errors":0,"#,
                r#""write_errors":0,"fences":0,"write_backs":0,"collisions":0,"read_retries":0,"refusals":0,"commits":0},"#,
                r#"{"reads":4,"writes":0,"sectors_read":0,"sectors_written":0,"read_errors":0,"write_errors":0,"#,
                r#""fences":1,"write_backs":0,"collisions":0,"read_retries":0,"refusals":0,"commits":0}],"sector_size":512,"#,
                r#""latency":{"read":{"buckets":[0,0,0,3,0,0,0,4,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"sum_ns":164500},"#,
                r#""write":{"buckets":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"sum_ns":0}}}],"#,
                r#""queues":[{"dev":"pmem0s","export":1,"queue":0,"cpu":1,"requests":9,"failed":2,"#,
                r#""interrupts":5,"rests":3,"broken":false}],"latency_bounds_ns":[200,500,1000,2000,5000,10000,20000,50000,"#,
                r#"100000,200000,500000,1000000,2000000,5000000,10000000,20000000,50000000,100000000,200000000,500000000,"#,
                r#"1000000000,2000000000,5000000000,10000000000],"machine":{"version":"0.1.0","uptime_ns":12345000000,"#,
                r#""cpus":2,"memory":268435456,"recovered":1,"health":"ok","warnings":0,"errors":0},"#,
                r#""namespaces":[{"dev":"namespace0.0","blockdev":"pmem0s","mode":"sector","state":"active","#,
                r#""size":33130496,"arenas":1,"read_only_arenas":0,"lost_bytes":0}],"#,
                r#""consumers":[{"dev":"pmem0s","export":1,"queues":1}],"nvme":{"connections":2,"connections_max":12,"#,
                r#""refused_connections":0,"refused_hosts":1,"exports":[{"dev":"pmem0s","hosts":["nqn.host"]}]},"#,
                r#""networks":[{"dev":"net0","up":true,"rx":{"frames":12,"bytes":1200,"dropped":1},"#,
                r#""tx":{"frames":3,"bytes":180,"dropped":0}}]}"#
            )
            .into(),
        ),
        ("mode json", r#"{"ok":true,"mode":"json"}"#.into()),
        (
            "frobnicate",
            r#"{"ok":false,"error":{"code":"unknown-command","message":"no command \"frobnicate\": help lists the commands"}}"#
                .into(),
        ),
        (
            "read pmem9s 0",
            r#"{"ok":false,"error":{"code":"not-found","message":"no block device \"pmem9s\": list shows what there is"}}"#
                .into(),
        ),
        (
            "read pmem0s 4095 2",
            r#"{"ok":false,"error":{"code":"out-of-range","message":"LBA 4095, count 2: past the end of pmem0s, which has 4096 sectors"}}"#
                .into(),
        ),
    ] {
        assert_eq!(json(&mut terminal, line), reply, "{line}");
    }
}

#[test]
fn sectors_written_in_base64_read_back_in_base64() {
    let mut terminal = Terminal::in_mode("json");
    let data = format!("{}==", "QUJD".repeat(170) + "QUI"); // 512 bytes
    let data = &data[..data.len() - 1];
    assert_eq!(
        json(&mut terminal, &format!("write pmem0s 5 --data {data}")),
        r#"{"ok":true,"dev":"pmem0s","lba":5,"count":1}"#
    );
    let expected = format!(r#"{{"ok":true,"dev":"pmem0s","lba":5,"count":1,"sector_size":512,"data":"{data}"}}"#);
    assert_eq!(json(&mut terminal, "read pmem0s 5"), expected);
    assert_eq!(&terminal.machine.disk.borrow()[5 * 512..5 * 512 + 4], b"ABCA");
}

#[test]
fn a_read_is_a_mebibyte_at_most() {
    let mut terminal = Terminal::in_mode("json");
    terminal.machine.disk = vec![0x5a; 512 * 4097].into();
    let whole = json(&mut terminal, "read pmem0s 0 2048");
    assert_eq!(whole.len() - whole.find("Wlpa").expect("data"), (1_usize << 20).div_ceil(3) * 4 + 2);
    assert_eq!(
        json(&mut terminal, "read pmem0s 0 2049"),
        r#"{"ok":false,"error":{"code":"too-long","message":"2049 sectors of 512 bytes are more than 1 MiB: read at most 2048 at once"}}"#
    );
}

#[test]
fn errors_change_nothing() {
    let mut terminal = Terminal::in_mode("json");
    let sector = "A".repeat(684);
    for (line, code) in [
        ("write pmem0s 4095 --fill 1 --count 2".into(), "out-of-range"),
        ("write pmem0s 18446744073709551615 --fill 1".into(), "out-of-range"),
        (format!("write pmem0s 4096 --data {}", &sector[..683]), "out-of-range"),
        ("write pmem0s 0 --data QUJD".into(), "usage"),
        ("write pmem0s 0 --data ''".into(), "usage"),
        ("write pmem0s 0 --fill 256".into(), "usage"),
        ("trim pmem0s 4095 2".into(), "out-of-range"),
        ("inject-error pmem0s 4096".into(), "out-of-range"),
        ("errors pmem9s".into(), "not-found"),
        ("export pmem9s".into(), "not-found"),
    ] {
        let reply = json(&mut terminal, &line);
        assert!(reply.contains(&format!(r#""code":"{code}""#)), "{line}: {reply}");
    }
    terminal.machine.read_only = Some("the DIMM is not armed".into());
    assert_eq!(
        json(&mut terminal, "write pmem0s 0 --fill 1"),
        r#"{"ok":false,"error":{"code":"read-only","message":"pmem0s is read-only: the DIMM is not armed"}}"#
    );
    for line in ["bench pmem0s", "trim pmem0s 0 1", "inject-error pmem0s 0", "clear-errors pmem0s 0"] {
        assert!(json(&mut terminal, line).contains("read-only"), "{line}");
    }
    assert!(terminal.machine.disk.borrow().iter().all(|byte| *byte == 0));
    // What only reads goes on.
    assert!(json(&mut terminal, "bench pmem0s --verify").starts_with(r#"{"ok":true"#));
    assert!(json(&mut terminal, "bench pmem0s --seconds 1 --mix 0").starts_with(r#"{"ok":true"#));
}

/// What a consumer uses is not written in either mode without -f; it may be read.
#[test]
fn a_device_in_use_is_written_only_by_force() {
    let writing = [
        "write pmem0s 0 --fill 1",
        "write pmem0s 0 --fill 1 --count 9",
        "trim pmem0s 0 1",
        "inject-error pmem0s 0",
        "inject-error pmem0s 0 --media",
        "clear-errors pmem0s 0",
        "bench pmem0s --seconds 1",
        "bench pmem0s --seconds 1 --mix 1",
    ];
    let reading = ["read pmem0s 9", "bench pmem0s --verify", "bench pmem0s --seconds 1 --mix 0", "errors"];
    for (in_use, force) in [(false, ""), (false, " -f"), (true, ""), (true, " -f"), (true, " --force")] {
        let (mut program, mut person) = (Terminal::in_mode("json"), Terminal::in_mode("text"));
        (program.machine.in_use, person.machine.in_use) = (in_use, in_use);
        let before = program.machine.disk.clone();
        for line in writing {
            let line = format!("{line}{force}");
            let (reply, (told, status)) = (json(&mut program, &line), text(&mut person, &line));
            if in_use && force.is_empty() {
                let message = "pmem0s is in use by a consumer: -f writes to it all the same";
                let error = format!(r#"{{"ok":false,"error":{{"code":"failed","message":"{message}"}}}}"#);
                assert_eq!((reply, status), (error, 1), "{line}");
                assert_eq!(told, format!("error (failed): {message}\n"), "{line}");
            } else {
                assert!(reply.starts_with(r#"{"ok":true"#) && status != 1, "{line}: {reply} {told}");
            }
        }
        assert_eq!(program.machine.disk == before, in_use && force.is_empty());
        for line in reading {
            assert!(json(&mut program, line).starts_with(r#"{"ok":true"#), "{line}");
        }
    }
}

#[test]
fn a_load_overwrites_what_is_recognised_only_by_force() {
    let mut terminal = Terminal::in_mode("json");
    terminal.machine.content = Some("an XFS file system");
    let before = terminal.machine.disk.clone();
    let refused = json(&mut terminal, "bench pmem0s --seconds 1");
    let message = "pmem0s holds an XFS file system: -f overwrites it all the same";
    assert_eq!(refused, format!(r#"{{"ok":false,"error":{{"code":"failed","message":"{message}"}}}}"#));
    assert!(terminal.machine.disk == before);
    for line in ["bench pmem0s --verify", "bench pmem0s --seconds 1 --mix 0", "write pmem0s 9 --fill 1"] {
        assert!(json(&mut terminal, line).starts_with(r#"{"ok":true"#), "{line}");
    }
    assert!(json(&mut terminal, "bench pmem0s --seconds 1 -f").starts_with(r#"{"ok":true"#));
}

#[test]
fn sectors_are_put_in_error_listed_and_cleared() {
    let mut terminal = Terminal::in_mode("json");
    assert_eq!(json(&mut terminal, "errors"), r#"{"ok":true,"errors":[],"media":[],"more":0}"#);
    assert_eq!(json(&mut terminal, "inject-error pmem0s 7"), r#"{"ok":true,"dev":"pmem0s","lba":7,"count":1}"#);
    assert_eq!(
        json(&mut terminal, "errors pmem0s"),
        r#"{"ok":true,"errors":[{"dev":"pmem0s","lba":7,"count":1}],"media":[],"more":0}"#
    );
    terminal.say(b"mode text\n");
    assert_eq!(text(&mut terminal, "errors"), ("pmem0s from LBA 7 on: 1 sector in error\n".into(), 0));
    assert_eq!(text(&mut terminal, "read pmem0s 7").1, 4);
    let cleared = "pmem0s from LBA 7 on: 2 sectors without errors\n";
    assert_eq!(text(&mut terminal, "clear-errors pmem0s 7 2"), (cleared.into(), 0));
    assert_eq!(text(&mut terminal, "errors"), ("no errors known\n".into(), 0));
    assert_eq!(text(&mut terminal, "trim pmem0s 0 9"), ("pmem0s from LBA 0 on: 9 sectors trimmed\n".into(), 0));
}

/// However many chunks a fill takes, and however much a load does.
#[test]
fn a_command_looks_its_device_up_once() {
    let mut terminal = Terminal::in_mode("json");
    for line in [
        "read pmem0s 0",
        "write pmem0s 1 --fill 7 --count 1000",
        "trim pmem0s 0 9",
        "inject-error pmem0s 0",
        "clear-errors pmem0s 0",
        "bench pmem0s --seconds 1 --verify",
    ] {
        terminal.machine.lookups.set(0);
        assert!(json(&mut terminal, line).starts_with(r#"{"ok":true"#), "{line}");
        assert_eq!(terminal.machine.lookups.get(), 1, "{line}");
    }
}

#[test]
fn a_long_fill_is_exact_at_both_ends() {
    let mut terminal = Terminal::in_mode("json");
    assert_eq!(
        json(&mut terminal, "write pmem0s 1 --fill 7 --count 1000"),
        r#"{"ok":true,"dev":"pmem0s","lba":1,"count":1000}"#
    );
    let filled: Vec<usize> =
        (0..4096).filter(|lba| terminal.machine.disk.borrow()[lba * 512..][..512] == [7; 512]).collect();
    assert_eq!(filled, (1..=1000).collect::<Vec<_>>());
    assert_eq!(terminal.machine.disk.borrow().iter().filter(|byte| **byte == 7).count(), 512_000);
}

#[test]
fn damage_that_a_check_or_a_verification_finds_is_exit_status_4() {
    let finding = |repaired| Finding {
        what: "the map entry names a block twice".into(),
        place: "arena 0, map entry 17 at 0x1fba044".into(),
        repaired,
    };
    let mut terminal = Terminal::in_mode("json");
    terminal.machine.findings = vec![finding(true), finding(false)];
    assert_eq!(
        json(&mut terminal, "check-namespace namespace0.0"),
        concat!(
            r#"{"ok":true,"dev":"namespace0.0","arenas":1,"findings":[{"what":"the map entry names a block twice","#,
            r#""where":"arena 0, map entry 17 at 0x1fba044","repaired":true},{"what":"the map entry names a block twice","#,
            r#""where":"arena 0, map entry 17 at 0x1fba044","repaired":false}],"#,
            r#""verdict":"damaged","exit":4}"#
        )
    );
    json(&mut terminal, "bench pmem0s --seconds 1");
    terminal.machine.disk.borrow_mut()[100] ^= 1;
    let reply = json(&mut terminal, "bench pmem0s --verify");
    assert!(reply.contains(r#""torn":1"#) && reply.ends_with(r#","exit":4}"#), "{reply}");
    terminal.machine.disk.borrow_mut()[100] ^= 1;
    terminal.say(b"mode text\n");
    assert_eq!(text(&mut terminal, "check-namespace namespace0.0").1, 4);
    assert_eq!(text(&mut terminal, "bench pmem0s --verify").1, 0);
    terminal.machine.findings.truncate(1);
    assert_eq!(text(&mut terminal, "check-namespace namespace0.0").1, 0);
}

#[test]
fn health_is_as_bad_as_its_worst_finding() {
    let finding = |severity| HealthFinding {
        what: "it is not armed: stores would not last".into(),
        place: "nmem0".into(),
        severity,
        kind: Kind::Media,
    };
    let (warning, error) = (finding(Severity::Warning), finding(Severity::Error));
    let mut terminal = Terminal::in_mode("json");
    assert_eq!(json(&mut terminal, "health"), r#"{"ok":true,"state":"ok","findings":[]}"#);
    terminal.machine.health.findings = vec![warning.clone()];
    assert_eq!(
        json(&mut terminal, "health"),
        concat!(
            r#"{"ok":true,"state":"degraded","findings":[{"what":"it is not armed: stores would not last","#,
            r#""where":"nmem0","severity":"warning"}],"exit":1}"#
        )
    );
    for findings in [vec![error.clone()], vec![warning.clone(), error.clone()], vec![error.clone(), warning.clone()]] {
        terminal.machine.health.findings = findings;
        let reply = json(&mut terminal, "health");
        assert!(reply.contains(r#""state":"failed""#) && reply.ends_with(r#","exit":4}"#), "{reply}");
        assert!(reply.contains(r#""severity":"error""#), "{reply}");
    }
    terminal.say(b"mode text\n");
    let (shown, status) = text(&mut terminal, "health");
    let lines = ["failed", "error: nmem0: it is not armed", "warning: nmem0: it is not armed"];
    assert!(shown.lines().zip(lines).all(|(shown, line)| shown.starts_with(line)) && status == 4, "{shown}");
    terminal.machine.health.findings.clear();
    assert_eq!(text(&mut terminal, "health"), ("ok\n".into(), 0));
}

#[test]
fn texts_are_for_people_and_end_with_the_exit_status() {
    let mut terminal = Terminal::default();
    let switched = terminal.say(b"mode text\n");
    assert!(switched.ends_with("mode text\r\n\x1e0\n"), "{switched:?}");
    for (line, reply, status) in [
        ("version", format!("untorn {}\n", service::VERSION), 0),
        (
            "status",
            format!(
                concat!(
                    "version                      {}\n",
                    "cpus                         2\n",
                    "memory                       268435456 (256.0 MiB)\n",
                    "tables                       RSDP APIC NFIT\n",
                    "persist                      clwb\n",
                    "uptime                       12.345 s\n",
                    "unclean_shutdowns_recovered  1\n",
                    "exports                      none\n",
                    "namespace0.0     pmem0s     sector  active    33130496 (31.5 MiB)\n",
                ),
                service::VERSION
            ),
            0,
        ),
        (
            "nfit",
            concat!(
                "table 0 at 0x0028: spa_range\n",
                "  index                      2\n",
                "  base                       0x100000000\n",
                "  guid                       66f0d379-b4f3-4074-ac43-0d3318b78cdb\n",
                "  lines                      0x10 0x20\n",
                "  hot_add                    false\n",
                "table 1 at 0x0060: refused structure type 1: its length 0 is less than its header\n",
                "table 0 at 0x0028: remark on structure: volatile memory is left alone\n",
            )
            .into(),
            0,
        ),
        (
            "nfit --raw",
            concat!(
                "table 0\n",
                "00000000  4e 46 49 54 20 61 6e 64  20 73 6f 20 6f 6e 3a 20  |NFIT and so on: |\n",
                "00000010  32 30 20 42                                       |20 B|\n",
                "00000014\n",
                "table 1\n",
                "00000000  00 00 00                                          |...|\n",
                "00000003\n",
            )
            .into(),
            0,
        ),
        (
            "arenas namespace0.0",
            concat!(
                "namespace0.0 arena0\n",
                "  size                 0x0000000001fff000\n",
                "  external_lba_start   0x0000000000000000\n",
                "  internal_nlba        0x0000fdc4\n",
                "  internal_lbasize     512\n",
                "  external_nlba        0x0000fcc4\n",
                "  external_lbasize     512\n",
                "  nfree                256\n",
                "  version_major        1\n",
                "  version_minor        1\n",
                "  nextoff              0x0000000000000000\n",
                "  infooff              0x0000000000000000\n",
                "  dataoff              0x0000000000001000\n",
                "  mapoff               0x0000000001fba000\n",
                "  logoff               0x0000000001ffa000\n",
                "  info2off             0x0000000001ffe000\n",
                "  flags                0x00000000\n",
                "  log_index_0          0\n",
                "  log_index_1          1\n",
            )
            .into(),
            0,
        ),
        ("check-namespace namespace0.0", "namespace0.0: 1 arena checked, nothing wrong\n".into(), 0),
        ("write pmem0s 3 --fill 0x41 --count 2", "pmem0s from LBA 3 on: 2 sectors written\n".into(), 0),
        (
            "read pmem0s 2 2",
            concat!(
                "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n",
                "*\n",
                "00000200  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  |AAAAAAAAAAAAAAAA|\n",
                "*\n",
                "00000400\n",
            )
            .into(),
            0,
        ),
        ("frobnicate", "error (unknown-command): no command \"frobnicate\": help lists the commands\n".into(), 2),
        ("arenas namespace7.0", "error (not-found): no namespace \"namespace7.0\"\n".into(), 3),
        (
            "read pmem0s 9999999",
            "error (out-of-range): LBA 9999999, count 1: past the end of pmem0s, which has 4096 sectors\n".into(),
            2,
        ),
        ("", "error (usage): the line is empty: help lists the commands\n".into(), 2),
        ("mode text", String::new(), 0),
    ] {
        assert_eq!(text(&mut terminal, line), (reply, status), "{line}");
    }
    terminal.machine.bad_lba.set(Some(9));
    assert_eq!(text(&mut terminal, "read pmem0s 8 4"), ("error (damaged): LBA 9: media error\n".into(), 4));
}

#[test]
fn list_texts_are_ndctls_pretty_json_and_nothing_when_there_is_nothing() {
    let mut terminal = Terminal::in_mode("text");
    let dimms =
        "[\n  {\n    \"dev\":\"nmem0\",\n    \"id\":\"8680-56341200\",\n    \"handle\":1,\n    \"phys_id\":0\n  }\n]\n";
    assert_eq!(text(&mut terminal, "list -D"), (dimms.into(), 0));
    terminal.machine.inventory.buses.clear();
    assert_eq!(text(&mut terminal, "list -BDRNi"), (String::new(), 0));
    terminal.say(b"mode json\n");
    assert_eq!(json(&mut terminal, "list"), r#"{"ok":true,"result":[]}"#);
}

#[test]
fn prometheus_gets_its_text_format() {
    let mut terminal = Terminal::in_mode("text");
    let (metrics, _) = text(&mut terminal, "stats --prometheus");
    assert!(metrics.starts_with(concat!(
        "# HELP untorn_reads_total Read requests answered.\n",
        "# TYPE untorn_reads_total counter\n",
        "untorn_reads_total{dev=\"pmem0s\",cpu=\"0\"} 3\n",
        "untorn_reads_total{dev=\"pmem0s\",cpu=\"1\"} 4\n",
        "# HELP untorn_writes_total Write requests acknowledged.\n",
    )));
    let families = exposition::parse(&metrics).unwrap_or_else(|why| panic!("{why}"));
    assert!(families.iter().all(|family| family.name.starts_with("untorn_") && !family.samples.is_empty()));
    let of = |name: &str| families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"));
    let value = |name: &str| of(name).samples[0].value;
    assert_eq!((value("untorn_up"), value("untorn_uptime_seconds"), value("untorn_consumers")), (1.0, 12.345, 1.0));
    let took = &of("untorn_request_duration_seconds").samples;
    let up_to =
        |le| took.iter().find(|it| it.label("op") == Some("read") && it.label("le") == Some(le)).map(|it| it.value);
    assert_eq!((up_to("0.000001"), up_to("0.000002"), up_to("+Inf")), (Some(0.0), Some(3.0), Some(7.0)));
    let states = &of("untorn_namespace_state").samples;
    assert_eq!(states.iter().map(|it| it.value).sum::<f64>(), 1.0, "one state");
    assert_eq!(of("untorn_nvme_refused_total").samples[1].value, 1.0);
    terminal.say(b"mode json\n");
    let reply: serde_json::Value = serde_json::from_str(&json(&mut terminal, "stats --prometheus")).expect("JSON");
    assert!(reply["prometheus"].as_str().expect("text").contains("untorn_fences_total{dev=\"pmem0s\",cpu=\"1\"} 2\n"));
}

#[test]
fn figures_have_headings_and_units_and_fit_80_columns() {
    let mut terminal = Terminal::in_mode("text");
    let of_cpu = &terminal.machine.counters[0];
    for (counter, count) in [
        (Counter::Writes, 123_456_789),
        (Counter::SectorsWritten, 987_654_321),
        (Counter::Commits, 200_000_000),
        (Counter::Fences, 400_000_000),
    ] {
        of_cpu.counters.add(counter, count);
    }
    (0..5).for_each(|_| of_cpu.writes.record(80_000));
    let (shown, status) = text(&mut terminal, "stats");
    let expected = concat!(
        "pmem0s                          reads           writes\n",
        "  requests                          7        123456789\n",
        "  failed                            0                0\n",
        "  sectors                           0        987654321\n",
        "  data                            0 B        470.9 GiB\n",
        "  latency, median              23.7us           75.0us\n",
        "  latency, 99 %                49.4us           99.5us\n",
        "  latency, mean                23.5us           80.0us\n",
        "  tried again                       0                0\n",
        "  commits                                    200000000   4.9 sectors a commit\n",
        "  fences                                     400000001   2.0 a commit\n",
        "  write-backs                                        0   0.0 lines a sector\n",
        "  collisions                                         0\n",
        "  CPU         reads      writes     sec read  sec written     fences  collisions\n",
    );
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert_eq!(status, 0);
    for row in [
        "  pmem0s               1     0    1           9         2          5         3\n",
        "  connections now    2 of 12; refused: 0\n  hosts refused      1\n  pmem0s             nqn.host\n",
        "net0     up          1.1 KiB             180 B                 1       0\n",
    ] {
        assert!(shown.contains(row), "{row}{shown}");
    }
}

#[test]
fn help_lists_every_command_and_explains_each() {
    let mut terminal = Terminal::in_mode("text");
    let (all, _) = text(&mut terminal, "help");
    for spec in service::admin::table::specs() {
        assert!(all.lines().any(|line| line.starts_with(&format!("{} ", spec.name))), "{}", spec.name);
        let (one, status) = text(&mut terminal, &format!("help {}", spec.name));
        assert_eq!(status, 0);
        assert!(one.starts_with(&format!("usage: {}\n", spec.synopsis())), "{one}");
        for option in spec.options {
            assert!(one.contains(&format!("--{}", option.long)), "{one}");
        }
    }
    assert_eq!(
        text(&mut terminal, "help check-namespace").0,
        concat!(
            "usage: check-namespace NS [-R] [-L] [-f] [--portable]\n",
            "check a BTT's metadata, all of it\n",
            "  NS                         a namespace: namespace0.0\n",
            "  -R, --repair               repair what has one certain answer\n",
            "  -L, --rewrite-log          write the flog anew, one record a group: its old layout is gone then\n",
            "  -f, --force                with -R: make errors of the sectors whose content is not certain\n",
            "      --portable             write zeroes where sectors are trimmed in the map, and allow no more of that\n",
            "Stores nothing without -R, -L or --portable; with one of them, the namespace is closed meanwhile.\n",
            "A power cut in a repair does no harm: do it again. Exit status 4: something is wrong and not repaired.\n",
        )
    );
    assert_eq!(text(&mut terminal, "help frobnicate").1, 3);
    terminal.say(b"mode json\n");
    assert_eq!(
        json(&mut terminal, "help arenas"),
        concat!(
            r#"{"ok":true,"name":"arenas","usage":"arenas NS","summary":"a BTT's arenas, as Linux shows them under debugfs","#,
            r#""arguments":[{"name":"NS","required":true,"help":"a namespace: namespace0.0"}],"details":""}"#
        )
    );
    assert!(
        json(&mut terminal, "help")
            .contains(r#"{"name":"trace","usage":"trace","summary":"the newest steps of queues, and events"}"#)
    );
}

#[test]
fn exports_and_the_trace_are_shown() {
    let mut terminal = Terminal::in_mode("json");
    assert_eq!(json(&mut terminal, "export pmem0s"), r#"{"ok":true,"dev":"pmem0s","exported":true}"#);
    assert_eq!(json(&mut terminal, "unexport pmem0s"), r#"{"ok":true,"dev":"pmem0s","exported":false}"#);
    assert!(json(&mut terminal, "export pmem9s").contains(r#""code":"not-found""#));
    let traced = r#"{"ok":true,"events":[{"at":1234567,"cpu":1,"event":"export 0: attached"}]}"#;
    assert_eq!(json(&mut terminal, "trace"), traced);
    terminal.say(b"mode text\n");
    assert_eq!(text(&mut terminal, "export pmem0s"), ("pmem0s is exported\n".into(), 0));
    assert_eq!(text(&mut terminal, "trace"), ("     1.234567 cpu 1: export 0: attached\n".into(), 0));
    let (prometheus, _) = text(&mut terminal, "stats --prometheus");
    let line = r#"untorn_queue_requests_total{dev="pmem0s",export="1",queue="0",cpu="1"} 9"#;
    assert!(prometheus.contains(line), "{prometheus}");
}

#[test]
fn interfaces_are_shown_with_all_that_is_known_of_them() {
    let mut terminal = Terminal::in_mode("json");
    assert_eq!(
        json(&mut terminal, "net"),
        concat!(
            r#"{"ok":true,"result":[{"dev":"net0","mac":"52:54:00:75:6e:00","link":"up","mtu":1500,"config":"dhcp","#,
            r#""addresses":["10.0.2.15/24","fe80::5054:ff:fe75:6e00/64"],"gateway":"10.0.2.2","gateway6":null,"#,
            r#""rx":{"frames":12,"bytes":1200,"dropped":1},"tx":{"frames":3,"bytes":180,"dropped":0},"#,
            r#""duplicates":[{"address":"10.0.2.15","mac":"52:54:00:12:34:56"}],"failed":null}]}"#
        )
    );
    terminal.say(b"mode text\n");
    let shown = concat!(
        "net0: 52:54:00:75:6e:00, link up, mtu 1500, dhcp\n",
        "  address   10.0.2.15/24\n",
        "  address   fe80::5054:ff:fe75:6e00/64\n",
        "  gateway   10.0.2.2\n",
        "  received  12 frames, 1200 bytes; 1 dropped\n",
        "  sent      3 frames, 180 bytes; 0 dropped\n",
        "  duplicate 10.0.2.15 is used by 52:54:00:12:34:56, too\n",
    );
    assert_eq!(text(&mut terminal, "net"), (shown.into(), 0));
    terminal.machine.interfaces[0].failed = Some("its registers are gone".into());
    let (shown, status) = text(&mut terminal, "net");
    assert!(shown.ends_with("too\n  failed    its registers are gone\n") && status == 0, "{shown}");
    terminal.machine.interfaces.clear();
    assert_eq!(text(&mut terminal, "net"), ("no network interface\n".into(), 0));
    terminal.say(b"mode json\n");
    assert_eq!(json(&mut terminal, "net"), r#"{"ok":true,"result":[]}"#);
}

#[test]
fn poweroff_and_reboot_answer_first_and_stop_only_what_is_durable() {
    for (command, activity) in [("poweroff", Activity::Poweroff), ("reboot", Activity::Reboot)] {
        let mut terminal = Terminal::in_mode("json");
        terminal.machine.quiesce_error = Some(AdminError::failed("fence: the device failed at 0x40"));
        let reply = json(&mut terminal, command);
        assert_eq!(reply, r#"{"ok":false,"error":{"code":"failed","message":"fence: the device failed at 0x40"}}"#);
        assert_eq!(terminal.last, Activity::Idle);
        terminal.machine.quiesce_error = None;
        assert_eq!(json(&mut terminal, command), r#"{"ok":true}"#);
        assert_eq!((terminal.last, terminal.machine.quiesced), (activity, 2));
    }
}

#[test]
fn the_configuration_is_a_table_for_people_and_objects_for_programs() {
    let mut terminal = Terminal::in_mode("text");
    let (shown, status) = text(&mut terminal, "config");
    assert!(shown.starts_with("KEY            FROM          VALUE\n") && status == 0, "{shown}");
    assert!(shown.contains("\nnet0           default       dhcp\n"), "{shown}");
    assert!(shown.ends_with("\nstored in namespace0.0: saved 2 times\n"), "{shown}");
    assert_eq!(text(&mut terminal, "config set net0 off"), ("net0 is off; config save keeps it\n".into(), 0));
    assert!(text(&mut terminal, "config show").0.ends_with("some of it is not saved: config save keeps it\n"));
    assert_eq!(text(&mut terminal, "config save"), ("saved in namespace0.0\n".into(), 0));
    assert_eq!(text(&mut terminal, "config save -r region9").0, "saved in namespace0.0\nnot in region9: no room\n");
    for wrong in
        ["config set net0", "config set", "config unset", "config unset a b", "config show x", "config -f", "config no"]
    {
        assert_eq!(text(&mut terminal, wrong).1, 2, "{wrong}");
    }
    let mut terminal = Terminal::in_mode("json");
    assert_eq!(
        json(&mut terminal, "config set net0 off"),
        concat!(
            r#"{"ok":true,"key":"net0","value":"off","from":"set","default":"dhcp","#,
            r#""what":"an interface's addresses: dhcp, off, or ADDRESS/PREFIX,…,gateway=ADDRESS"}"#
        )
    );
    assert_eq!(json(&mut terminal, "config save"), r#"{"ok":true,"saved":3,"copies":["namespace0.0"]}"#);
    let all = json(&mut terminal, "config");
    assert!(all.ends_with(r#""unsaved":false,"copies":[{"dev":"namespace0.0","saved":2,"is_whole":true}]}"#), "{all}");
}
