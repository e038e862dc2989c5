//! The grammar: what lines mean, and what wrong ones are told.

use service::admin::commands::inventory::ShowStatus;
use service::admin::commands::machine::ShowStats;
use service::admin::commands::namespaces::check::CheckNamespace;
use service::admin::commands::namespaces::create::{CreateNamespace, NamespaceMode};
use service::admin::commands::namespaces::labels::{InitLabels, LabelFormat};
use service::admin::commands::namespaces::{DestroyNamespace, DisableNamespace, EnableNamespace};
use service::admin::commands::sectors::bench::BenchRequest;
use service::admin::commands::sectors::write::{Write, WriteData};
use service::admin::commands::sectors::{self, Change, ChangeKind, OnDevice, Read, SectorRange, ShowErrors};
use service::admin::commands::session::{ChangeMode, Help};
use service::admin::commands::{inventory, machine, namespaces, session};
use service::admin::list::ListRequest;
use service::admin::request::Request;
use service::admin::table::{AnyRequest, specs};
use service::admin::{Mode, parse};
use service::error::ErrorCode;
use service::inventory::RegionType;
use service::lba::Lba;
use uuid::uuid;

fn of_session(request: impl Request<session::Part> + 'static) -> AnyRequest {
    AnyRequest::Session(Box::new(request))
}

fn of_inventory(request: impl Request<inventory::Part> + 'static) -> AnyRequest {
    AnyRequest::Inventory(Box::new(request))
}

fn of_namespaces(request: impl Request<namespaces::Part> + 'static) -> AnyRequest {
    AnyRequest::Namespaces(Box::new(request))
}

fn of_sectors(request: impl Request<sectors::Part> + 'static) -> AnyRequest {
    AnyRequest::Sectors(Box::new(request))
}

fn change(range: SectorRange, what: ChangeKind, force: bool) -> AnyRequest {
    of_sectors(OnDevice(Change { range, what, force }))
}

fn of_machine(request: impl Request<machine::Part> + 'static) -> AnyRequest {
    AnyRequest::Machine(Box::new(request))
}

/// A line means this request: of that type, with those values. Both derive what they show from their fields.
fn means(line: &str, expected: AnyRequest) {
    let request = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(format!("{request:?}"), format!("{expected:?}"), "{line}");
}

fn range(lba: u64, count: u64) -> SectorRange {
    SectorRange { dev: "pmem0s".into(), lba: Lba(lba), count }
}

#[test]
fn lines_mean_what_they_say() {
    let read = |lba, count| of_sectors(OnDevice(Read(range(lba, count))));
    let write = |data, force| of_sectors(OnDevice(Write { dev: "pmem0s".into(), lba: Lba(7), data, force }));
    let everything = ListRequest {
        buses: true,
        dimms: true,
        regions: true,
        namespaces: true,
        idle: true,
        health: true,
        ..ListRequest::default()
    };
    for (line, command) in [
        ("help", of_session(Help { topic: None })),
        ("? read", of_session(Help { topic: Some("read".into()) })),
        ("mode json", of_session(ChangeMode { mode: Mode::Json, progress: false })),
        ("  status\t", of_inventory(ShowStatus)),
        ("read pmem0s 0", read(0, 1)),
        ("read pmem0s 0x10 0x20", read(16, 32)),
        ("read -- pmem0s 5 2", read(5, 2)),
        ("'read' \"pmem0s\" '1'", read(1, 1)),
        ("write pmem0s 7 --data AAEC", write(WriteData::Bytes(vec![0, 1, 2]), false)),
        ("write --fill=0xff pmem0s 7", write(WriteData::Fill { byte: 255, count: 1 }, false)),
        ("write pmem0s --count 9 7 --fill 1", write(WriteData::Fill { byte: 1, count: 9 }, false)),
        ("write -f pmem0s 7 --fill 1", write(WriteData::Fill { byte: 1, count: 1 }, true)),
        ("trim pmem0s 1 2", change(range(1, 2), ChangeKind::Trim, false)),
        ("trim --force pmem0s 1 2", change(range(1, 2), ChangeKind::Trim, true)),
        ("list", of_inventory(ListRequest::default())),
        ("list -BDRNiH", of_inventory(everything.clone())),
        ("list --buses --dimms --regions --namespaces --idle --health", of_inventory(everything.clone())),
        ("list -v -vv", of_inventory(ListRequest { verbose: 3, ..ListRequest::default() })),
        ("stats --prometheus", of_machine(ShowStats { prometheus: true })),
        (
            "init-labels nmem0",
            of_namespaces(InitLabels { dimm: "nmem0".into(), version: LabelFormat::V1_2, force: false }),
        ),
        (
            "init-labels -fV1.1 nmem1",
            of_namespaces(InitLabels { dimm: "nmem1".into(), version: LabelFormat::V1_1, force: true }),
        ),
        (
            "destroy-namespace -f namespace0.0",
            of_namespaces(DestroyNamespace { namespace: "namespace0.0".into(), force: true }),
        ),
        ("enable-namespace namespace0.1", of_namespaces(EnableNamespace { namespace: "namespace0.1".into() })),
        ("disable-namespace pmem0s", of_namespaces(DisableNamespace { namespace: "pmem0s".into() })),
        (
            "check-namespace -RLf pmem0s",
            of_namespaces(CheckNamespace {
                namespace: "pmem0s".into(),
                repair: true,
                rewrite_log: true,
                force: true,
                portable: false,
            }),
        ),
    ] {
        means(line, command);
    }
}

#[test]
fn create_namespace_has_ndctls_defaults_and_options() {
    let default = CreateNamespace {
        region: None,
        region_type: None,
        size_bytes: None,
        mode: NamespaceMode::Sector,
        sector_size: 4096,
        name: None,
        uuid: None,
        force: false,
        zero_entries: false,
    };
    means("create-namespace", of_namespaces(default.clone()));
    let all = CreateNamespace {
        region: Some("region0".into()),
        region_type: Some(RegionType::Pmem),
        sector_size: 512,
        uuid: Some(uuid!("e412ddd9-4a9e-42e8-9953-05cfdd8f0459")),
        force: true,
        ..default.clone()
    };
    for line in [
        "create-namespace -r region0 -t pmem -m sector -l 512 -u e412ddd9-4a9e-42e8-9953-05cfdd8f0459 -f",
        "create-namespace -fl512 -rregion0 -tpmem --uuid=e412ddd9-4a9e-42e8-9953-05cfdd8f0459",
    ] {
        means(line, of_namespaces(all.clone()));
    }
    let labelled = CreateNamespace {
        size_bytes: Some(48 << 20),
        mode: NamespaceMode::Raw,
        name: Some("a disk".into()),
        ..default
    };
    means("create-namespace -s 48M -m raw -n 'a disk'", of_namespaces(labelled));
}

#[test]
fn bench_loads_for_five_seconds_unless_it_only_verifies() {
    let bench = BenchRequest {
        dev: "pmem0s".into(),
        seconds: 5,
        seed: 1,
        mix_write_percent: 100,
        run: 1,
        verify: false,
        force: false,
    };
    means("bench pmem0s", of_sectors(bench.clone()));
    let verify = BenchRequest { seconds: 0, verify: true, ..bench.clone() };
    means("bench pmem0s --verify", of_sectors(verify));
    let both = BenchRequest { seconds: 2, seed: 9, mix_write_percent: 70, run: 16, verify: true, ..bench };
    means("bench --verify --seconds 2 --seed 9 --mix 70% --run 16 pmem0s", of_sectors(both.clone()));
    let forced = BenchRequest { force: true, ..both };
    means("bench -f --verify --seconds 2 --seed 9 --mix 70 --run 16 pmem0s", of_sectors(forced));
}

#[test]
fn wrong_lines_are_told_what_is_wrong_and_how_it_is_written() {
    #[rustfmt::skip]
    let cases = [
        ("",                           "the line is empty: help lists the commands"),
        ("read",                       "DEV is missing; usage: read DEV LBA [COUNT]"),
        ("read pmem0s",                "LBA is missing; usage: read DEV LBA [COUNT]"),
        ("read pmem0s 1 2 3",          "\"3\" is a word too many; usage: read DEV LBA [COUNT]"),
        ("read pmem0s one",            "LBA: \"one\" is not a number (a number is decimal, or hexadecimal after 0x); usage: read DEV LBA [COUNT]"),
        ("read pmem0s 1 0",            "COUNT: 0 is not at least 1; usage: read DEV LBA [COUNT]"),
        ("read pmem0s -1",             "no option -1; usage: read DEV LBA [COUNT]"),
        ("status --all",               "no option --all; usage: status"),
        ("list -Bx",                   "no option -x; usage: list [-B] [-D] [-R] [-N] [-i] [-H] [-M] [-u] [-n NS] [-r REGION] [-d DIMM] [-v]"),
        ("list --buses=yes",           "--buses takes no value; usage: list [-B] [-D] [-R] [-N] [-i] [-H] [-M] [-u] [-n NS] [-r REGION] [-d DIMM] [-v]"),
        ("stats --prometheus=1",       "--prometheus takes no value; usage: stats [--prometheus]"),
        ("mode",                       "MODE is missing; usage: mode MODE [--progress]"),
        ("mode xml",                   "MODE: \"xml\" is not console, text or json; usage: mode MODE [--progress]"),
        ("write pmem0s 0",             "give either --data or --fill; usage: write DEV LBA [--data BASE64] [--fill BYTE] [--count N] [-f]"),
        ("write pmem0s 0 --fill",      "--fill BYTE is missing its value; usage: write DEV LBA [--data BASE64] [--fill BYTE] [--count N] [-f]"),
        ("write pmem0s 0 --fill 1 --fill 2", "--fill BYTE is given twice; usage: write DEV LBA [--data BASE64] [--fill BYTE] [--count N] [-f]"),
        ("write pmem0s 0 --data AA== --count 2", "--count goes with --fill; --data says itself how much; usage: write DEV LBA [--data BASE64] [--fill BYTE] [--count N] [-f]"),
        ("arenas 'namespace0.0",       "the quote ' in column 8 is not closed"),
    ];
    for (line, message) in cases {
        let error = parse(line).expect_err(line);
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::Usage, message), "{line}");
    }
    for (line, part) in [
        ("create-namespace -l 513", "-l: 513 is no sector size; use 512, 520,"),
        ("create-namespace -m dax", "-m: \"dax\" is not sector or raw"),
        ("create-namespace -t ram", "-t: \"ram\" is not pmem or blk"),
        ("create-namespace -s 1Q", "-s: \"1Q\" is not a size"),
        ("init-labels nmem0 -V 1.3", "-V: \"1.3\" is not 1.1 or 1.2"),
        ("create-namespace -u 12", "-u: \"12\" is not a uuid"),
        ("bench pmem0s --mix 101", "--mix: 101 is not from 0 to 100"),
        ("bench pmem0s --run 0", "--run: 0 is not from 1 to 256"),
        ("write pmem0s 0 --data A*==", "--data: not base64"),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.code, ErrorCode::Usage, "{line}");
        assert!(error.message.starts_with(part), "{line}: {}", error.message);
    }
}

#[test]
fn error_commands_name_sectors_and_say_where_the_fault_lies() {
    let inject = |range, media, force| change(range, ChangeKind::InjectError { media }, force);
    means("inject-error pmem0s 3", inject(range(3, 1), false, false));
    means("inject-error --media pmem0s 3 2", inject(range(3, 2), true, false));
    means("inject-error pmem0s 1 2 -f", inject(range(1, 2), false, true));
    means("clear-errors pmem0s 0 0x10", change(range(0, 16), ChangeKind::ClearErrors, false));
    means("clear-errors -f pmem0s 1 2", change(range(1, 2), ChangeKind::ClearErrors, true));
    means("errors", of_sectors(ShowErrors { dev: None }));
    means("errors pmem0s", of_sectors(ShowErrors { dev: Some("pmem0s".into()) }));
}

#[test]
fn only_the_mode_command_asks_for_a_mode() {
    for (line, mode) in [
        ("mode console", Some((Mode::Console, false))),
        ("'mode' text", Some((Mode::Text, false))),
        ("mode json --progress", Some((Mode::Json, true))),
        ("help mode", None),
    ] {
        assert_eq!(parse(line).expect(line).mode(), mode, "{line}");
    }
}

#[test]
fn an_unknown_command_is_its_own_error() {
    let error = parse("format pmem0s").expect_err("no such command");
    assert_eq!(error.code, ErrorCode::UnknownCommand);
    assert_eq!(error.message, "no command \"format\": help lists the commands");
    let error = parse("status; version").expect_err("two commands");
    assert_eq!(error.message, "no command \"status;\": a line has one command here");
}

#[test]
fn a_command_that_lacks_words_is_a_usage_error() {
    assert_eq!(parse("trim pmem0s 0").expect_err("COUNT").code, ErrorCode::Usage);
    assert_eq!(parse("export").expect_err("DEV").code, ErrorCode::Usage);
}

#[test]
fn the_table_is_sound() {
    assert!(specs().count() >= 25);
    for (index, spec) in specs().enumerate() {
        assert!(specs().take(index).all(|other| other.name != spec.name), "{} twice", spec.name);
        let required = spec.words.iter().take_while(|word| word.required).count();
        assert!(spec.words[required..].iter().all(|word| !word.required), "{}: optional words come last", spec.name);
        assert!(spec.details.is_empty() || spec.details.ends_with('\n'), "{}", spec.name);
        for (at, option) in spec.options.iter().enumerate() {
            let before = &spec.options[..at];
            assert!(before.iter().all(|other| other.long != option.long), "{} --{}", spec.name, option.long);
            assert!(before.iter().all(|other| other.short.is_none() || other.short != option.short), "{}", spec.name);
        }
    }
}
