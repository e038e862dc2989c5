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

struct Link {
    network: Network,
    client: Client,
    now_ns: u64,
}

impl Link {
    fn run(&mut self, ns: u64) {
        self.client.run(&mut self.network, &mut self.now_ns, ns, u64::MAX / 2);
    }

    /// What comes; it is a reply, or the beginning of one.
    fn take(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.client.receive(handle, &mut bytes);
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 ") || bytes.iter().all(u8::is_ascii));
        bytes
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
    let mut handles: [Option<SocketHandle>; CLIENTS] = [None; CLIENTS];
    let mut rest = input;
    while let [client, tenths, bytes, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*bytes).min(tail.len()));
        rest = tail;
        heads(piece);
        let handle = &mut handles[usize::from(*client) % CLIENTS];
        let open = *handle.get_or_insert_with(|| link.client.connect(ADDRESS, PORT));
        link.run(u64::from(*tenths) * 100_000_000);
        link.client.send(open, piece);
        link.run(0);
        if client & 0x80 != 0 {
            link.take(open);
        }
        if client & 0x40 != 0 {
            link.client.socket(open).close();
            *handle = None;
        }
    }
    // Whatever came, and although nobody closes: a good client is served a while later.
    (0..8).for_each(|_| link.run(6_000_000_000));
    let good = link.client.connect(ADDRESS, PORT);
    link.run(10_000_000);
    link.client.send(good, b"GET / HTTP/1.1\r\nHost: appliance\r\n\r\n");
    link.run(10_000_000);
    let reply = link.take(good);
    assert!(
        reply.starts_with(b"HTTP/1.1 200 OK\r\n") && reply.ends_with(b"hello"),
        "{}",
        String::from_utf8_lossy(&reply)
    );
}
