//! A socket at which programs ask a running appliance for commands: one at a time, from as many clients as there are.
//!
//! A client talks as to the appliance's own serial port in a mode for programs (`service::console`): a line in, a reply
//! out. It begins in `mode json`; `mode text` and `mode json` change the form of its own replies. `mode console` is
//! refused, for the console is somebody else's. When a command gets no reply, the connection is closed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::bridge::Listener;
use crate::bridge::state::{eventfd, signal};
use crate::session::{Mode, Reply};

/// The longest line that is taken, bytes. The appliance itself takes 64 KiB, and says so.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// How long a command waits for the console to be free.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client may take to take a reply.
const CLIENT: Duration = Duration::from_secs(20);

/// How long the appliance waits for a client to take a reply, before others are served.
const SENT: Duration = Duration::from_secs(1);

/// A command that a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The form of the reply.
    pub mode: Mode,
    /// The command.
    pub line: String,
    until: Instant,
    answer: SyncSender<(Option<Reply>, Sender<()>)>,
}

impl Request {
    /// Gives the reply to the client; soon after it returns we may end. None: there is no reply, and the client is
    /// disconnected.
    pub fn answer(self, reply: Option<Reply>) {
        let (sent, is_sent) = channel();
        // A client that has gone needs none. The other end is dropped when it has its reply.
        if self.answer.send((reply, sent)).is_ok() {
            let _ = is_sent.recv_timeout(SENT);
        }
    }
}

/// The requests of all clients, in the order that they came.
#[derive(Debug)]
pub struct Requests {
    /// The socket's name goes with us.
    _listener: Listener,
    wake: Arc<File>,
    incoming: Receiver<Request>,
    waiting: VecDeque<Request>,
}

impl Requests {
    /// Readable when a request has come.
    #[must_use]
    pub fn wake(&self) -> &File {
        &self.wake
    }

    /// Whether one waits for the appliance to be free.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next request, if the appliance is `free` for it. Those that have waited for too long get no reply.
    pub fn next(&mut self, free: bool) -> Option<Request> {
        let _ = (&*self.wake).read(&mut [0; 8]);
        self.waiting.extend(self.incoming.try_iter());
        while self.waiting.front().is_some_and(|request| request.until <= Instant::now()) {
            self.waiting.pop_front();
        }
        if free { self.waiting.pop_front() } else { None }
    }
}

/// Listens at `path`, and collects what clients ask for.
///
/// # Errors
/// Why it cannot listen there, for people.
pub fn listen(path: &Path) -> Result<Requests, String> {
    let listener = Listener::bind(path)?;
    let wake = eventfd().map_err(|error| error.to_string())?;
    let (sender, incoming) = channel();
    let wakes = Arc::clone(&wake);
    let socket = listener.socket().try_clone().map_err(|error| error.to_string())?;
    thread::spawn(move || {
        for stream in socket.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, or the like: it may pass.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let (sender, wake) = (sender.clone(), Arc::clone(&wakes));
            thread::spawn(move || drop(converse(&stream, &sender, &wake)));
        }
    });
    Ok(Requests { _listener: listener, wake, incoming, waiting: VecDeque::new() })
}

/// Takes a client's lines and gives it replies, until it goes or one is missing.
fn converse(stream: &UnixStream, sender: &Sender<Request>, wake: &File) -> io::Result<()> {
    stream.set_write_timeout(Some(CLIENT))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut mode = Mode::Json;
    loop {
        let mut line = String::new();
        let count = (&mut lines).take(LINE_BYTES_MAX).read_line(&mut line)?;
        if count == 0 {
            return Ok(());
        }
        let line = line.trim().to_owned();
        // Kept until the reply is sent.
        let mut _sent = None;
        let words: Vec<&str> = line.split_whitespace().collect();
        let reply = match words[..] {
            [] => continue,
            ["mode", "json"] => {
                mode = Mode::Json;
                "{\"ok\":true,\"mode\":\"json\"}\n".into()
            }
            ["mode", "text"] => {
                mode = Mode::Text;
                "\x1e0\n".into()
            }
            ["mode", ..] => refusal(mode),
            _ => {
                let (answer, answered) = sync_channel(1);
                let request = Request { mode, line, until: Instant::now() + PATIENCE, answer };
                if sender.send(request).is_err() {
                    return Ok(());
                }
                signal(wake);
                let Ok((Some(reply), sent)) = answered.recv() else { return Ok(()) };
                _sent = Some(sent);
                match mode {
                    Mode::Json => reply.text,
                    Mode::Text => format!("{}\x1e{}\n", reply.text, reply.exit_code),
                }
            }
        };
        stream.write_all(reply.as_bytes())?;
    }
}

fn refusal(mode: Mode) -> String {
    let why = "this socket has mode json and mode text";
    match mode {
        Mode::Json => format!("{{\"ok\":false,\"error\":{{\"code\":\"usage\",\"message\":\"{why}\"}}}}\n"),
        Mode::Text => format!("error: {why}\n\x1e2\n"),
    }
}
