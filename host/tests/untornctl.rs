//! `untornctl` against a fake appliance: what goes where, which status, and that nothing is left running.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::termios::{Winsize, tcsetwinsize};

const FAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake-appliance.sh");

fn untornctl(ours: &[&str], fake: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_untornctl"));
    command.args(ours).args(["--", "sh", FAKE, fake]).stdin(Stdio::null());
    command
}

fn exec(options: &[&str], commands: &str, fake: &str) -> (i32, String, String) {
    let mut ours = vec!["exec", "--commands", commands];
    ours.extend(options);
    shown(&untornctl(&ours, fake).output().unwrap())
}

fn shown(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn only_replies_go_to_stdout_and_the_boot_to_stderr() {
    let (status, out, err) = exec(&[], "status; list -D", "");
    assert_eq!((status, out.as_str()), (0, "two lines\nfor status\ntwo lines\nfor list -D\n"), "{err}");
    assert_eq!(err, "untorn 0.0.0\nready in 7 ms\n\n");
}

#[test]
fn machine_mode_gives_one_object_a_line() {
    let (status, out, err) = exec(&["--json"], "status; missing", "");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], r#"{"ok":true,"line":"status"}"#, "{err}");
    assert!(lines[1].starts_with(r#"{"ok":false"#) && lines.len() == 2, "{out}");
    assert_eq!(status, 3);
}

#[test]
fn all_commands_run_and_the_first_that_failed_gives_the_status() {
    // commands, exit status, replies
    let cases = [
        ("", 0, 0),
        ("a; b", 0, 2),
        ("missing; damaged; b", 3, 3),
        ("a; damaged; missing", 4, 3),
        ("strange", 1, 1),
        ("a; poweroff; never sent", 0, 2),
        ("a; reboot; missing; b", 3, 4),
        ("a; {\"command\":\"reboot\"}; missing; b", 3, 4),
        ("a; {\"command\":\"poweroff\"}; never sent", 0, 2),
        ("reboot -h; poweroff --help; b", 0, 3),
    ];
    for (commands, expected, replies) in cases {
        let (status, out, err) = exec(&["--json"], commands, "");
        assert_eq!((status, out.lines().count()), (expected, replies), "{commands}: {out}{err}");
        let (status, out, err) = exec(&[], commands, "");
        assert_eq!(status, expected, "{commands}: {out}{err}");
    }
}

#[test]
fn a_script_that_changes_the_mode_or_follows_is_a_usage_error_and_starts_nothing() {
    for (script, part) in [
        ("status; mode console", "--json"),
        ("status; 'mo'de console", "--json"),
        ("{\"command\":\"mode\",\"mode\":\"console\"}", "--json"),
        ("status; events --follow", "a byte is typed"),
    ] {
        let (status, out, err) = exec(&[], script, "");
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(err.contains(part) && !err.contains("ready"), "{err}");
    }
}

#[test]
fn comments_are_no_commands() {
    let (status, out, err) = exec(&["--json"], "# first; missing\nstatus # ; missing\n; '#'; poweroff # now; b", "");
    assert_eq!((status, out.lines().count()), (0, 3), "{out}{err}");
    assert!(out.starts_with("{\"ok\":true,\"line\":\"status\"}\n{\"ok\":true,\"line\":\"'#'\"}\n"), "{out}");
}

#[test]
fn a_machine_that_ends_by_sigbus_is_told_with_the_file_at_fault_and_without_its_console() {
    let folder = Folder::new("sigbus");
    let ram = folder.path("ram");
    let disk = format!("{},ram={ram},size=4M", folder.path("disk"));
    // Someone cuts the consumer's RAM short, whereupon the machine that has it mapped dies.
    let ours = ["exec", "--commands", "status", "--vhost-user", &disk, "--control-fd", "0", "--ivshmem-fd", "0"];
    let mut client = Command::new(env!("CARGO_BIN_EXE_untornctl"));
    client.args(ours).args(["--", "sh", "-c", "echo hello; truncate -s 5 \"$1\"; kill -BUS $$", "sh", &ram]);
    let (status, _, err) = shown(&client.stdin(Stdio::null()).output().unwrap());
    assert_eq!(status, 5, "{err}");
    assert!(
        err.contains("SIGBUS: a file that is its memory") && err.contains("ram was cut short: it has 5 bytes"),
        "{err}"
    );
    assert!(!err.contains("  | "), "{err}");
    // The same at a console.
    let ours =
        ["run", "--vhost-user", &disk.replace("ram,size", "ram2,size"), "--control-fd", "0", "--ivshmem-fd", "0"];
    let mut client = Command::new(env!("CARGO_BIN_EXE_untornctl"));
    client.args(ours).args(["--", "sh", "-c", "printf 'untorn> '; sleep 1; kill -BUS $$"]).current_dir(&folder.0);
    let (status, _, err) = shown(&client.stdin(Stdio::null()).output().unwrap());
    assert!(status == 5 && err.contains("SIGBUS: a file that is its memory"), "{status} {err}");
}

#[test]
fn the_socket_that_is_meant_without_a_word_is_the_one_of_a_plain_run() {
    let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("default-{}", std::process::id())));
    std::fs::create_dir(&folder.0).unwrap();
    let client = folder.0.join("release").join("untornctl");
    std::fs::create_dir(client.parent().unwrap()).unwrap();
    // No copy: a file that was just written cannot be run while another thread's child has it open.
    std::fs::hard_link(env!("CARGO_BIN_EXE_untornctl"), &client).unwrap();
    let asked = || shown(&Command::new(&client).arg("status").env("XDG_RUNTIME_DIR", "/nowhere/run").output().unwrap());
    let (status, _, err) = asked();
    assert!(status == 5 && err.contains("/nowhere/run/untorn.sock"), "an installed one: {err}");
    std::fs::write(folder.0.join("CACHEDIR.TAG"), "").unwrap();
    let (status, _, err) = asked();
    assert!(status == 5 && err.contains(&folder.path("admin.sock")), "in a target directory: {err}");
    let mut appliance = console(&["--admin", &folder.path("admin.sock")], "");
    eventually("an answer", || asked().0 == 0);
    assert_eq!(ask("", &["--version"]).0, 0);
    drop(appliance.stdin.take());
    appliance.kill().unwrap();
    appliance.wait().unwrap();
}

#[test]
fn an_appliance_that_ends_or_panics_is_told_with_its_last_lines() {
    for (commands, fake, told) in [
        ("status", "dies", ["exit status: 3", "| no memory"]),
        ("status", "panics-at-boot", ["panicked: panic at kernel/src/main.rs:7: no CPU", "|   at 0x1234"]),
        ("status; panic; status", "", ["panicked: panic at btt/src/map.rs:1", "exit status: 35"]),
        ("log", "", ["no JSON object", "| a line that is no reply"]),
    ] {
        let (status, _, err) = exec(&["--json"], commands, fake);
        assert_eq!(status, 5, "{fake} {commands}: {err}");
        assert!(told.iter().all(|told| err.contains(told)), "{fake} {commands}: {err}");
    }
}

#[test]
fn the_timeout_bounds_the_whole_run() {
    for fake in ["silent", "will-not-end"] {
        let start = Instant::now();
        let (status, _, err) = exec(&["--timeout", "0.7"], "status", fake);
        assert_eq!(status, 124, "{fake}: {err}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_usage_error_and_a_program_that_is_not_there_have_their_own_status() {
    let run = |args: &[&str]| shown(&Command::new(env!("CARGO_BIN_EXE_untornctl")).args(args).output().unwrap());
    assert_eq!(run(&["exec", "--commands", "status"]).0, 2);
    // A script has no time for others: the option is refused, not passed over.
    assert_eq!(run(&["exec", "--commands", "status", "--admin", "/nowhere/socket", "--", "true"]).0, 2);
    assert_eq!(run(&["exec", "--commands", "status", "--timeout", "soon", "--", "true"]).0, 2);
    let (status, _, err) = run(&["exec", "--commands", "status", "--", "/nowhere/qemu"]);
    assert!(status == 1 && err.contains("/nowhere/qemu"), "{err}");
}

#[test]
fn a_command_of_the_appliance_without_admin_is_told_how_it_is_asked_for() {
    let run = |args: &[&str]| shown(&Command::new(env!("CARGO_BIN_EXE_untornctl")).args(args).output().unwrap());
    for (words, tip) in [
        (&["health"][..], "untornctl admin 'health'\n"),
        (&["trim", "pmem0s", "0"], "untornctl admin 'trim pmem0s 0'\n"),
    ] {
        let (status, _, err) = run(words);
        assert!(status == 2 && err.contains(tip) && err.matches("tip:").count() == 1, "{err}");
    }
    let (status, _, err) = run(&["nonsense"]);
    assert!(status == 2 && !err.contains("admin"), "{err}");
}

#[test]
fn the_appliance_is_killed_with_its_client() {
    let mut client = untornctl(&["exec", "--commands", "status"], "silent").stderr(Stdio::null()).spawn().unwrap();
    let appliance = only_child_of(client.id());
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the appliance ends", || !is_running(appliance));
}

#[test]
fn the_console_is_passed_on_both_ways_until_the_appliance_ends() {
    let mut client = console(&[], "");
    let mut keyboard = client.stdin.take().unwrap();
    keyboard.write_all(b"status\npoweroff\n").unwrap();
    let mut seen = String::new();
    client.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    assert!(seen.starts_with("untorn 0.0.0\nready in 7 ms\n\nuntorn> status\r\n"), "{seen:?}");
    assert!(seen.ends_with("untorn> poweroff\r\noff\r\n"), "{seen:?}");
}

#[test]
fn the_console_ends_by_timeout_and_by_signal_and_takes_the_appliance_along() {
    let late = console(&["--timeout", "0.5"], "").wait().unwrap();
    assert_eq!(late.code(), Some(124));

    let mut client = console(&[], "");
    let appliance = only_child_of(client.id());
    let mut first = [0; 7];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(i32::try_from(client.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(143));
    eventually("the appliance ends", || !is_running(appliance));
}

#[test]
fn a_panic_on_the_console_is_a_failure() {
    let mut client = console(&[], "");
    client.stdin.take().unwrap().write_all(b"panic\n").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(5));
}

#[test]
fn only_a_single_raw_namespace_is_formatted_and_never_by_force() {
    let raw = r#"{"dev":"namespace3.0","mode":"raw"}"#;
    let sector = r#"{"dev":"namespace3.0","mode":"sector"}"#;
    for (list, formatted) in [
        (format!(r#"{{"ok":true,"result":[{raw}]}}"#), "create-namespace -r region3\n"),
        (format!(r#"{{"ok":true,"result":[{sector}]}}"#), ""),
        (format!(r#"{{"ok":true,"result":[{raw},{sector}]}}"#), ""),
        (r#"{"ok":true,"result":[]}"#.into(), ""),
        (r#"{"ok":false,"error":{"code":"failed","message":"?"}}"#.into(), ""),
    ] {
        let mut client = untornctl(&["console", "--format-blank"], "")
            .env("FAKE_LIST", &list)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(b"poweroff\n").unwrap();
        let (status, out, err) = shown(&client.wait_with_output().unwrap());
        assert_eq!(status, 0, "{err}");
        assert_eq!(err.lines().next().unwrap_or_default(), formatted.trim_end(), "{list}: {err}");
        // The person sees nothing of it but one prompt.
        assert_eq!(out, "untorn 0.0.0\nready in 7 ms\n\nuntorn> poweroff\r\noff\r\n");
    }
}

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("untornctl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks a running appliance.
fn ask(socket: &str, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_untornctl"));
    shown(&command.args(words).env("UNTORN_SOCKET", socket).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn many_clients_ask_one_at_a_time_and_the_person_at_the_console_sees_nothing_of_them() {
    let folder = Folder::new("admin");
    let socket = folder.path("admin.sock");
    let mut client = console(&["--admin", &socket], "");
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);

    assert_eq!(ask(&socket, &["status"]).1, "two lines\nfor status\n");
    assert_eq!(ask(&socket, &["status", "--json"]).1, "{\"ok\":true,\"line\":\"status\"}\n");
    assert_eq!(ask(&socket, &["list", "-N", "--json"]).0, 5, "a reply that is none");
    assert_eq!(ask(&socket, &["admin", "missing"]).0, 3);
    assert_eq!(ask(&socket, &["admin", "--json", "damaged"]).0, 4);
    assert_eq!(ask(&socket, &["admin", "check", "a b", "-R"]).1, "two lines\nfor check \"a b\" -R\n");
    assert_eq!(ask(&socket, &["read", "pmem0s", "7"]).1, "two lines\nfor read pmem0s 7 1\n");
    assert_eq!(ask(&socket, &["write", "pmem0s", "7", "--fill", "3"]).1, "two lines\nfor write pmem0s 7 --fill 3\n");
    // Whatever the line is, there is an answer.
    for (words, part) in [
        (&["admin", "mode", "console"][..], "--json chooses"),
        (&["admin", "mode json"], "--json chooses"),
        (&["admin", "--json", "'mode' text"], "--json chooses"),
        (&["admin", "#7 mode text"], "--json chooses"),
        (&["admin", "{\"command\":\"mode\",\"mode\":\"console\"}"], "--json chooses"),
        (&["admin", "{\"command\":\"events\",\n\"follow\":true}"], "byte 0x0a in column 21 is not text"),
        (&["admin", "status\nlist"], "byte 0x0a in column 7 is not text"),
        (&["admin", &"x".repeat(70_000)], "the line is longer than 65536 bytes"),
    ] {
        let (status, out, err) = ask(&socket, words);
        assert!(status == 2 && out.is_empty() && err.contains(part), "{words:?}: {status} {out}{err}");
    }
    assert_eq!(ask(&socket, &["admin", ""]).1, "two lines\nfor \n");
    let hexadecimal = ask(&socket, &["write", "pmem0s", "0x10", "--fill", "0x43", "--count", "0x2"]);
    assert_eq!(hexadecimal.1, "two lines\nfor write pmem0s 16 --fill 67 --count 2\n");
    let together: Vec<_> = (0..8)
        .map(|n| {
            let socket = socket.clone();
            spawn(move || ask(&socket, &["admin", "--json", &format!("n{n}")]).1)
        })
        .collect();
    for (n, client) in together.into_iter().enumerate() {
        assert_eq!(client.join().unwrap(), format!("{{\"ok\":true,\"line\":\"n{n}\"}}\n"));
    }
    assert_eq!(ask(&socket, &["admin", "poweroff"]).0, 0);
    let mut seen = String::new();
    client.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    assert_eq!(seen, "untorn 0.0.0\nready in 7 ms\n\nuntorn> ");
    assert!(!Path::new(&socket).exists(), "the socket goes with the appliance");
}

/// Starts `untornctl` with descriptor 9 open, which is to be the appliance's admin port.
fn with_port(ours: &[&str], fake: &str) -> Command {
    let mut command = Command::new("sh");
    let exec = r#"exec "$0" "$@" 9</dev/null"#;
    command.args(["-c", exec, env!("CARGO_BIN_EXE_untornctl")]).args(ours).args([
        "--port-fd",
        "9",
        "--",
        "sh",
        FAKE,
        fake,
    ]);
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_script_goes_by_the_port_if_the_appliance_answers_there_and_else_by_the_console() {
    let run = |commands: &str, fake: &str| {
        shown(&with_port(&["exec", "--json", "--timeout", "30", "--commands", commands], fake).output().unwrap())
    };
    let (status, out, err) = run("status; list", "port");
    let line = |line: &str| format!("{{\"ok\":true,\"by\":\"port\",\"line\":\"{line}\"}}\n");
    assert_eq!((status, out), (0, line("status") + &line("list")), "{err}");
    assert_eq!(err, "untorn 0.0.0\nready in 7 ms\n\n");

    let (status, out, err) = run("status", "port-is-closed");
    assert_eq!((status, out.as_str()), (0, "{\"ok\":true,\"line\":\"status\"}\n"), "{err}");

    // What goes wrong over a command is told on the console.
    let (status, out, err) = run("status; panic", "port");
    assert_eq!((status, out), (5, line("status")), "{err}");
    assert!(err.contains("the appliance panicked: panic at btt/src/map.rs:2: by the port"), "{err}");
    let (status, _, err) = run("closed", "port");
    assert_eq!(status, 5, "nobody answers any more: {err}");
}

#[test]
fn programs_ask_by_the_port_once_it_has_answered_and_by_the_console_when_it_is_gone() {
    let folder = Folder::new("port");
    let socket = folder.path("admin.sock");
    let start = |fake: &str| {
        let mut command = with_port(&["console", "--admin", &socket], fake);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let by_port = |line: &str| format!("{{\"ok\":true,\"by\":\"port\",\"line\":\"{line}\"}}\n");
    let by_console = |line: &str| format!("{{\"ok\":true,\"line\":\"{line}\"}}\n");
    let asked = |line: &str| ask(&socket, &["admin", "--json", line]).1;

    let mut client = start("port");
    client.stdin.as_mut().unwrap().write_all(b"half a li").unwrap();
    eventually("an answer by the port", || asked("status") == by_port("status"));
    assert_eq!(asked("list -N"), by_port("list -N"));
    client.stdin.as_mut().unwrap().write_all(b"ne\n").unwrap();
    assert_eq!(asked("list -N"), by_port("list -N"));
    // The port ends over a command: nothing answers that, and all else goes by the console.
    assert_eq!(ask(&socket, &["admin", "--json", "closed"]).0, 5);
    eventually("an answer by the console", || asked("status") == by_console("status"));
    assert_eq!(ask(&socket, &["admin", "poweroff"]).0, 0);
    let mut seen = String::new();
    client.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    assert!(seen.contains("for half a line\r\n") && !seen.contains("port"), "{seen:?}");

    // It is there, and silent.
    let mut client = start("");
    eventually("an answer by the console", || asked("status") == by_console("status"));
    assert_eq!(ask(&socket, &["admin", "poweroff"]).0, 0);
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn a_client_without_an_appliance_has_its_own_status() {
    let folder = Folder::new("none");
    let (status, out, err) = ask(&folder.path("nobody"), &["status"]);
    assert_eq!((status, out.as_str()), (5, ""));
    assert!(err.contains("no appliance at"), "{err}");
    // A listener that sends nothing.
    let socket = folder.path("silent");
    let _silent = UnixListener::bind(&socket).unwrap();
    assert_eq!(ask(&socket, &["status", "--timeout", "0.3"]).0, 5);
}

#[test]
fn a_system_without_a_thread_to_spare_is_an_error_with_a_message() {
    // A stack of 2^50 bytes does not fit in the addresses of a process. A limit of memory would not do: within some KiB of
    // the least that serves, a thread starts and its first allocation fails in the standard library.
    let mut untornctl = Command::new(env!("CARGO_BIN_EXE_untornctl"));
    untornctl.args(["status", "--socket", "/nonexistent"]).env("RUST_MIN_STACK", (1u64 << 50).to_string());
    let output = untornctl.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.starts_with("untornctl: no thread for messages: ") && !err.contains("panicked"), "{err}");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()), "{err}");
}

#[test]
fn a_line_that_somebody_types_is_not_mixed_with_a_clients() {
    let folder = Folder::new("typing");
    let socket = folder.path("admin.sock");
    let mut client = console(&["--admin", &socket], "");
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);
    let mut keyboard = client.stdin.take().unwrap();
    keyboard.write_all(b"sta").unwrap();
    sleep(Duration::from_millis(200));
    for _ in 0..2 {
        assert_eq!(ask(&socket, &["status"]).1, "two lines\nfor status\n", "half a word keeps nobody from asking");
    }
    keyboard.write_all(b"tus\n").unwrap();
    eventually("an answer", || ask(&socket, &["status", "--timeout", "1"]).0 == 0);
    keyboard.write_all(b"poweroff\n").unwrap();
    let (_, seen, _) = shown(&client.wait_with_output().unwrap());
    assert!(seen.contains("untorn> status\r\ntwo lines\nfor status\r\nuntorn> poweroff"), "{seen:?}");
}

#[test]
fn keys_wait_for_the_prompt_while_the_appliance_starts_after_a_clients_reboot() {
    keys_wait_for_the_prompt_after("loader", |socket, _| assert_eq!(ask(socket, &["admin", "reboot"]).0, 0));
}

#[test]
fn keys_wait_for_the_prompt_while_the_appliance_starts_after_a_reboot_that_is_written_as_programs_do() {
    for line in ["#7 reboot", "{\"command\":\"reboot\"}"] {
        keys_wait_for_the_prompt_after("loader-form", |socket, _| assert_eq!(ask(socket, &["admin", line]).0, 0));
    }
}

#[test]
fn keys_wait_for_the_prompt_while_the_appliance_starts_after_a_reboot_that_was_typed() {
    keys_wait_for_the_prompt_after("loader-typed", |_, keyboard| keyboard.write_all(b"reboot\n").unwrap());
}

fn keys_wait_for_the_prompt_after(name: &str, reboot: impl FnOnce(&str, &mut ChildStdin)) {
    let folder = Folder::new(name);
    let socket = folder.path("admin.sock");
    let mut client = console(&["--admin", &socket], "loader");
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);
    let (mut keyboard, mut screen) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    reboot(&socket, &mut keyboard);
    let mut seen = String::new();
    while !seen.contains("loading") {
        let mut piece = [0; 256];
        let bytes = screen.read(&mut piece).unwrap();
        assert!(bytes > 0, "{seen:?}");
        seen += std::str::from_utf8(&piece[..bytes]).unwrap();
    }
    keyboard.write_all(b"sta").unwrap();
    sleep(Duration::from_millis(100)); // so that it comes in two pieces
    keyboard.write_all(b"tus\npoweroff\n").unwrap();
    screen.read_to_string(&mut seen).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0), "{seen:?}");
    assert!(!seen.contains("a key") && seen.contains("untorn> status\r\ntwo lines\nfor status"), "{seen:?}");
}

#[test]
fn the_size_of_the_terminal_is_told_at_once_when_it_changes_and_after_each_start() {
    let size = |rows, columns| Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(None, None).unwrap();
    tcsetwinsize(&pty.slave, size(30, 100)).unwrap();
    // Ours alone: it ends with us.
    fcntl_setfd(&pty.master, FdFlags::CLOEXEC).unwrap();
    let mut command = untornctl(&["console"], "");
    command.stdin(pty.slave).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = command.spawn().unwrap();
    // It has the other end of the terminal.
    drop(command);
    let (mut keyboard, mut screen) = (std::fs::File::from(pty.master), client.stdout.take().unwrap());
    let mut begins = |with: &str, what: &str| {
        let mut seen = String::new();
        while !seen.ends_with("untorn> ") {
            let mut byte = [0];
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{seen:?}");
            seen.push(char::from(byte[0]));
        }
        assert!(seen.starts_with(with), "{what}: {seen:?}");
    };
    begins("", "the boot");
    keyboard.write_all(b"a\n").unwrap();
    begins("\x1b[8;30;100ta\r\n", "told at the first prompt");
    keyboard.write_all(b"b\n").unwrap();
    begins("b\r\n", "and once");
    tcsetwinsize(&keyboard, size(40, 50)).unwrap();
    // As the terminal's driver does to those whose own it is.
    kill(Pid::from_raw(i32::try_from(client.id()).unwrap()), Signal::SIGWINCH).unwrap();
    sleep(Duration::from_millis(300));
    keyboard.write_all(b"c\n").unwrap();
    begins("\x1b[8;40;50tc\r\n", "told before the next key");
    keyboard.write_all(b"reboot\n").unwrap();
    begins("reboot\r\n", "not told anew to the same one");
    keyboard.write_all(b"d\n").unwrap();
    begins("\x1b[8;40;50td\r\n", "told to the one that has started");
    keyboard.write_all(b"poweroff\n").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn while_a_command_runs_others_wait_and_a_signal_is_heard() {
    let folder = Folder::new("busy");
    let socket = folder.path("admin.sock");
    let mut client = console(&["--admin", &socket], "");
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);
    let mut keyboard = client.stdin.take().unwrap();
    // The person's command, and another client's: a client that waits gets an answer in the end.
    keyboard.write_all(b"slow\n").unwrap();
    sleep(Duration::from_millis(300));
    let (status, _, err) = ask(&socket, &["status", "--timeout", "0.5"]);
    assert!(status == 5 && err.contains("no reply in time"), "{err}");
    assert_eq!(ask(&socket, &["status"]).1, "two lines\nfor status\n");
    let other = {
        let socket = socket.clone();
        spawn(move || ask(&socket, &["admin", "slow"]).1)
    };
    sleep(Duration::from_millis(300));
    keyboard.write_all(b"typed meanwhile\n").unwrap();
    assert_eq!(ask(&socket, &["status"]).1, "two lines\nfor status\n");
    assert_eq!(other.join().unwrap(), "done\n");
    let last = spawn(move || ask(&socket, &["admin", "slow"]).0);
    sleep(Duration::from_millis(300));
    kill(Pid::from_raw(i32::try_from(client.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(last.join().unwrap(), 5, "the appliance ended over it");
    let (status, seen, _) = shown(&client.wait_with_output().unwrap());
    assert_eq!(status, 143);
    assert!(seen.ends_with("untorn> typed meanwhile\r\ntwo lines\nfor typed meanwhile\r\nuntorn> "), "{seen:?}");
}

#[test]
fn a_request_of_which_bytes_were_lost_is_answered_and_keeps_no_other_waiting() {
    let folder = Folder::new("lost");
    let socket = folder.path("admin.sock");
    let mut client = console(&["--admin", &socket], "");
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);
    for _ in 0..2 {
        let (status, out, err) = ask(&socket, &["admin", "--timeout", "10", "lost"]);
        assert!(status == 1 && out.contains("bytes were lost"), "{out}{err}");
        assert_eq!(ask(&socket, &["admin", "--timeout", "10", "slow"]).1, "done\n");
    }
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_terminal_and_a_log_that_take_nothing_hold_up_neither_programs_nor_the_end() {
    let folder = Folder::new("stalled");
    let socket = folder.path("admin.sock");
    let mut command = untornctl(&["console", "--admin", &socket], "");
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);
    // Many times what the pipe has room for, and nothing reads it.
    let mut keyboard = client.stdin.take().unwrap();
    keyboard.write_all(b"long\nlong\n").unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&socket, &["status", "--timeout", "10"]).1, "two lines\nfor status\n");
    }
    kill(Pid::from_raw(i32::try_from(client.id()).unwrap()), Signal::SIGTERM).unwrap();
    eventually("it ends", || client.try_wait().unwrap().is_some());
    assert_eq!(client.wait().unwrap().code(), Some(143));
}

#[test]
fn shells_get_their_completions() {
    let (status, out, _) = ask("", &["completions", "bash"]);
    assert!(status == 0 && out.contains("unexport"), "{out}");
}

#[test]
fn pages_of_the_manual_are_made_and_man_reads_them() {
    let folder = std::env::temp_dir().join(format!("untornctl-man-{}", std::process::id()));
    let (status, _, err) = ask("", &["man", folder.to_str().unwrap()]);
    assert_eq!((status, err.as_str()), (0, ""));
    for (page, has) in
        [("untornctl.1", "untornctl\\-read(1)"), ("untornctl-read.1", "block device"), ("untornctl-dump.1", "secrets")]
    {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains(has), "{page}: {text}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_unit_in_the_documents_is_sound() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/console.md")).unwrap();
    let unit = text.split_once("```ini\n").unwrap().1.split_once("```").unwrap().0;
    // Our words are right, and systemd's. The programs are not installed here.
    let words: Vec<&str> = unit.split_once("untornctl ").unwrap().1.split_whitespace().collect();
    assert_eq!(words[..4], ["run", "--admin", "/run/untorn/admin.sock", "--"]);
    // Our command reads a person's console, whatever the configuration has; and `reboot` is the machine's own, not its end.
    let machine = words.split(|word| *word == "\\").flatten().copied().collect::<Vec<_>>().join(" ");
    let machine = machine.split_once(" ExecStop=").unwrap().0;
    assert!(machine.contains(" -append console=person") && machine.contains("-serial stdio"), "{machine}");
    assert!(!machine.contains("-no-reboot") && machine.contains("-device isa-debug-exit,iobase=0xf4"), "{machine}");
    let folder = std::env::temp_dir().join(format!("untornctl-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("untorn.service");
    let unit =
        unit.replace("/usr/local/bin/untornctl", "/bin/true").replace("/usr/bin/qemu-system-x86_64", "/bin/true");
    std::fs::write(&file, unit).unwrap();
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() {
        Ok(output) => {
            let (status, _, err) = shown(&output);
            let ours: Vec<&str> = err.lines().filter(|line| line.contains("untorn.service")).collect();
            assert!(status == 0 && ours.is_empty(), "{err}");
        }
        Err(_) => eprintln!("no systemd-analyze here: the unit was not verified"),
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn console(options: &[&str], fake: &str) -> Child {
    let mut ours = vec!["console"];
    ours.extend(options);
    let mut command = untornctl(&ours, fake);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn only_child_of(pid: u32) -> u32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let mut child = None;
    eventually("the appliance starts", || {
        child = std::fs::read_to_string(&children).unwrap_or_default().trim().parse().ok();
        child.is_some()
    });
    child.unwrap()
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within 5 s");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_bridge_cannot_serve_has_its_status_and_its_reason_and_is_left_as_it_is() {
    let folder = Folder::new("bridge");
    let path = |name: &str| folder.path(name);
    std::fs::write(path("letter"), "a letter").unwrap();
    std::fs::write(path("small"), "not a machine's memory").unwrap();
    let _somebody = UnixListener::bind(path("taken")).unwrap();
    let disk = |socket: &str, ram: &str, size: &str| format!("{},ram={},size={size}", path(socket), path(ram));
    for (disks, expected, reason) in [
        (vec![disk("letter", "ram", "4M")], 1, "is no socket: it is left as it is"),
        (vec![disk("taken", "ram", "4M")], 1, "somebody listens on"),
        (vec![disk("nowhere/a", "ram", "4M")], 1, "there is no folder"),
        (vec![disk("a", "small", "4M")], 1, "has 22 bytes, not the 8388608 of this consumer, and is left as it is"),
        (vec![disk("a", "", "4M")], 1, "is no plain file"),
        (vec![disk("a", "ram", "1025K")], 2, "not a multiple of 1M"),
        (vec![disk("a", "ram", "128T")], 1, "at most 64T"),
        (vec![disk("a", "ram", "4M"), disk("a", "ram", "4M")], 2, "is given twice"),
        (vec![disk("a", "ram", "4M"), disk("b", "ram", "8M")], 2, "is given with two sizes"),
        (vec![disk("a", "ram", "4X")], 2, "\"4X\""),
        (vec![path("a,size=4M")], 2, "both ram=FILE and size=S"),
        (vec![path("a,ram=r")], 2, "both ram=FILE and size=S"),
        (vec![disk("a", "ram", "4M")], 2, "--vhost-user takes --control-fd, and --ivshmem-fd for each RAM file: 1"),
    ] {
        let options: Vec<&str> = disks.iter().flat_map(|disk| ["--vhost-user", disk.as_str()]).collect();
        let (status, _, err) = exec(&options, "status", "");
        assert!(status == expected && err.contains(reason), "{disks:?}: {status} {err}");
        assert!(!folder.0.join("a").exists(), "{disks:?}");
    }
    assert_eq!(std::fs::read(path("letter")).unwrap(), b"a letter");
    assert_eq!(std::fs::read(path("small")).unwrap(), b"not a machine's memory");
}

#[test]
fn garbage_on_the_admin_socket_harms_nobody() {
    let folder = Folder::new("garbage");
    let socket = folder.path("admin.sock");
    let client = console(&["--admin", &socket], "");
    eventually("an answer", || ask(&socket, &["status"]).0 == 0);
    for garbage in [&[0; 64][..], &[0xff; 200_000], b"mode\nmode json\n\n\r\n\x1e\x1b[A", b"status"] {
        let mut mad = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        mad.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        // It may be dropped before all is sent.
        let _ = mad.write_all(garbage);
        drop(mad);
        assert_eq!(ask(&socket, &["status", "--timeout", "20"]).1, "two lines\nfor status\n");
    }
    assert_eq!(ask(&socket, &["admin", "poweroff"]).0, 0);
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0));
}
