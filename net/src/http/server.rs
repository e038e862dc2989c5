//! The server on an interface: few connections, each with a request and a time in which it must come and its reply must go.
//!
//! | a connection | has | and then |
//! |---|---|---|
//! | sends its request | [`HEAD_NS`], less if others want its place | 408 |
//! | waits for its page | [`PAGE_NS`] | 503 |
//! | takes its reply | [`SEND_NS`] | a reset |
//!
//! One more than [`CONNECTIONS_MAX`] gets a 503 at once. What they send behind their request is not read.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::request::{self, HEAD_BYTES_MAX, Reading};
use super::response::{Status, head};
use crate::tcp::{Connection, ConnectionId, ConnectionState, Limits, Service, Tcp};

/// The most connections that are served at a time.
pub const CONNECTIONS_MAX: usize = 8;

/// The same with those that are on their way in or out.
const SOCKETS_MAX: usize = 3 * CONNECTIONS_MAX;

/// What a connection receives before it is read: a head and the blank line before it.
const RECEIVE_BYTES: usize = HEAD_BYTES_MAX + 2;
/// What it has to send.
const SEND_BYTES: usize = 16 << 10;

/// How long a request may take to come.
pub const HEAD_NS: u64 = 5_000_000_000;
/// How long one that has not come has its place when others want it.
const PATIENCE_NS: u64 = 500_000_000;
/// How long a page may take to be made.
pub const PAGE_NS: u64 = 5_000_000_000;
/// How long a reply may take to be taken.
pub const SEND_NS: u64 = 30_000_000_000;

/// How often a page that is being made is asked for.
const LOOK_NS: u64 = 2_000_000;
/// How often it is seen that another port is wanted.
const IDLE_NS: u64 = 500_000_000;

/// The bytes of a page.
#[derive(Clone, Debug)]
pub enum Body {
    /// The same for ever.
    Fixed(&'static str),
    /// Made at some time, and shared by all that asked for it then.
    Made(Arc<String>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Fixed(text) => text.as_bytes(),
            Self::Made(text) => text.as_bytes(),
        }
    }
}

/// What there is for a path.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A page of this type.
    Page(&'static str, Body),
    /// Nothing.
    NotFound,
    /// A page that is being made: the server asks again.
    Wait,
    /// A page that cannot be made, and why.
    Unavailable(&'static str),
}

/// What is served.
pub trait Site: Send {
    /// Returns the port that it is to be served on now; `None`: on none.
    fn port(&self) -> Option<u16>;

    /// Returns the page of a path, as fresh as who asked at `asked_ns` may expect of the site. It never waits.
    fn page(&mut self, path: &str, asked_ns: u64) -> Answer;
}

/// The server.
#[derive(Debug)]
pub struct Server<S> {
    site: S,
    listens: Option<u16>,
    peers: Vec<Peer>,
}

#[derive(Debug)]
struct Peer {
    id: ConnectionId,
    /// When its stage began.
    since_ns: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It sends its request, of which so much has come.
    Asks(Vec<u8>),
    Waits {
        path: String,
        head_only: bool,
    },
    /// It takes its reply, of which it has so many bytes.
    Takes {
        head: String,
        body: Option<Body>,
        sent: usize,
    },
}

impl Stage {
    /// A reply without a page. With `why`, if there is more to say.
    fn refusal(status: Status, why: &str) -> Self {
        let text = format!("{}{}{why}\n", status.line(), if why.is_empty() { "" } else { ": " });
        let head = head(status, "text/plain; charset=utf-8", text.len());
        Self::Takes { head: head + &text, body: None, sent: 0 }
    }

    fn page(content_type: &str, body: Body, head_only: bool) -> Self {
        let head = head(Status::Ok, content_type, body.bytes().len());
        Self::Takes { head, body: (!head_only).then_some(body), sent: 0 }
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It has its reply, or has gone.
    Closes,
    /// Its time is over.
    Aborts,
}

impl<S: Site> Server<S> {
    /// Serves `site`.
    pub const fn new(site: S) -> Self {
        Self { site, listens: None, peers: Vec::new() }
    }

    /// Listens where the site wants it.
    fn listen(&mut self, tcp: &mut Tcp<'_>) {
        let wanted = self.site.port();
        if wanted == self.listens {
            return;
        }
        if let Some(port) = core::mem::replace(&mut self.listens, wanted) {
            tcp.unlisten(port);
            self.peers.drain(..).for_each(|peer| tcp.abort(peer.id));
        }
        if let Some(port) = wanted {
            let limits = Limits { connections: SOCKETS_MAX, receive_bytes: RECEIVE_BYTES, send_bytes: SEND_BYTES };
            tcp.listen(port, limits);
        }
    }

    fn accept(&mut self, tcp: &mut Tcp<'_>, now_ns: u64) {
        let Some(port) = self.listens else { return };
        while let Some(id) = tcp.accept(port) {
            if self.peers.len() >= CONNECTIONS_MAX {
                // One that keeps its request to itself gives way.
                let idle = |peer: &Peer| {
                    matches!(peer.stage, Stage::Asks(_)) && now_ns.saturating_sub(peer.since_ns) >= PATIENCE_NS
                };
                match self.peers.iter().position(idle) {
                    Some(at) => {
                        let idle = self.peers.remove(at);
                        farewell(tcp, idle.id, Status::Timeout);
                    }
                    None => {
                        farewell(tcp, id, Status::Unavailable);
                        continue;
                    }
                }
            }
            if self.peers.try_reserve(1).is_err() {
                tcp.abort(id);
                continue;
            }
            self.peers.push(Peer { id, since_ns: now_ns, stage: Stage::Asks(Vec::new()) });
        }
    }
}

/// Sends a reply for which there is room, and closes.
fn farewell(tcp: &mut Tcp<'_>, id: ConnectionId, status: Status) {
    if let (Some(mut connection), Stage::Takes { head, .. }) = (tcp.connection(id), Stage::refusal(status, "")) {
        connection.write_all(head.as_bytes());
    }
    tcp.close(id);
}

impl Peer {
    /// Does what can be done now.
    fn serve(&mut self, site: &mut impl Site, connection: &mut Connection<'_>, now_ns: u64) -> Fate {
        if connection.state() == ConnectionState::Ended {
            return Fate::Closes;
        }
        let spent_ns = now_ns.saturating_sub(self.since_ns);
        if let Stage::Asks(bytes) = &mut self.stage {
            // It is read only when there is more of it: looks are many, and others'.
            let reading = if take_in(connection, bytes) { request::read(bytes) } else { Reading::More };
            let next = match reading {
                Reading::More if spent_ns >= HEAD_NS => Some(Stage::refusal(Status::Timeout, "")),
                Reading::More if connection.state() != ConnectionState::Open => return Fate::Closes,
                Reading::More => None,
                Reading::Refused(status) => Some(Stage::refusal(status, "")),
                Reading::Whole(request) => {
                    Some(Stage::Waits { path: request.path.to_owned(), head_only: request.head_only })
                }
            };
            if let Some(stage) = next {
                (self.stage, self.since_ns) = (stage, now_ns);
            }
        }
        if let Stage::Waits { path, head_only } = &self.stage {
            let next = match site.page(path, self.since_ns) {
                Answer::Page(content_type, body) => Some(Stage::page(content_type, body, *head_only)),
                Answer::NotFound => Some(Stage::refusal(Status::NotFound, "/ is for people, /metrics for Prometheus")),
                Answer::Unavailable(why) => Some(Stage::refusal(Status::Unavailable, why)),
                Answer::Wait if now_ns.saturating_sub(self.since_ns) >= PAGE_NS => {
                    Some(Stage::refusal(Status::Unavailable, "the appliance is busy with a long command"))
                }
                Answer::Wait => None,
            };
            if let Some(stage) = next {
                (self.stage, self.since_ns) = (stage, now_ns);
            }
        }
        if let Stage::Takes { head, body, sent } = &mut self.stage {
            let parts = [head.as_bytes(), body.as_ref().map_or(&[], Body::bytes)];
            let mut before = 0;
            for part in parts {
                if *sent < before + part.len() {
                    *sent += connection.write_all(&part[*sent - before..]);
                }
                before += part.len();
            }
            if *sent == before {
                return Fate::Closes;
            }
            if now_ns.saturating_sub(self.since_ns) >= SEND_NS {
                return Fate::Aborts;
            }
        }
        Fate::Stays
    }

    /// When it is to be looked at, if nothing comes or goes.
    fn due_ns(&self, now_ns: u64) -> u64 {
        match &self.stage {
            Stage::Asks(_) => self.since_ns.saturating_add(HEAD_NS),
            Stage::Waits { .. } => now_ns.saturating_add(LOOK_NS),
            Stage::Takes { .. } => self.since_ns.saturating_add(SEND_NS),
        }
    }
}

/// Adds what has come of a head to `bytes`, as much as a head may have. Returns whether there was anything.
fn take_in(connection: &mut Connection<'_>, bytes: &mut Vec<u8>) -> bool {
    let before = bytes.len();
    // Around the buffer's end at most once.
    for _ in 0..2 {
        connection.read(|received| {
            let here = received.len().min(RECEIVE_BYTES - bytes.len());
            if bytes.try_reserve(here).is_err() {
                return 0;
            }
            bytes.extend_from_slice(&received[..here]);
            here
        });
    }
    bytes.len() > before
}

impl<S: Site> Service for Server<S> {
    /// A step is bounded: for each of the few connections what its socket has room for.
    fn serve(&mut self, tcp: &mut Tcp<'_>, now_ns: u64) -> u64 {
        self.listen(tcp);
        self.accept(tcp, now_ns);
        let (site, mut due_ns) = (&mut self.site, now_ns.saturating_add(IDLE_NS));
        self.peers.retain_mut(|peer| {
            let fate = match tcp.connection(peer.id) {
                Some(mut connection) => peer.serve(site, &mut connection, now_ns),
                None => Fate::Closes,
            };
            match fate {
                Fate::Stays => due_ns = due_ns.min(peer.due_ns(now_ns)),
                Fate::Closes => tcp.close(peer.id),
                Fate::Aborts => tcp.abort(peer.id),
            }
            fate == Fate::Stays
        });
        due_ns
    }
}
