//! A client of a running appliance's admin socket ([`crate::admin`]).

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use service::admin::line::check;
use service::error::AdminError;

use crate::deadline::Deadline;
use crate::limits::COMMAND;
use crate::session::{AdminStream, ReplyForm, ReplyText, SessionError, request};

/// How long we wait before we ask again. The appliance's end has had us wait before it told that it is busy.
const AGAIN: Duration = Duration::from_millis(50);

/// Why there is no reply.
#[derive(Debug)]
pub enum ClientError {
    /// The socket has no listener.
    Connect(PathBuf, io::Error),
    /// Its listener gives no reply.
    NoAnswer(SessionError),
    /// The command cannot be asked for over a socket. It was not sent.
    Usage(AdminError),
}

impl ClientError {
    /// The exit status of a program that ends with it: 2 usage, 5 no connection or no answer.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) => error.code.exit_code(),
            Self::Connect(..) | Self::NoAnswer(_) => 5,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(path, error) => write!(
                f,
                "no appliance at {}: {error} (--socket names another; `untornctl run --admin SOCKET` starts one)",
                path.display()
            ),
            Self::NoAnswer(SessionError::Closed) => f.write_str("no answer: the appliance has ended or restarts"),
            Self::Usage(error) => error.fmt(f),
            Self::NoAnswer(error) => write!(f, "no answer: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Asks the appliance behind the socket at `path` for one command: any line that has one reply in the form of `mode`. With a
/// deadline it is asked for again until then, as long as another command is under way.
///
/// # Errors
/// When there is no reply; a command that the appliance refuses is a [`ReplyText`].
pub fn ask(path: &Path, mode: ReplyForm, command: &str, deadline: Deadline) -> Result<ReplyText, ClientError> {
    check(command).map_err(ClientError::Usage)?;
    if request(command).is_some_and(|request| request.mode().is_some()) {
        let why = "`mode` is for programs that talk to the socket themselves: --json chooses the form of a reply";
        return Err(ClientError::Usage(AdminError::usage(why)));
    }
    let stream = UnixStream::connect(path).map_err(|error| ClientError::Connect(path.to_owned(), error))?;
    let is_patient = deadline != Deadline::NEVER;
    let deadline = deadline.or_after(COMMAND);
    let mut session = AdminStream::new(stream);
    session.enter(mode, deadline).map_err(ClientError::NoAnswer)?;
    let mut busy = None;
    loop {
        match (session.command(command, deadline), busy) {
            (Ok(reply), _) if is_patient && reply.is_busy(mode) && !deadline.passed() => {
                thread::sleep(AGAIN);
                busy = Some(reply);
            }
            // The time is up, and what it was busy with is known.
            (Err(SessionError::TooLate(_)), Some(busy)) => return Ok(busy),
            (reply, _) => return reply.map_err(ClientError::NoAnswer),
        }
    }
}

/// Whether a line is for [`follow`].
#[must_use]
pub fn is_follow(command: &str) -> bool {
    request(command).is_some_and(|request| request.follow().is_some())
}

/// Asks the appliance behind the socket at `path` for what happens, and gives each line of it to `each`, until that returns
/// false. Without a deadline it goes on for as long as the appliance does.
///
/// # Errors
/// As [`ask`], and when the appliance ends.
pub fn follow(
    path: &Path,
    mode: ReplyForm,
    command: &str,
    deadline: Deadline,
    mut each: impl FnMut(&str) -> bool,
) -> Result<(), ClientError> {
    check(command).map_err(ClientError::Usage)?;
    let stream = UnixStream::connect(path).map_err(|error| ClientError::Connect(path.to_owned(), error))?;
    let mut session = AdminStream::new(stream);
    let told = session.enter(mode, deadline.or_after(COMMAND)).and_then(|()| session.send(command, deadline));
    told.map_err(ClientError::NoAnswer)?;
    loop {
        match session.line(deadline, "event") {
            Ok(line) if !each(&line) => return Ok(()),
            Ok(_) => {}
            // The time is up: that is how it ends.
            Err(SessionError::TooLate(_)) => return Ok(()),
            Err(error) => return Err(ClientError::NoAnswer(error)),
        }
    }
}

/// A request line of words, as the appliance's grammar has them (`service::admin::words`): what has blanks, quotes or a
/// `#` is quoted.
pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        if !word.is_empty() && !word.contains([' ', '\t', '"', '\'', '\\', '#']) {
            line.push_str(word);
            continue;
        }
        line.push('"');
        for char in word.chars() {
            if matches!(char, '"' | '\\') {
                line.push('\\');
            }
            line.push(char);
        }
        line.push('"');
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;

    use service::admin::words;

    use super::*;
    use crate::session::ReplyForm;

    #[test]
    fn with_a_deadline_a_command_that_another_one_keeps_waiting_is_asked_for_again() {
        let path = std::env::temp_dir().join(format!("untorn-client-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let replies = |mode| match mode {
            ReplyForm::Text => ["error (busy): bench runs\n\x1e1\n", "error (failed): (busy)\n\x1e1\n"],
            ReplyForm::Json => [
                "{\"ok\":false,\"error\":{\"code\":\"busy\",\"message\":\"\"}}\n",
                "{\"ok\":false,\"error\":{\"code\":\"failed\",\"message\":\"busy\"}}\n",
            ],
        };
        // How many replies are busy; after how many the listener falls silent.
        for (seconds, busy, silent, asked, code) in
            [(None, 1, 9, 1, "busy"), (Some(60), 3, 9, 4, "failed"), (Some(1), 9, 3, 4, "busy")]
        {
            for mode in [ReplyForm::Text, ReplyForm::Json] {
                let deadline = seconds.map_or(Deadline::NEVER, |seconds| Deadline::after(Duration::from_secs(seconds)));
                std::thread::scope(|scope| {
                    let served = scope.spawn(|| {
                        let (stream, _) = listener.accept().unwrap();
                        let mut commands = 0;
                        for line in BufReader::new(&stream).lines().map(Result::unwrap) {
                            let [again, other] = replies(mode);
                            let reply = match line.as_str() {
                                "mode text" => "\x1e0\n",
                                "mode json" => "{\"ok\":true}\n",
                                _ => {
                                    commands += 1;
                                    if commands <= busy { again } else { other }
                                }
                            };
                            if commands <= silent {
                                (&stream).write_all(reply.as_bytes()).unwrap();
                            }
                        }
                        commands
                    });
                    let reply = ask(&path, mode, "check-namespace namespace0.0", deadline).unwrap();
                    assert!(reply.exit_code == 1 && reply.text.contains(code), "{}", reply.text);
                    assert_eq!(served.join().unwrap(), asked, "{mode:?}, {code}");
                });
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_followed_is_known_whichever_way_it_is_written() {
        for line in ["events --follow", "#7 events --follow", "{\"command\":\"events\",\"follow\":true}"] {
            assert!(super::is_follow(line), "{line}");
        }
        for line in
            ["events", "events --follow -h", "{\"command\":\"events\"}", "{\"command\":\"events\",\"follow\":1.5}"]
        {
            assert!(!super::is_follow(line), "{line}");
        }
    }

    #[test]
    fn any_words_come_through_the_appliances_grammar() {
        let cases: [&[&str]; 5] = [
            &["list", "-N"],
            &["create-namespace", "-n", "a name; with 'quotes' and \"more\" and \\ "],
            &["", "a\tb"],
            &["#1", "a#b", "# c"],
            &["write", "pmem0s", "0", "--data", "AAAA=="],
        ];
        for case in cases {
            assert_eq!(words::split(&super::line(case.iter().copied())).unwrap(), case);
        }
    }
}
