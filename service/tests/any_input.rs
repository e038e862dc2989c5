//! Whatever comes in: no panic, no stall, one answer a line, nothing else.

mod common;

use proptest::prelude::*;
use service::console::Activity;

use common::Terminal;

/// A line as a peer might send it: from a plausible command to noise. No line ends within.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "help",
            "version",
            "status",
            "list",
            "nfit",
            "arenas",
            "read",
            "write",
            "bench",
            "stats",
            "check-namespace",
            "create-namespace",
            "trim",
            "export",
            "pmem0s",
            "pmem9s",
            "namespace0.0",
            "0",
            "1",
            "4095",
            "4096",
            "2049",
            "0xffffffffffffffff",
            "18446744073709551616",
            "-1",
            "--data",
            "--data=QUJD",
            "--fill",
            "--fill=7",
            "--count",
            "--verify",
            "-BDRNi",
            "-l",
            "512",
            "-vvv",
            "--seconds=0",
            "--",
            "'",
            "\"",
            "\\",
            "-",
            "",
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
        "\\PC{0,8}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(word, 0..7).prop_map(|words| {
        let mut line = words.join(&b' ');
        line.retain(|byte| !matches!(byte, b'\n' | b'\r'));
        line
    })
}

/// Lines that do not switch the mode or stop the machine, and are no requests beside a person, whose replies are framed.
fn harmless(line: &[u8]) -> bool {
    let is_beside = line.windows(2).any(|pair| matches!(pair, b"\x1b_" | b"\x1b^"));
    !is_beside
        && !["mode", "poweroff", "reboot"]
            .iter()
            .any(|word| line.windows(word.len()).any(|part| part == word.as_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_request_line_gets_exactly_one_line_of_json(lines in prop::collection::vec(line(), 0..12)) {
        let lines: Vec<_> = lines.into_iter().filter(|line| harmless(line)).collect();
        let mut terminal = Terminal::in_mode("json");
        let output = terminal.say(&lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<_>>());
        prop_assert_eq!(output.lines().count(), lines.len());
        prop_assert_eq!(output.matches('\n').count(), lines.len());
        for reply in output.lines() {
            let reply: serde_json::Value = serde_json::from_str(reply).expect("one JSON value a line");
            let ok = reply["ok"].as_bool().expect("ok");
            prop_assert_eq!(ok, reply.get("error").is_none());
            if !ok {
                prop_assert!(reply["error"]["code"].is_string() && reply["error"]["message"].is_string());
            }
        }
    }

    #[test]
    fn each_line_of_text_mode_ends_with_one_exit_status(lines in prop::collection::vec(line(), 0..12)) {
        let lines: Vec<_> = lines.into_iter().filter(|line| harmless(line)).collect();
        let mut terminal = Terminal::in_mode("text");
        let output = terminal.say(&lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<_>>());
        let statuses: Vec<_> = output.lines().filter_map(|line| line.strip_prefix('\x1e')).collect();
        prop_assert_eq!(statuses.len(), lines.len());
        prop_assert_eq!(output.matches('\x1e').count(), lines.len());
        prop_assert!(statuses.iter().all(|status| ["0", "1", "2", "3", "4"].contains(status)));
    }

    #[test]
    fn the_prompt_comes_back_after_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assume!(harmless(&bytes));
        let mut terminal = Terminal::default();
        terminal.say(&bytes);
        let output = terminal.say(b"\x03\r");
        prop_assert!(output.ends_with("untorn> "), "{:?}", output);
        let output = terminal.say(b"version\r");
        prop_assert!(output.ends_with(&format!("untorn {}\r\nuntorn> ", service::VERSION)), "{:?}", output);
    }

    #[test]
    fn the_console_survives_any_mix_of_keys(
        keys in prop::collection::vec(
            prop_oneof![
                4 => "[a-z0-9 é;#]{1,30}",
                1 => "[a-z]{60,200}",
                1 => "(help|version|list -N|read pmem0s 0); (help|nfit)\r",
                4 => prop::sample::select(vec![
                    "\x01", "\x02", "\x04", "\x05", "\x06", "\x08", "\x0b", "\x0c", "\x0e", "\x10", "\x15", "\x17",
                    "\x7f", "\t", "\r", "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~", "\x03",
                    "\x12", "\x12", "\x07",
                ]).prop_map(String::from),
            ],
            0..60,
        ),
        terminal in (0..3_usize, 0..3_usize),
    ) {
        prop_assume!(harmless(keys.concat().as_bytes()));
        let at: [fn(u16, u16) -> common::Person; 3] =
            [common::Person::new, common::Person::at_dumb, common::Person::told];
        let mut person = at[terminal.0](24, [40, 53, 80][terminal.1]);
        for key in &keys {
            person.types(key.as_bytes());
            // What is edited never wraps: its row has its begin.
            let row = person.row();
            let begins = ["untorn>", "(search) ", "(not found) ", service::console::MORE];
            prop_assert!(begins.iter().any(|begin| row.starts_with(begin)), "{:?}: {:?}", key, person.rows());
        }
        prop_assert_eq!(person.terminal.last, Activity::Idle);
        // The first may only end a look for an older line, or a page.
        prop_assert!(person.types(b"\x03\x03").ends_with("untorn> "));
        prop_assert_eq!(person.row(), "untorn>");
    }
}
