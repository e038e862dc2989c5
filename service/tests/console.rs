//! The console: what a person types, sees and gets.

mod common;

use service::admin::Mode;
use service::admin::commands::events::EventAdmin as _;
use service::admin::line::LINE_BYTES_MAX;
use service::console::{ASK, Activity, MORE, reply_to_jobs};
use service::events::{Event, Kind, Severity};

use common::{Person, Terminal};

/// What the row with the prompt shows after these bytes, and where its cursor is.
fn shown(bytes: &[u8]) -> (String, usize) {
    let mut person = Person::new(24, 80);
    person.types(bytes);
    (person.row(), person.column())
}

#[test]
fn the_session_starts_with_a_prompt() {
    assert_eq!(Terminal::default().say(b""), "untorn> ");
}

#[test]
fn commands_are_echoed_answered_and_the_prompt_comes_back() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    for end in ["\r", "\n", "\r\n"] {
        let version = service::VERSION;
        assert_eq!(
            terminal.say(format!("version{end}").as_bytes()),
            format!("version\r\nuntorn {version}\r\nuntorn> ")
        );
    }
    assert_eq!(terminal.say(b"\r"), "\r\nuntorn> ", "a blank line is no command");
    assert_eq!(terminal.say(b"  \r"), "  \r\nuntorn> ");
    assert_eq!(
        terminal.say(b"nonsense\r"),
        "nonsense\r\nerror (unknown-command): no command \"nonsense\": help lists the commands\r\nuntorn> "
    );
}

#[test]
fn every_command_explains_itself_and_a_slip_is_met_with_what_was_meant() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    for spec in service::admin::table::specs() {
        let explained = terminal.say(format!("help {}\r", spec.name).as_bytes());
        let explained = explained.split_once("\r\n").expect("an echo").1;
        assert!(explained.starts_with("usage: "), "{explained}");
        for asks in ["--help", "-h", "x y z -h", "--help --no-such"] {
            let output = terminal.say(format!("{} {asks}\r", spec.name).as_bytes());
            assert!(output.ends_with(explained), "{} {asks}: {output}", spec.name);
        }
    }
    for (line, says) in [
        ("lits", "no command \"lits\": did you mean list? help lists the commands"),
        ("help staus", "no command \"staus\": did you mean status? help lists the commands"),
        ("disable-namespce x", "did you mean disable-namespace?"),
        ("list --namespacs", "no option --namespacs: did you mean --namespaces? usage: list"),
        ("create-namespace --regoin=region0", "no option --regoin: did you mean --region?"),
        ("create-namespace --name -h", "no region has room"),
    ] {
        let output = terminal.say(format!("{line}\r").as_bytes());
        assert!(output.contains(says) || line.ends_with("-h") && !output.contains("usage:"), "{line}: {output}");
    }
    for line in ["exit", "quit"] {
        assert!(terminal.say(format!("{line}\r").as_bytes()).contains("poweroff stops the machine"), "{line}");
    }
}

#[test]
fn a_paste_of_many_lines_runs_them_in_order() {
    let mut terminal = Terminal::default();
    let paste: String = (0..200).map(|lba| format!("write pmem0s {lba} --fill {lba}\n")).collect();
    let output = terminal.say(paste.replace(&200.to_string(), "").as_bytes());
    assert_eq!(output.matches("1 sector written").count(), 200);
    for lba in 0..200 {
        assert_eq!(terminal.machine.disk.borrow()[lba * 512..][..512], [u8::try_from(lba).expect("a byte"); 512]);
    }
}

#[test]
fn editing_keys_do_what_they_say() {
    #[rustfmt::skip]
    let cases: [(&[u8], &str, usize); 24] = [
        (b"status",                              "status",     6),
        (b"status\x01",                          "status",     0),
        (b"status\x01\x05",                      "status",     6),
        (b"status\x02\x02\x06",                  "status",     5),
        (b"tatus\x01s",                          "status",     1),
        (b"staXtus\x02\x02\x02\x7f",             "status",     3),
        (b"staXtus\x02\x02\x02\x08",             "status",     3),
        (b"staXtus\x1b[D\x1b[D\x1b[D\x1b[D\x04", "status",     3),
        (b"Xstatus\x1b[H\x1b[3~",                "status",     0),
        (b"status\x1b[H\x1b[F!",                 "status!",    7),
        (b"statusXX\x02\x02\x0b",                "status",     6),
        (b"XXstatus\x01\x06\x06\x15",            "status",     0),
        (b"read pmem0s  \x17",                   "read",       5),
        (b"read pmem0s\x17\x17",                 "",           0),
        (b"read pmem0s\x02\x02\x17",             "read 0s",    5),
        (b"\x02\x7f\x04\x0b\x15\x17\x06",        "",           0),
        (b"a\x06\x06b",                          "ab",         2),
        (b"\xc3\xa9t\xc3\xa9\x7f\x7fx",          "éx",         2),
        (b"\xc3\xa9a\x02\x02z",                  "zéa",        1),
        (b"nonsense\x03status",                  "status",     6),
        (b"one\x0ctwo",                          "onetwo",     6),
        (b"version\rstatus\x10",                 "version",    7),
        (b"version\rlist\rdraft\x1b[A\x1b[A\x1b[B\x1b[B", "draft", 5),
        (b"version\rlist\r\x10\x10\x10\x10",     "version",    7),
    ];
    for (bytes, row, cursor) in cases {
        let (shown_row, column) = shown(bytes);
        let bytes = bytes.escape_ascii();
        assert_eq!(shown_row, format!("untorn> {row}").trim_end(), "{bytes}");
        assert_eq!(column, "untorn> ".len() + cursor, "{bytes}");
    }
}

#[test]
fn an_edited_line_runs_as_it_is_shown() {
    let mut terminal = Terminal::default();
    let output = terminal.say(b"ersionX\x7f\x01v\r");
    assert!(output.contains(&format!("untorn {}\r\n", service::VERSION)), "{output}");
}

#[test]
fn a_line_wider_than_the_terminal_scrolls_in_its_row() {
    let long: String = ('a'..='z').cycle().take(500).collect();
    let terminals: [fn(u16, u16) -> Person; 3] = [Person::new, Person::at_dumb, Person::told];
    let wide = [40, 41, 80, 132].iter().flat_map(|columns| terminals.map(|it| (*columns, it)));
    // What is narrower must tell.
    let narrow = [20, 33].map(|columns| (columns, terminals[2]));
    for (columns, terminal) in wide.chain(narrow) {
        let mut person = terminal(24, columns);
        person.types(b"version\r");
        let first_screen = person.rows();
        // At once, as pasted, and key by key.
        for slowly in [false, true] {
            if slowly {
                person.types_slowly(long.as_bytes())
            } else {
                drop(person.types(long.as_bytes()))
            }
            let row = person.row();
            assert!(
                row.starts_with("untorn> ") && row.ends_with("def") && row.len() < columns.into(),
                "{columns}: {row}"
            );
            assert_eq!(person.rows().len(), first_screen.len(), "{columns}: {:?}", person.rows());
            assert!(person.rows().starts_with(&first_screen[..2]), "{columns}: {:?}", person.rows());
            for keys in [&b"\x01"[..], b"\x05", b"\x02\x02\x02X\x7f", b"\x17tail", b"\x01\x06\x06\x0b"] {
                person.types(keys);
                assert_eq!(person.rows().len(), first_screen.len(), "{columns}: {:?}", person.rows());
                assert!(person.row().starts_with("untorn> "), "{columns}: {:?}", person.rows());
            }
            assert_eq!(person.row(), "untorn> ta", "{columns}");
            person.types(b"\x15");
        }
    }
    // The prompt is said once a line: a script may wait for it.
    let mut terminal = Terminal::default();
    terminal.say(b"");
    assert!(!terminal.say(long.as_bytes()).contains("untorn> "));
}

#[test]
fn history_keeps_64_different_lines() {
    let mut person = Person::new(24, 80);
    for line in 0..70 {
        person.types(format!("help {line}\rhelp {line}\r\r").as_bytes());
    }
    person.types(&[0x10; 63]);
    assert_eq!(person.row(), "untorn> help 7");
    person.types(&[0x10; 9]);
    assert_eq!(person.row(), "untorn> help 6", "the oldest that is kept");
}

#[test]
fn a_secret_is_not_shown_again() {
    let mut person = Person::new(24, 80);
    person.types(b"version\rallow any --secret DHHC-1:00:c2VjcmV0:\r\x10");
    assert_eq!(person.row(), "untorn> version");
    person.types(b"\x03\x12DHHC");
    assert_eq!(person.row(), "(not found) DHHC:");
}

#[test]
fn tab_completes_commands_options_and_devices() {
    for (bytes, row) in [
        (&b"vers\t"[..], "version"),
        (b"cre\t", "create-namespace"),
        (b"li\t-\t", "list --"),
        (b"list --bu\t", "list --buses"),
        (b"help arr\x7f\t", "help arenas"),
        (b"mode j\t", "mode json"),
        (b"read p\t 0", "read pmem0s  0"),
        (b"arenas na\t", "arenas namespace0.0"),
        (b"xyz\t", "xyz"),
    ] {
        assert_eq!(shown(bytes).0, format!("untorn> {row}"), "{}", bytes.escape_ascii());
    }
    let mut person = Person::new(24, 40);
    person.types(b"st\t");
    assert_eq!(person.rows(), ["untorn> stat"]);
    person.types(b"\tu");
    assert_eq!(person.rows(), ["untorn> stat", "stats  status", "untorn> statu"]);
    person.types(b"\x15\t");
    assert!(
        person.rows().iter().all(|row| row.split("  ").all(|word| !word.contains(' ') || word.starts_with("untorn")))
    );
}

#[test]
fn tab_completes_the_values_that_a_command_takes() {
    for (bytes, row) in [
        // An option's values, and none but these.
        ("create-namespace -m \t", "create-namespace -m"),
        ("create-namespace -m s\t", "create-namespace -m sector"),
        ("create-namespace -m=r\t", "create-namespace -m=r"),
        ("create-namespace --mode=r\t", "create-namespace --mode=raw"),
        ("create-namespace -t b\t", "create-namespace -t blk"),
        ("create-namespace -l 51\t", "create-namespace -l 512"),
        ("create-namespace -l p\t", "create-namespace -l p"),
        ("create-namespace -fl 42\t", "create-namespace -fl 4224"),
        ("create-namespace -r r\t", "create-namespace -r region0"),
        ("create-namespace --region region0 -m r\t", "create-namespace --region region0 -m raw"),
        ("create-namespace -n p\t", "create-namespace -n p"),
        ("create-namespace p\t", "create-namespace p"),
        ("create-namespace -m raw --f\t", "create-namespace -m raw --force"),
        ("check-namespace n\t", "check-namespace namespace0.0"),
        ("init-labels n\t", "init-labels nmem0"),
        ("bench --seconds p\t", "bench --seconds p"),
        ("bench --seconds 5 p\t", "bench --seconds 5 pmem0s"),
        ("read pmem0s p\t", "read pmem0s p"),
        ("config s\t", "config s"),
        ("config se\t", "config set"),
        ("config set console.p\t", "config set console.pager"),
        ("config set console.pager o\t", "config set console.pager o"),
        ("config set console.pager of\t", "config set console.pager off"),
        ("config set console j\t", "config set console json"),
        ("config set disabled n\t", "config set disabled n"),
        ("config set disabled na\t", "config set disabled namespace0.0"),
        ("config set nvme.export p\t", "config set nvme.export pmem0s"),
        ("config unset con\tp\t", "config unset consolep"),
        ("config save k\t", "config save k"),
        ("help conf\t", "help config"),
        ("events --severity w\t", "events --severity warning"),
        ("events --kind=net\t", "events --kind=network"),
        ("list -n p\t", "list -n p"),
        ("list -d n\t", "list -d nmem0"),
        ("status; vers\t", "status; version"),
        ("status # vers\t", "status # vers"),
        ("no-such p\t", "no-such p"),
    ] {
        assert_eq!(shown(bytes.as_bytes()).0, format!("untorn> {row}"), "{}", bytes.escape_debug());
    }
    let mut person = Person::new(24, 80);
    person.types(b"create-namespace -l \t");
    assert!(person.rows().contains(&"4096  4104  4160  4224  512  520  528".into()), "{:?}", person.rows());
}

#[test]
fn an_older_line_is_looked_for() {
    let mut person = Person::new(24, 40);
    person.types(b"version\rread pmem0s 7\rread pmem0s 8\rlist\rdraft");
    for (keys, row) in [
        (&b"\x12"[..], "(search) :"),
        (b"r", "(search) r: read pmem0s 8"),
        (b"e", "(search) re: read pmem0s 8"),
        (b"\x12", "(search) re: read pmem0s 7"),
        (b"\x12", "(not found) re: read pmem0s 7"),
        (b"\x7f", "(search) r: read pmem0s 8"),
        (b"\x12\x12", "(search) r: version"),
        (b"\x03", "untorn> draft"),
        (b"\x12pmem\x01", "untorn> read pmem0s 8"),
        (b"#\x12zzz", "(not found) zzz:"),
        (b"\x07", "untorn> #read pmem0s 8"),
        (b"\x12a\x12\x12 much longer text than there is room fo", "(not found) a much longer text than the"),
        (b"\x1b[C", "untorn> read pmem0s 7"),
    ] {
        person.types(keys);
        assert_eq!(person.row(), row, "{}", keys.escape_ascii());
    }
    person.types(b"\x15\x12vers\r");
    let rows = person.rows();
    assert_eq!(rows[rows.len() - 3..], ["untorn> version", &format!("untorn {}", service::VERSION), "untorn>"]);
}

#[test]
fn the_end_of_the_input_says_how_to_leave_and_deletes_within_a_line() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    let output = terminal.say(b"\x04");
    assert!(output.contains("poweroff stops the machine") && output.ends_with("\r\nuntorn> "), "{output}");
    assert!(terminal.say(b"vXersion\x01\x06\x04\x05\r").contains(service::VERSION));
}

#[test]
fn a_line_may_have_several_commands() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    let version = service::VERSION;
    assert_eq!(
        terminal.say(b"version;xyz;version #;\r"),
        format!(
            "version;xyz;version #;\r\nuntorn {version}\r\nerror (unknown-command): no command \
             \"xyz\": help lists the commands\r\nuntorn {version}\r\nuntorn> "
        )
    );
    assert_eq!(terminal.say(b"; ;# nothing\r"), "; ;# nothing\r\nuntorn> ");
    assert!(terminal.say(b"help ';'\r").contains("no command \";\""));
    // After one that was ended nothing more is done.
    terminal.machine.interrupts = true;
    let output = terminal.say(b"errors; version\r");
    assert!(output.contains("error (interrupted)") && !output.contains(version), "{output}");
    // One that found something wrong was not.
    terminal.machine.health.findings.push(service::admin::commands::inventory::HealthFinding {
        what: "its link is down".into(),
        place: "net0".into(),
        severity: service::events::Severity::Warning,
        kind: service::events::Kind::Network,
    });
    assert!(terminal.say(b"health; version\r").contains(version));
    assert!(terminal.say(b"version; poweroff; version\r").ends_with("powering off\r\n"));
    assert_eq!(terminal.last, Activity::Poweroff);
}

#[test]
fn a_long_reply_comes_a_page_at_a_time_where_the_terminal_tells_its_size() {
    for columns in [40, 80] {
        let mut person = Person::told(12, columns);
        let all = Terminal::default().say(b"help\r").replace("\r\n", "\n");
        let all: Vec<&str> = all.lines().skip(1).collect();
        assert!(person.types(b"help\r").ends_with(MORE), "{columns}");
        let rows = person.rows();
        assert!(rows.len() <= 12 && rows.last().is_some_and(|row| row == MORE), "{columns}: {rows:?}");
        assert!(rows[..2].iter().any(|row| row.starts_with(&all[0][..30])), "{columns}: {rows:?}");
        // A program is served meanwhile, and the person sees nothing of it.
        assert!(person.types(b"\x1b_version\n").starts_with("\x1b_{\"ok\":true"));
        assert_eq!(person.rows(), rows);
        person.types(b"x\r");
        assert!(person.row() == MORE && person.rows() != rows, "{columns}: a line");
        let mut seen = 0;
        while person.row() == MORE {
            person.types(b" ");
            seen += 1;
            assert!(seen < 100);
        }
        assert_eq!(person.row(), "untorn>");
        let rows = person.rows();
        assert!(rows[rows.len() - 2].ends_with("explains one."), "{rows:?}");
        for quits in [b"q", b"\x03", b"\x04"] {
            person.types(b"help\r");
            person.types(quits);
            assert_eq!(person.row(), "untorn>");
        }
        // Between the commands of a line, too.
        person.types(b"help; version\r");
        assert!(person.row() == MORE);
        person.types(b"q");
        assert!(person.rows().iter().any(|row| row.contains(service::VERSION)) && person.row() == "untorn>");
        // Not for one who types ahead, nor where it is turned off.
        assert!(!person.types(b"help\rversion\r").contains(MORE));
        person.types(b"config set console.pager off\r");
        assert!(!person.types(b"help\r").contains(MORE));
    }
    // A program at the console is never waited for, nor one in a mode of its own.
    let mut person = Person::at_dumb(10, 80);
    person.types(b"list -v --human --namespaces --dimms --regions\r");
    assert!(!person.types(b"help\r").contains(MORE));
    let mut person = Person::told(10, 80);
    for mode in [&b"mode text\n"[..], b"mode json\n"] {
        person.types(mode);
        assert!(!person.types(b"help\n").contains(MORE));
    }
    // A reply that is too long to be kept comes as it is.
    let mut person = Person::told(10, 80);
    assert!(!person.types(b"read pmem0s 0 2048\r").contains(MORE));
}

#[test]
fn errors_are_red_where_that_is_asked_for() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    assert!(!terminal.say(b"no-such\r").contains("\x1b["));
    terminal.say(b"config set console.color on\r");
    let output = terminal.say(b"no-such\rversion\r");
    assert!(output.contains("\x1b[31merror (unknown-command)") && output.matches("\x1b[0m").count() == 1, "{output}");
    assert!(output.ends_with("untorn> "), "the prompt stays as it is");
}

#[test]
fn a_person_who_asks_for_a_mode_for_programs_is_not_locked_out() {
    for mode in ["json", "text"] {
        let mut terminal = Terminal::default();
        terminal.say(format!("mode {mode}\r").as_bytes());
        assert!(terminal.say(b"version\r").contains(service::VERSION), "{mode}");
        assert_eq!(terminal.say(b"nonsense\x03"), "", "{mode}: ^C takes a line back");
        assert!(terminal.say(b"\x1b_version\n").starts_with("\x1b_{\"ok\":true"), "{mode}: a program beside");
        assert!(terminal.say(b"mode console\r").ends_with("untorn> "), "{mode}");
        // A program's Enter has an LF.
        let mut terminal = Terminal::default();
        terminal.say(format!("mode {mode}\r\n").as_bytes());
        assert_eq!(terminal.say(b"version\r"), "", "{mode}");
    }
}

#[test]
fn bytes_that_are_no_text_are_named_and_nothing_is_run() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    for (bytes, message) in [
        (&b"write pmem0s 0 --fill\x00 1\r"[..], "byte 0x00 in column 22 is not text"),
        (b"\xff\xfe\x00\r", "byte 0xff in column 1 is not text"),
        (b"write pmem0s 0 --fill 1\xc3\r", "byte 0xc3 in column 24 is not text"),
    ] {
        let output = terminal.say(bytes);
        assert!(output.ends_with(&format!("\r\nerror (usage): {message}\r\nuntorn> ")), "{output:?}");
    }
    assert!(terminal.machine.disk.borrow().iter().all(|byte| *byte == 0));
    // ^U and ^C forget the bad byte with its line.
    assert!(terminal.say(b"\x00\x03version\r").contains("untorn 0."));
    assert!(terminal.say(b"x\x00\x15version\r").contains("untorn 0."));
}

#[test]
fn a_line_of_64_kib_is_taken_and_a_longer_one_is_refused_in_every_mode() {
    let fits = format!("help {}", "x".repeat(LINE_BYTES_MAX - 5));
    for mode in ["console", "text", "json"] {
        let mut terminal = Terminal::in_mode(mode);
        let output = terminal.say(format!("{fits}\n").as_bytes());
        assert!(output.contains("not-found"), "{mode}");
        let output = terminal.say(format!("{fits}x{}\n", "y".repeat(200_000)).as_bytes());
        assert!(output.contains("too-long") && output.contains("the line is longer than 65536 bytes"), "{mode}");
        assert!(terminal.say(b"version\n").contains("0.1.0"), "{mode}: the session goes on");
    }
}

#[test]
fn modes_are_switched_in_band_and_back() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    let output = terminal.say(b"mode json\r\nversion\r\nmode text\r\nversion\r\nmode console\r\nversion\r\n");
    let version = service::VERSION;
    assert_eq!(
        output,
        format!(
            "mode json\r\n{{\"ok\":true,\"mode\":\"json\"}}\n\
             {{\"ok\":true,\"name\":\"untorn\",\"version\":\"{version}\"}}\n\
             \x1e0\n\
             untorn {version}\n\x1e0\n\
             untorn> version\r\nuntorn {version}\r\nuntorn> "
        )
    );
    assert_eq!(terminal.session.mode(), Mode::Console);
}

#[test]
fn a_line_end_of_two_bytes_is_one_even_when_they_come_apart() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    assert!(terminal.say(b"version\r").ends_with("untorn> "));
    assert_eq!(terminal.say(b"\n"), "", "a person's Enter may be CR LF");
    for mode in ["text", "json"] {
        let mut terminal = Terminal::in_mode(mode);
        assert_eq!(terminal.say(b"version\r"), "", "{mode}: a program's line ends with LF");
        assert!(terminal.say(b"\n").contains(service::VERSION), "{mode}");
        assert!(!terminal.say(b"\n").is_empty(), "{mode}: an empty line is answered");
    }
    // The LF of a person's CR LF belongs to it also when the mode is another one meanwhile.
    assert_eq!(Terminal::default().say(b"mode json\r\n").matches("\"ok\"").count(), 1);
}

#[test]
fn a_return_within_a_programs_line_makes_no_second_command() {
    for mode in ["text", "json"] {
        let mut terminal = Terminal::in_mode(mode);
        let output = terminal.say(b"version\rwrite pmem0s 0 --fill 1\nversion\n");
        assert!(output.contains("byte 0x0d in column 8 is not text"), "{mode}: {output}");
        assert!(
            output.contains(service::VERSION) && terminal.machine.disk.borrow().iter().all(|byte| *byte == 0),
            "{mode}"
        );
    }
}

#[test]
fn a_line_of_which_bytes_were_lost_is_not_carried_out() {
    for (mode, end) in [("console", "\r"), ("text", "\n"), ("json", "\n")] {
        for line in ["write pmem0s 0 --fill 1", "", "\0"] {
            let mut terminal = Terminal::in_mode(mode);
            terminal.link.lost = true;
            let output = terminal.say(format!("{line}{end}").as_bytes());
            assert!(output.contains("lost bytes of this line: nothing was done"), "{mode}: {output}");
            assert!(terminal.machine.disk.borrow().iter().all(|byte| *byte == 0), "{mode}");
            assert!(
                terminal.say(format!("version{end}").as_bytes()).contains(service::VERSION),
                "{mode}: the next is whole"
            );
        }
    }
}

#[test]
fn a_program_asks_beside_a_person_who_sees_nothing_of_it() {
    let version = service::VERSION;
    let mut person = Person::new(24, 80);
    person.types(b"vers");
    let terminal = &mut person.terminal;
    let json = format!("\x1b_{{\"ok\":true,\"name\":\"untorn\",\"version\":\"{version}\"}}\n\x1b\\");
    assert_eq!(terminal.say(b"\x1b_version\n"), json);
    assert_eq!(terminal.say(b"\x1b^version\r\n"), format!("\x1b_untorn {version}\n\x1e0\n\x1b\\"));
    // What is wrong has its one reply, too, and changes nothing.
    for (line, answer) in [
        (&b"nonsense"[..], "unknown-command"),
        (b"", "usage"),
        (b"mode json", "no mode here"),
        (b"\"mode\" text", "no mode here"),
        (b"version\rwrite pmem0s 0 --fill 1", "byte 0x0d in column 8"),
        (b"status \xff", "byte 0xff in column 8"),
        (&[b'x'; LINE_BYTES_MAX + 1], "too-long"),
    ] {
        let output = terminal.say(&[b"\x1b_", line, b"\n"].concat());
        assert!(output.starts_with("\x1b_{\"ok\":false") && output.ends_with("}\n\x1b\\"), "{output}");
        assert!(output.contains(answer) && output.matches("\x1b_").count() == 1, "{output}");
    }
    assert!(terminal.machine.disk.borrow().iter().all(|byte| *byte == 0));
    // One that is taken back has none.
    for taken_back in [b"\x1b_poweroff\x03", b"\x1b_poweroff\x18"] {
        assert_eq!(terminal.say(taken_back), "");
    }
    // A person's key began one: the next is whole all the same.
    assert_eq!(terminal.say(b"\x1b_x\x1b_version\n"), json);
    assert_eq!(terminal.say(b"\x1b^\rversion\r\x1b_version\n"), json);
    assert_eq!(terminal.say(b"\x18"), "", "for a command that has ended");
    // By its number a program knows which request a reply is for.
    assert_eq!(terminal.say(b"\x1b_#17 version\n"), json.replace("\x1b_", "\x1b_#17 "));
    assert_eq!(terminal.say(b"\x1b^#0 version\n"), format!("\x1b_#0 untorn {version}\n\x1e0\n\x1b\\"));
    let error = terminal.say(b"\x1b_#2 no-such\n");
    assert!(error.starts_with("\x1b_#2 {\"ok\":false"), "{error}");
    for no_number in [&b"# 1 version"[..], b"#1", b"#x version", b"#"] {
        let error = terminal.say(&[b"\x1b_", no_number, b"\n"].concat());
        assert!(error.starts_with("\x1b_{\"ok\":false"), "{error}");
    }
    // The person goes on where he was: with the line, its row, and his own history.
    person.types(b"ion");
    assert_eq!(person.row(), "untorn> version");
    person.types(b"\r\x10");
    assert_eq!(person.row(), "untorn> version");
    assert_eq!(person.terminal.session.mode(), Mode::Console);
}

#[test]
fn a_job_leaves_the_session_free_and_is_replied_to_when_it_has_ended() {
    let mut terminal = Terminal::default();
    terminal.say(b"vers");
    terminal.machine.room_for_jobs = 2;
    assert_eq!(terminal.say(b"\x1b_#7 errors\n\x1b^#8 check-namespace namespace0.0\n"), "", "they go on");
    // Others have their turn: also one that might be a job, and for which there is no room.
    let looks = terminal.say(b"\x1b_#9 version\n\x1b_#10 errors\n");
    assert!(looks.starts_with("\x1b_#9 {\"ok\":true") && looks.contains("\x1b_#10 {\"ok\":true"), "{looks}");
    assert!(terminal.say(b"ion\r").contains(service::VERSION), "the person's line is whole");
    // One ends by its number, and no other by none.
    assert_eq!(terminal.say(b"\x1b_#7 \x18\x1b_#70 \x18\x1b_#7\x18\x1b_\x18"), "");
    reply_to_jobs(&mut terminal.link, &terminal.machine);
    let replies = terminal.say(b"");
    let ended = "\x1b_#7 {\"ok\":false,\"error\":{\"code\":\"interrupted\",\"message\":\"ended\"}}\n\x1b\\";
    let checked = "\x1b_#8 namespace0.0: 1 arena checked, nothing wrong\n\x1e0\n\x1b\\";
    assert_eq!(replies, format!("{ended}{checked}"));
    // Its device is in another command's hands: it has its turn.
    terminal.machine.in_hand = true;
    assert!(terminal.say(b"\x1b_#1 check-namespace namespace0.0\n").starts_with("\x1b_#1 {\"ok\":true"));
    assert!(terminal.say(b"\x1b_#2 errors pmem9s\n").contains("not-found"), "why it cannot begin");
}

#[test]
fn no_log_line_comes_among_the_bytes_of_a_reply_beside_a_person() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    assert!(!terminal.session.is_quiet());
    terminal.link.input.extend(b"\x1b_version");
    assert_eq!(terminal.session.poll(&mut terminal.link, &mut terminal.machine), Activity::Busy);
    assert!(
        terminal.session.is_quiet() && terminal.link.input.len() == 7,
        "whoever logs is told before the command is run"
    );
    terminal.session.log("cpu 1", "media error", &mut terminal.link);
    assert!(terminal.say(b"\n").starts_with("\x1b_{") && !terminal.session.is_quiet());
}

#[test]
fn a_request_beside_a_person_may_end_the_machine() {
    let mut terminal = Terminal::default();
    terminal.say(b"vers");
    assert_eq!(terminal.say(b"\x1b_poweroff\nversion\n"), "\x1b_{\"ok\":true}\n\x1b\\");
    assert_eq!((terminal.last, terminal.machine.quiesced), (Activity::Poweroff, 1));
}

#[test]
fn log_lines_stand_above_what_is_typed_and_never_among_replies() {
    for columns in [40, 80] {
        let mut person = Person::new(10, columns);
        person.types(b"create-namespace --sector-size 512 --region region0");
        let typed = person.row();
        person.log("cpu 1: media error");
        assert_eq!(person.row(), typed);
        person.types(b"\x15sta");
        person.log("cpu 2: media error");
        person.types(b"tus");
        person.types(b"\x12");
        person.log("cpu 3: media error");
        assert_eq!(person.row(), "(search) :");
        assert_eq!(person.rows()[..3], ["cpu 1: media error", "cpu 2: media error", "cpu 3: media error"]);
        person.types(b"\x03\x15help\r");
        person.log("cpu 4: media error");
        let rows = person.rows();
        assert_eq!(rows[rows.len() - 2..], ["cpu 4: media error", MORE], "{columns}");
    }
    let mut terminal = Terminal::in_mode("json");
    terminal.session.log("cpu 1", "media error", &mut terminal.link);
    assert_eq!(terminal.say(b""), "");
}

#[test]
fn poweroff_is_answered_before_it_is_reported_and_nothing_after_it_runs() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    assert_eq!(terminal.say(b"poweroff\rversion\r"), "poweroff\r\npowering off\r\n");
    assert_eq!((terminal.last, terminal.machine.quiesced), (Activity::Poweroff, 1));
}

#[test]
fn a_program_need_not_know_which_mode_it_meets() {
    let version = service::VERSION;
    for mode in ["json", "text"] {
        let mut terminal = Terminal::in_mode(mode);
        let json = format!("\x1b_{{\"ok\":true,\"name\":\"untorn\",\"version\":\"{version}\"}}\n\x1b\\");
        assert_eq!(terminal.say(b"\x1b_version\n"), json);
        assert_eq!(terminal.say(b"\x1b^version\n"), format!("\x1b_untorn {version}\n\x1e0\n\x1b\\"));
        assert_eq!(terminal.say(b"\x18"), "", "it was meant for a command that has ended");
        // The next line is the mode's own, also one within which somebody asks; any other ESC in one is no text.
        let own = terminal.say(b"version\n");
        assert!(own.contains(version) && !own.contains('\x1b'), "{own:?}");
        assert_eq!(terminal.say(b"ver\x1b_version\n"), json);
        assert_eq!(terminal.say(b"sion\n"), own);
        for line in [b"\x1bversion\n".as_slice(), b"ver\x1bsion\n", b"version\x1b\n"] {
            let refused = terminal.say(line);
            assert!(refused.contains("usage") || refused.contains("\x1e2"), "{refused:?}");
        }
        assert!(terminal.say(b"version\n").contains(version));
    }
}

#[test]
fn the_configuration_changes_the_mode_and_only_a_person_gets_a_prompt() {
    let mut terminal = Terminal::default();
    terminal.link.output.clear();
    terminal.session.set_mode(service::admin::Mode::Json, &mut terminal.link);
    assert_eq!(terminal.say(b"version\n").matches('\n').count(), 1);
    assert!(terminal.say(b"version\r").contains(service::VERSION), "a person is not locked out");
    terminal.session.set_mode(service::admin::Mode::Console, &mut terminal.link);
    assert!(terminal.say(b"").ends_with(service::console::PROMPT));
    let mut session = service::console::Session::in_mode(service::admin::Mode::Text);
    session.start(&mut terminal.link);
    assert!(session.is_quiet() && terminal.link.output.is_empty());
}

/// Tells an event.
fn tell(terminal: &mut Terminal, what: &str) {
    let number = terminal.machine.newest_event() + 1;
    let (severity, kind) = (Severity::Warning, Kind::Host);
    let (at_ns, cpu, place, what) = (number * 1_500_000, 0, "nqn.x".into(), what.into());
    terminal.machine.events.borrow_mut().push(Event { number, at_ns, cpu, severity, kind, place, what });
}

#[test]
fn events_are_followed_until_a_byte_is_typed_and_a_program_beside_may_ask() {
    let mut terminal = Terminal::default();
    terminal.say(b"");
    tell(&mut terminal, "one");
    // The line is long enough to ask a terminal for its size.
    let ask = std::str::from_utf8(ASK).expect("ASCII");
    let shown = terminal.say(b"events --follow --kind host\r\n").replace(ask, "");
    let heading = "       TIME SEVERITY KIND      EVENT\r\n";
    assert_eq!(
        shown,
        format!(
            "events --follow --kind host\r\nany key ends this\r\n{heading}      0.001 warning  host      nqn.x: one\r\n"
        )
    );
    assert_eq!(terminal.say(b""), "");
    tell(&mut terminal, "two");
    terminal.session.log("nqn.x", "two", &mut terminal.link);
    assert_eq!(terminal.say(b""), "      0.003 warning  host      nqn.x: two\r\n", "shown once");
    let beside = terminal.say(b"\x1b_version\n");
    assert!(beside.starts_with("\x1b_{\"ok\":true") && beside.ends_with("\x1b\\"), "{beside:?}");
    let change = terminal.say(b"\x1b_disable-namespace namespace0.0\n");
    assert!(change.contains("\"ok\":true"), "{change:?}");
    let refused = terminal.say(b"\x1b_events --follow\n");
    assert!(refused.contains("\"usage\""), "{refused:?}");
    tell(&mut terminal, "three");
    assert!(terminal.say(b"").ends_with("nqn.x: three\r\n"));
    assert_eq!(terminal.say(b"x"), "untorn> ", "the byte is used up");
    tell(&mut terminal, "four");
    assert_eq!(terminal.say(b""), "");
    assert!(terminal.say(b"version\r").contains("untorn 0."));
}

#[test]
fn a_program_gets_each_event_as_a_line_and_the_reply_when_it_ends_it() {
    let mut terminal = Terminal::in_mode("json");
    (0..20).for_each(|number| tell(&mut terminal, &number.to_string()));
    let mut lines = terminal.say(b"events --follow --after 1\n");
    for _ in 0..3 {
        lines += &terminal.say(b"");
    }
    let events: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let whats: Vec<_> = events.iter().map(|event| event["what"].as_str().expect("text")).collect();
    assert_eq!(whats, (1..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(
        lines.lines().next().expect("a line"),
        concat!(
            r#"{"number":2,"time":0.003,"severity":"warning","kind":"host","where":"nqn.x","#,
            r#""what":"1","cpu":0}"#
        )
    );
    assert_eq!(terminal.say(b"\n"), "{\"ok\":true,\"newest\":20}\n");
    assert!(terminal.say(b"version\n").contains("\"ok\":true"));
    let mut terminal = Terminal::in_mode("text");
    tell(&mut terminal, "one");
    terminal.say(b"events --follow\n");
    assert_eq!(terminal.say(b"\x03"), "\u{1e}0\n");
}

#[test]
fn history_is_handed_out_without_secrets_and_taken_in_again() {
    let mut terminal = Terminal::default();
    terminal.say(b"version\rallow any --secret DHHC-1:00:c2VjcmV0:\rlist\r");
    assert_eq!(terminal.session.new_lines().expect("lines"), ["version", "list"]);
    assert_eq!(terminal.session.new_lines(), None, "nothing is new");
    let mut person = Person::new(24, 80);
    person.terminal.session.remember(vec!["status".into(), "allow any --secret x".into()]);
    assert_eq!(person.terminal.session.new_lines(), None);
    person.types(&[0x10]);
    assert_eq!(person.row(), "untorn> status");
}
