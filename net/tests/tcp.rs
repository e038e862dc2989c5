//! Connections to an interface: clients that are smoltcp's, on a link that may lose, and hostile ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use net::mock::{Client, Echo, FakeNic, Host};
use net::network::Network;
use net::nic::Mac;
use net::setting::Setting;
use net::tcp::{ConnectionId, ConnectionState, Limits, Service, Tcp};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, TcpPacket};

const OURS: Mac = Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]);
const OUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };
const PORT: u16 = 4420;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const SMALL: Limits = Limits { connections: 3, receive_bytes: 4096, send_bytes: 4096 };

/// An interface that serves, and a machine with clients.
struct Link {
    network: Network,
    client: Client,
    nic: FakeNic,
    now_ns: u64,
}

impl Link {
    fn new(service: impl Service + 'static) -> Self {
        let nic = FakeNic::new(OURS);
        let setting = Setting::parse("10.0.2.15/24").expect("a setting");
        let mut network = Network::new("net0".into(), Box::new(nic.clone()), setting, 7, 0);
        network.serve_by(Box::new(service));
        Self { network, client: Client::new(PEER, nic.clone()), nic, now_ns: 0 }
    }

    fn connect(&mut self) -> SocketHandle {
        self.client.connect(OUR_ADDRESS, PORT)
    }

    /// Lets so much time pass, in steps of 10 ms.
    fn run(&mut self, ns: u64) {
        self.client.run(&mut self.network, &mut self.now_ns, ns, 10 * MS);
    }

    /// Sends all of `data` by a connection in pieces, and returns as much as comes back.
    fn echo(&mut self, handle: SocketHandle, data: &[u8], piece: usize) -> Vec<u8> {
        let (mut sent, mut back) = (0, Vec::new());
        for _ in 0..20_000 {
            self.run(10 * MS);
            loop {
                let end = (sent + piece).min(data.len());
                let wrote = self.client.send(handle, &data[sent..end]);
                sent += wrote;
                if wrote < piece || piece == 1 {
                    break;
                }
            }
            self.client.receive(handle, &mut back);
            if back.len() >= data.len() {
                break;
            }
        }
        back
    }
}

fn data(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

#[test]
fn what_is_sent_comes_back_through_small_buffers_and_a_bad_link() {
    for (is_bad, bytes, piece) in [(false, 300_000, 8192), (false, 600, 1), (true, 100_000, 3000)] {
        let mut link = Link::new(Echo::new(PORT, SMALL));
        link.client.wire.is_bad = is_bad;
        let handle = link.connect();
        let data = data(bytes);
        assert!(link.echo(handle, &data, piece) == data, "{bytes} bytes in pieces of {piece}");
        link.client.socket(handle).close();
        link.run(30 * SECOND);
        assert!(link.client.is_closed(handle));
    }
}

#[test]
fn connections_beyond_the_bound_are_refused_and_places_come_free() {
    let mut link = Link::new(Echo::new(PORT, SMALL));
    let mut open = Vec::new();
    for _ in 0..3 {
        let handle = link.connect();
        link.run(100 * MS);
        assert!(link.client.is_open(handle));
        open.push(handle);
    }
    let refused = link.connect();
    link.run(100 * MS);
    assert!(link.client.is_closed(refused), "it is told at once");
    // The others go on, and one that ends makes room.
    for handle in &open {
        assert!(link.echo(*handle, b"hello", 5) == b"hello");
    }
    link.client.socket(open[1]).close();
    link.run(100 * MS);
    let another = link.connect();
    link.run(100 * MS);
    assert!(link.client.is_open(another));
    assert!(link.echo(another, b"again", 5) == b"again");
    // All of them may come at once, between two steps.
    let mut link = Link::new(Echo::new(PORT, Limits { connections: 8, ..SMALL }));
    link.run(SECOND);
    let handles: Vec<_> = (0..8).map(|_| link.connect()).collect();
    link.run(100 * MS);
    assert!(handles.iter().all(|handle| link.client.is_open(*handle)));
}

#[test]
fn ten_thousand_half_open_connections_keep_no_other_out_and_take_no_memory() {
    let mut link = Link::new(Echo::new(PORT, SMALL));
    link.run(100 * MS);
    let before = link.connect();
    link.run(100 * MS);
    for number in 0..10_000 {
        link.nic.ends().to_nic.push_back(PEER.connects(OURS, OUR_ADDRESS, number, PORT));
        if number % 10 == 0 {
            link.network.step(link.now_ns);
            link.nic.ends().from_nic.clear();
        }
        if number % 1000 == 0 {
            let handle = link.connect();
            link.run(2 * SECOND);
            assert!(link.client.is_open(handle), "after {number}");
            assert!(link.echo(handle, b"me, too", 7) == b"me, too");
            link.client.socket(handle).close();
            link.run(50 * MS);
        }
    }
    assert!(link.echo(before, b"still here", 10) == b"still here");
    // They are forgotten after a while, without a trace.
    link.run(5 * SECOND);
    let handles = [link.connect(), link.connect()];
    link.run(100 * MS);
    assert!(handles.iter().all(|handle| link.client.is_open(*handle)));
}

#[test]
fn a_first_segment_that_comes_again_is_of_the_same_connection() {
    let mut link = Link::new(Echo::new(PORT, Limits { connections: 1, ..SMALL }));
    link.run(10 * MS);
    link.nic.ends().to_nic.push_back(PEER.asks_for(OUR_ADDRESS));
    let mut numbers = Vec::new();
    for _ in 0..3 {
        link.nic.ends().to_nic.push_back(PEER.connects(OURS, OUR_ADDRESS, 7, PORT));
        link.now_ns += 100 * MS;
        while link.network.step(link.now_ns) {}
        for frame in link.nic.ends().from_nic.drain(..) {
            let frame = EthernetFrame::new_checked(&frame[..]).expect("a frame");
            if frame.ethertype() == EthernetProtocol::Ipv4 {
                let packet = Ipv4Packet::new_checked(frame.payload()).expect("a packet");
                let segment = TcpPacket::new_checked(packet.payload()).expect("a segment");
                assert!(segment.syn() && segment.ack(), "it is no reset");
                numbers.push(segment.seq_number());
            }
        }
    }
    assert!(!numbers.is_empty() && numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
}

#[test]
fn a_peer_that_vanishes_is_noticed_and_its_place_comes_free() {
    let mut link = Link::new(Echo::new(PORT, Limits { connections: 1, ..SMALL }));
    let vanished = link.connect();
    link.run(100 * MS);
    assert!(link.echo(vanished, b"hello", 5) == b"hello");
    link.client.forget(vanished);
    link.client.wire.is_cut = true;
    link.run(20 * SECOND);
    link.client.wire.is_cut = false;
    let refused = link.connect();
    link.run(100 * MS);
    assert!(link.client.is_closed(refused));
    link.client.wire.is_cut = true;
    link.run(35 * SECOND);
    link.client.wire.is_cut = false;
    let handle = link.connect();
    link.run(2 * SECOND);
    assert!(link.client.is_open(handle));
}

/// A service that is asked by a byte: `c` closes after a word, `a` aborts, `n` takes nothing more.
#[derive(Default)]
struct Whims(Vec<ConnectionId>);

impl Service for Whims {
    fn serve(&mut self, tcp: &mut Tcp<'_>, _: u64) -> u64 {
        tcp.listen(PORT, SMALL);
        self.0.extend(tcp.accept(PORT));
        for id in self.0.clone() {
            let Some(mut connection) = tcp.connection(id) else { continue };
            if let Some(peer) = connection.peer() {
                assert_eq!((peer.ip(), peer.port() > 40_000), (IpAddr::V4(PEER.address), true));
                assert_eq!(connection.local(), Some(SocketAddr::new(OUR_ADDRESS.into(), PORT)));
            }
            let mut whim = None;
            connection.read(|bytes| {
                whim = Some(bytes[0]);
                usize::from(bytes[0] != b'n')
            });
            match whim {
                Some(b'c') => {
                    assert_eq!(connection.write_all(b"bye"), 3);
                    tcp.close(id);
                }
                Some(b'a') => tcp.abort(id),
                _ => assert!(connection.state() != ConnectionState::Ended || connection.room() == 0),
            }
            if matches!(whim, Some(b'c' | b'a')) {
                assert!(tcp.connection(id).is_none(), "it is not the service's any more");
                tcp.close(id);
                tcp.abort(id);
            }
        }
        u64::MAX
    }
}

#[test]
fn a_service_closes_after_its_last_word_aborts_at_once_and_lets_bytes_wait() {
    let mut link = Link::new(Whims::default());
    let handle = link.connect();
    link.run(100 * MS);
    link.client.socket(handle).send_slice(b"c").expect("it is open");
    link.run(100 * MS);
    let mut word = [0; 8];
    assert_eq!(link.client.socket(handle).recv_slice(&mut word), Ok(3));
    assert_eq!((&word[..3], link.client.socket(handle).state()), (&b"bye"[..], State::CloseWait));
    link.client.socket(handle).close();
    link.run(100 * MS);
    assert!(link.client.is_closed(handle));

    let handle = link.connect();
    link.run(100 * MS);
    link.client.socket(handle).send_slice(b"a").expect("it is open");
    link.run(100 * MS);
    assert!(link.client.is_closed(handle), "a reset came");

    // What is not read stays: the peer can send no more than the buffer holds.
    let handle = link.connect();
    link.run(100 * MS);
    let mut sent = 0;
    for _ in 0..100 {
        sent += link.client.socket(handle).send_slice(&[b'n'; 8192]).expect("it is open");
        link.run(100 * MS);
    }
    assert!((4096..=4096 + 8192).contains(&sent), "{sent} bytes");
    // A peer that does not close its side does not keep the place.
    let lazy = link.connect();
    link.run(100 * MS);
    link.client.socket(lazy).send_slice(b"c").expect("it is open");
    link.run(11 * SECOND);
    assert!(link.client.is_closed(lazy), "it was reset after a while");
}
