//! Pages over an interface: clients as they are, and those that mean harm.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use net::http::server::{Answer, Body, CONNECTIONS_MAX, HEAD_NS, PAGE_NS, SEND_NS, Server, Site};
use net::mock::{Client, Echo, FakeNic, Host};
use net::network::Network;
use net::nic::Mac;
use net::setting::Setting;
use net::tcp::Limits;
use smoltcp::iface::SocketHandle;

const OURS: Mac = Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]);
const OUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };
const PORT: u16 = 9100;
const ECHO: u16 = 7;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// What the test and the site share.
#[derive(Default)]
struct State {
    port: AtomicU32,
    /// When `/slow` was made last.
    made_ns: AtomicU64,
    /// How often pages were asked for.
    looks: AtomicUsize,
}

/// `/a` is there, `/big` is large, `/slow` comes when it is made.
struct Pages {
    state: Arc<State>,
    big: Arc<String>,
}

impl Site for Pages {
    fn port(&self) -> Option<u16> {
        u16::try_from(self.state.port.load(Ordering::Relaxed)).ok().filter(|port| *port != 0)
    }

    fn page(&mut self, path: &str, asked_ns: u64) -> Answer {
        self.state.looks.fetch_add(1, Ordering::Relaxed);
        match path {
            "/a" => Answer::Page("text/plain", Body::Fixed("hello")),
            "/big" => Answer::Page("text/plain", Body::Made(Arc::clone(&self.big))),
            "/slow" if self.state.made_ns.load(Ordering::Relaxed) < asked_ns => Answer::Wait,
            "/slow" => Answer::Page("text/plain", Body::Fixed("at last")),
            "/large" => Answer::Unavailable("it is too large"),
            _ => Answer::NotFound,
        }
    }
}

struct Link {
    network: Network,
    client: Client,
    state: Arc<State>,
    now_ns: u64,
}

impl Link {
    fn new() -> Self {
        let nic = FakeNic::new(OURS);
        let setting = Setting::parse("10.0.2.15/24").expect("a setting");
        let mut network = Network::new("net0".into(), Box::new(nic.clone()), setting, 7, 0);
        let state = Arc::new(State { port: AtomicU32::new(PORT.into()), ..State::default() });
        let big = Arc::new("0123456789abcdef".repeat(10_000));
        network.serve_by(Box::new(Server::new(Pages { state: Arc::clone(&state), big })));
        // Others' ports live beside it.
        let limits = Limits { connections: 2, receive_bytes: 4096, send_bytes: 4096 };
        network.serve_by(Box::new(Echo::new(ECHO, limits)));
        let mut link = Self { network, client: Client::new(PEER, nic), state, now_ns: 0 };
        link.run(SECOND);
        link
    }

    /// Lets so much time pass, in steps of 10 ms.
    fn run(&mut self, ns: u64) {
        self.client.run(&mut self.network, &mut self.now_ns, ns, 10 * MS);
    }

    /// Connects, and sends these bytes.
    fn open(&mut self, bytes: &[u8]) -> SocketHandle {
        let handle = self.client.connect(OUR_ADDRESS, PORT);
        self.run(50 * MS);
        self.client.send(handle, bytes);
        handle
    }

    /// What comes in so much time.
    fn take(&mut self, handle: SocketHandle, ns: u64) -> String {
        let mut bytes = Vec::new();
        for _ in 0..ns.div_ceil(10 * MS) {
            self.run(10 * MS);
            self.client.receive(handle, &mut bytes);
        }
        String::from_utf8(bytes).expect("text")
    }

    /// Sends a request and returns the whole reply; the connection is closed then.
    fn ask(&mut self, request: &str) -> String {
        let handle = self.open(request.as_bytes());
        let reply = self.take(handle, 300 * MS);
        assert!(!self.client.is_open(handle), "{request}: {reply}");
        self.client.socket(handle).close();
        self.run(50 * MS);
        self.client.forget(handle);
        reply
    }

    fn serves(&mut self) {
        let reply = self.ask("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nhello"), "{reply}");
    }
}

/// The status of a reply, which is whole.
fn status(reply: &str) -> &str {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {reply}"));
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{head}"));
    assert_eq!(field("Content-Length: "), body.len().to_string(), "{reply}");
    assert_eq!(field("Connection: "), "close");
    assert!(field("Content-Security-Policy: ").starts_with("default-src 'none';"));
    &head[9..12]
}

#[test]
fn pages_are_had_by_get_and_their_heads_by_head_and_nothing_else_is() {
    let mut link = Link::new();
    link.serves();
    let head = link.ask("HEAD /a HTTP/1.0\r\n\r\n");
    assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for (request, wanted) in [
        ("GET /a?b HTTP/1.0\r\n\r\n", "200"),
        ("nothing\r\n\r\n", "400"),
        ("GET /b HTTP/1.0\r\n\r\n", "404"),
        ("POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("GET /large HTTP/1.0\r\n\r\n", "503"),
        ("GET /a HTTP/3.0\r\n\r\n", "505"),
    ] {
        let reply = link.ask(request);
        assert_eq!(status(&reply), wanted, "{request}: {reply}");
        assert_eq!(reply.contains("Allow: GET, HEAD\r\n"), wanted == "405");
        assert_eq!(reply.contains("Retry-After: "), wanted == "503");
    }
    let long = link.ask(&format!("GET /a HTTP/1.0\r\nx: {}", "y".repeat(5000)));
    assert_eq!(status(&long), "431");
    let target = link.ask(&format!("GET /{} HTTP/1.0\r\n\r\n", "y".repeat(1000)));
    assert_eq!(status(&target), "414");
}

#[test]
fn of_pipelined_requests_the_first_is_served() {
    let mut link = Link::new();
    let reply = link.ask(&"GET /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50));
    assert_eq!((status(&reply), reply.matches("hello").count()), ("200", 1));
    link.serves();
}

#[test]
fn a_large_page_arrives_whole_and_one_that_is_not_taken_ends() {
    let mut link = Link::new();
    let handle = link.open(b"GET /big HTTP/1.0\r\n\r\n");
    let reply = link.take(handle, 3 * SECOND);
    assert_eq!((status(&reply), reply.len() > 160_000), ("200", true));
    // Clients that never read have their places for a bounded time.
    let handles: Vec<_> = (0..CONNECTIONS_MAX).map(|_| link.open(b"GET /big HTTP/1.0\r\n\r\n")).collect();
    link.run(SECOND);
    assert_eq!(status(&link.ask("GET /a HTTP/1.0\r\n\r\n")), "503", "all places are taken");
    link.run(SEND_NS);
    assert!(handles.iter().all(|handle| link.client.is_closed(*handle)), "they are reset");
    link.serves();
}

#[test]
fn a_request_that_comes_too_slowly_ends_and_gives_way_before_that() {
    let mut link = Link::new();
    let slow = link.open(b"GET /a HTTP/1.1\r\n");
    for _ in 0..HEAD_NS / SECOND - 1 {
        link.run(SECOND);
        link.client.send(slow, b"x: y\r\n");
    }
    assert!(link.client.is_open(slow));
    let reply = link.take(slow, 2 * SECOND);
    assert_eq!(status(&reply), "408");
    // More of them than there are places: the oldest gives way to each that comes.
    let slow: Vec<_> = (0..CONNECTIONS_MAX).map(|_| link.open(b"GET")).collect();
    link.run(600 * MS);
    link.serves();
    let first = link.take(slow[0], 10 * MS);
    assert_eq!(status(&first), "408");
    assert!(link.client.is_open(slow[CONNECTIONS_MAX - 1]));
}

#[test]
fn a_page_that_is_being_made_is_waited_for_within_its_time() {
    let mut link = Link::new();
    let handle = link.open(b"GET /slow HTTP/1.0\r\n\r\n");
    assert_eq!(link.take(handle, SECOND), "", "it waits");
    link.state.made_ns.store(link.now_ns, Ordering::Relaxed);
    assert!(link.take(handle, 100 * MS).ends_with("at last"));
    let handle = link.open(b"GET /slow HTTP/1.0\r\n\r\n");
    assert_eq!(link.take(handle, PAGE_NS - SECOND), "");
    let reply = link.take(handle, 2 * SECOND);
    assert_eq!(status(&reply), "503");
}

#[test]
fn a_flood_of_connections_is_served_as_far_as_there_are_places_and_others_ports_are_not_touched() {
    let mut link = Link::new();
    let echo = link.client.connect(OUR_ADDRESS, ECHO);
    for round in 0..40 {
        let handles: Vec<_> = (0..30).map(|_| link.client.connect(OUR_ADDRESS, PORT)).collect();
        link.run(30 * MS);
        for handle in &handles {
            link.client.send(*handle, b"GET /a HTTP/1.0\r\n\r\n");
        }
        link.client.send(echo, b"x");
        link.run(30 * MS);
        let mut back = Vec::new();
        link.client.receive(echo, &mut back);
        assert_eq!(back, b"x", "round {round}");
        // They vanish, without a word.
        handles.into_iter().for_each(|handle| link.client.forget(handle));
    }
    link.run(40 * SECOND);
    link.serves();
}

#[test]
fn clients_that_come_again_and_again_find_a_place_each_time() {
    let mut link = Link::new();
    // Each closes as it should, and leaves a socket of ours that waits for late segments.
    (0..100).for_each(|_| link.serves());
}

#[test]
fn the_port_is_another_one_when_it_is_wanted_and_none() {
    let mut link = Link::new();
    let half = link.open(b"GET /a HTTP/1.0\r\n");
    link.state.port.store(9101, Ordering::Relaxed);
    link.run(SECOND);
    assert!(link.client.is_closed(half), "it is reset");
    let connects = |link: &mut Link, port: u16| {
        let handle = link.client.connect(OUR_ADDRESS, port);
        link.run(100 * MS);
        link.client.is_open(handle)
    };
    assert!(!connects(&mut link, PORT) && connects(&mut link, 9101));
    link.state.port.store(0, Ordering::Relaxed);
    link.run(SECOND);
    assert!(!connects(&mut link, 9101));
    link.state.port.store(PORT.into(), Ordering::Relaxed);
    link.run(SECOND);
    link.serves();
}
