//! Requests for pages: the reader of their heads on any bytes, and the server behind an interface with clients that send them in
//! pieces.
//!
//! The input is pieces: which client sends it, the tenths of a second before it, its length, and its bytes.

use std::net::Ipv4Addr;
use std::sync::Arc;

use net::http::request::{HEAD_BYTES_MAX, Reading, TARGET_BYTES_MAX, read};
use net::http::server::{Answer, Body, Server, Site};
use net::mock::{Client, FakeNic, Host, SocketHandle};
use net::network::Network;
use net::nic::Mac;
use net::setting::Setting;

const OURS: Mac = Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };
const PORT: u16 = 9100;

/// As many clients send at a time.
const CLIENTS: usize = 3;

struct Pages;

impl Site for Pages {
    fn port(&self) -> Option<u16> {
        Some(PORT)
    }

    fn page(&mut self, path: &str, _: u64) -> Answer {
        assert!(path.starts_with('/') && path.len() <= TARGET_BYTES_MAX && !path.contains('?'));
        match path {
            "/wait" => Answer::Wait,
            "/big" => Answer::Page("text/plain", Body::Made(Arc::new("x".repeat(40_000)))),
            "/" => Answer::Page("text/plain", Body::Fixed("hello")),
            _ => Answer::NotFound,
        }
    }
}

/// A connection of a client's.
struct Open {
    handle: SocketHandle,
    came: Vec<u8>,
}

struct Link {
    network: Network,
    client: Client,
    now_ns: u64,
}

impl Link {
    fn open(&mut self) -> Open {
        Open { handle: self.client.connect(ADDRESS, PORT), came: Vec::new() }
    }

    fn run(&mut self, ns: u64) {
        self.client.run(&mut self.network, &mut self.now_ns, ns, u64::MAX / 2);
    }

    /// Takes what comes to what came before; it is a reply, or the beginning of one.
    fn take(&mut self, Open { handle, came }: &mut Open) {
        const BEGINNING: &[u8] = b"HTTP/1.1 ";
        self.client.receive(*handle, came);
        let known = came.len().min(BEGINNING.len());
        assert_eq!(came[..known], BEGINNING[..known]);
    }
}

/// What is refused stays so, and a whole request stays the same, whatever comes behind it.
fn heads(bytes: &[u8]) {
    let whole = read(bytes);
    for part in 1..8 {
        match read(&bytes[..bytes.len() * part / 8]) {
            Reading::More => {}
            other => assert_eq!(other, whole),
        }
    }
    if let Reading::Whole(request) = whole {
        assert!(request.path.starts_with('/') && request.path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    assert!(bytes.len() < HEAD_BYTES_MAX + 2 || whole != Reading::More, "it has an end");
}

pub(super) fn run(input: &[u8]) {
    heads(input);
    let nic = FakeNic::new(OURS);
    let setting = Setting::parse("10.0.2.15/24").expect("a setting");
    let mut network = Network::new("net0".into(), Box::new(nic.clone()), setting, 7, 0);
    network.serve_by(Box::new(Server::new(Pages)));
    let mut link = Link { network, client: Client::new(PEER, nic), now_ns: 0 };
    link.run(1_000_000_000);
    let mut all: [Option<Open>; CLIENTS] = [const { None }; CLIENTS];
    let mut rest = input;
    while let [client, tenths, bytes, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*bytes).min(tail.len()));
        rest = tail;
        heads(piece);
        let place = &mut all[usize::from(*client) % CLIENTS];
        let open = place.get_or_insert_with(|| link.open());
        link.run(u64::from(*tenths) * 100_000_000);
        link.client.send(open.handle, piece);
        link.run(0);
        if client & 0x80 != 0 {
            link.take(open);
        }
        if client & 0x40 != 0 {
            link.client.socket(open.handle).close();
            *place = None;
        }
    }
    // Whatever came, and although nobody closes: a good client is served a while later.
    (0..8).for_each(|_| link.run(6_000_000_000));
    let mut good = link.open();
    link.run(10_000_000);
    link.client.send(good.handle, b"GET / HTTP/1.1\r\nHost: appliance\r\n\r\n");
    link.run(10_000_000);
    link.take(&mut good);
    let reply = good.came;
    assert!(
        reply.starts_with(b"HTTP/1.1 200 OK\r\n") && reply.ends_with(b"hello"),
        "{}",
        String::from_utf8_lossy(&reply)
    );
}
