//! A session against an appliance that is mad: every wait ends, and no line is without a bound.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use host::deadline::Deadline;
use host::session::{AdminStream, ReplyForm, SessionError};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

/// A session at whose other end these bytes wait, and nothing else comes.
fn with(bytes: &[u8]) -> (AdminStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(bytes).unwrap();
    (AdminStream::new(ours), theirs)
}

#[test]
fn the_prompt_counts_only_where_nothing_follows_it() {
    for (sent, lines) in [
        ("untorn> ", vec![]),
        ("a\r\nb\n\r\x1b[0muntorn> ", vec!["a", "b"]),
        ("type 'help' at untorn> to begin\r\nuntorn> ", vec!["type 'help' at untorn> to begin"]),
    ] {
        let (mut session, _theirs) = with(sent.as_bytes());
        let mut seen = Vec::new();
        session.wait_for_prompt(soon(), |line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, lines);
    }
}

#[test]
fn the_echo_of_the_mode_command_is_no_reply() {
    let (mut session, mut theirs) = with(b"mode json\r\n{\"ok\":true,\"mode\":\"json\"}\r\n");
    session.enter(ReplyForm::Json, soon()).unwrap();
    theirs.write_all(b"{\"ok\":true,\"n\":1}\n").unwrap();
    assert_eq!(session.command("status", soon()).unwrap().text, "{\"ok\":true,\"n\":1}\n");
    let mut sent = [0; 17];
    theirs.read_exact(&mut sent).unwrap();
    assert_eq!(&sent, b"mode json\nstatus\n");
}

#[test]
fn a_damaged_exit_code_is_nonsense() {
    let (mut session, mut theirs) = with(b"mode text\r\n\x1e0\r\n");
    session.enter(ReplyForm::Text, soon()).unwrap();
    theirs.write_all(b"fine\n\x1e256\n").unwrap();
    assert!(matches!(session.command("status", soon()), Err(SessionError::Nonsense(_))));
}

#[test]
fn silence_ends_at_the_deadline() {
    let (mut session, _theirs) = with(b"untorn 0.0.0\r\nhalf a li");
    let error = session.wait_for_prompt(Deadline::after(Duration::from_millis(50)), |_| {}).unwrap_err();
    assert!(matches!(error, SessionError::TooLate("prompt")), "{error}");
    assert_eq!(session.tail().collect::<Vec<_>>(), ["untorn 0.0.0"]);
}

#[test]
fn an_endless_line_is_refused() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut session = AdminStream::new(ours);
    let endless = thread::spawn(move || while theirs.write_all(&[b'x'; 1 << 16]).is_ok() {});
    let error = session.wait_for_prompt(Deadline::after(Duration::from_secs(60)), |_| {}).unwrap_err();
    assert!(matches!(error, SessionError::Nonsense(_)), "{error}");
    drop(session);
    endless.join().unwrap();
}

#[test]
fn only_the_last_lines_are_remembered() {
    let many: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let (mut session, theirs) = with(many.as_bytes());
    drop(theirs);
    assert!(matches!(session.wait_for_prompt(soon(), |_| {}), Err(SessionError::Closed)));
    assert_eq!(session.tail().last(), Some("line 99"));
    assert!(session.tail().count() < 100);
}
