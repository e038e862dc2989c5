//! An interface and the machines on its link: who asks for its address, who pings it, who has its address, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::event::Event;
use net::mock::{FakeNic, Host};
use net::network::Network;
use net::nic::{Mac, NicFault};
use net::setting::Setting;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame,
    EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress, TcpPacket, TcpSeqNumber,
    UdpPacket, UdpRepr,
};

const OURS: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x75, 0x6e, 0]);
const PEER: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe75, 0x6e00);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const SECOND: u64 = 1_000_000_000;

/// An interface, and the other end of its wire.
struct Link {
    network: Network,
    nic: FakeNic,
    now_ns: u64,
}

impl Link {
    fn new(setting: &str) -> Self {
        Self::on(FakeNic::new(Mac(OURS.0)), setting)
    }

    fn on(nic: FakeNic, setting: &str) -> Self {
        let setting = Setting::parse(setting).expect("a setting");
        let network = Network::new("net0".into(), Box::new(nic.clone()), setting, 7, 0);
        Self { network, nic, now_ns: 0 }
    }

    /// Steps as a CPU does that halts until the next step is due.
    fn run(&mut self) -> Vec<Vec<u8>> {
        let mut steps = 0;
        while self.network.step(self.now_ns) {
            steps += 1;
            assert!(steps < 1000, "it comes to rest");
        }
        self.nic.ends().from_nic.drain(..).collect()
    }

    fn after(&mut self, ns: u64) -> Vec<Vec<u8>> {
        self.now_ns += ns;
        self.run()
    }

    /// Hands it a frame; what it sends.
    fn hand(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.nic.ends().to_nic.push_back(frame);
        self.run()
    }

    fn addresses(&self) -> Vec<String> {
        self.network.show().addresses.iter().map(ToString::to_string).collect()
    }

    fn events(&mut self) -> Vec<String> {
        self.network.take_events().iter().map(ToString::to_string).collect()
    }

    /// Lets the frames about new addresses pass.
    fn settle(mut self) -> Self {
        for _ in 0..6 {
            self.after(SECOND);
        }
        self.network.take_events();
        self
    }
}

fn ethernet(to: EthernetAddress, ethertype: EthernetProtocol, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = vec![0; 14 + bytes];
    EthernetRepr { src_addr: PEER, dst_addr: to, ethertype }.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    fill(&mut frame[14..]);
    frame
}

fn arp(operation: ArpOperation, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: PEER,
        source_protocol_addr: own,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    ethernet(EthernetAddress::BROADCAST, EthernetProtocol::Arp, 28, |packet| {
        repr.emit(&mut ArpPacket::new_unchecked(packet));
    })
}

fn v4(
    to: EthernetAddress,
    dst_addr: Ipv4Addr,
    next_header: IpProtocol,
    bytes: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let src_addr = PEER_V4;
    let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len: bytes, hop_limit: 64 };
    ethernet(to, EthernetProtocol::Ipv4, 20 + bytes, |packet| {
        let mut packet = Ipv4Packet::new_unchecked(packet);
        repr.emit(&mut packet, &ChecksumCapabilities::default());
        fill(packet.payload_mut());
    })
}

fn v6(to: EthernetAddress, src_addr: Ipv6Addr, dst_addr: Ipv6Addr, message: &Icmpv6Repr<'_>) -> Vec<u8> {
    let payload_len = message.buffer_len();
    let repr = Ipv6Repr { src_addr, dst_addr, next_header: IpProtocol::Icmpv6, payload_len, hop_limit: 255 };
    ethernet(to, EthernetProtocol::Ipv6, 40 + payload_len, |packet| {
        let mut packet = Ipv6Packet::new_unchecked(packet);
        repr.emit(&mut packet);
        let mut packet = Icmpv6Packet::new_unchecked(packet.payload_mut());
        message.emit(&src_addr, &dst_addr, &mut packet, &ChecksumCapabilities::default());
    })
}

/// What an ARP frame says: its operation, whose address is whose, and for whom.
fn arp_of(frame: &[u8]) -> Option<(ArpOperation, EthernetAddress, Ipv4Addr, Ipv4Addr)> {
    let frame = EthernetFrame::new_checked(frame).expect("a frame");
    if frame.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    match ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).expect("a packet")) {
        Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) => Some((operation, source_hardware_addr, source_protocol_addr, target_protocol_addr)),
        other => panic!("{other:?}"),
    }
}

/// The IPv4 packet in a frame: its protocol and its payload.
fn v4_of(frame: &[u8]) -> Option<(IpProtocol, Vec<u8>)> {
    let frame = EthernetFrame::new_checked(frame).expect("a frame");
    (frame.ethertype() == EthernetProtocol::Ipv4).then(|| {
        let packet = Ipv4Packet::new_checked(frame.payload()).expect("a packet");
        assert!(packet.verify_checksum());
        (packet.next_header(), packet.payload().to_vec())
    })
}

/// The message of neighbour discovery, or echo, in a frame.
fn v6_of<T>(frame: &[u8], look: impl FnOnce(Ipv6Addr, Ipv6Addr, Icmpv6Repr<'_>) -> T) -> Option<T> {
    let frame = EthernetFrame::new_checked(frame).expect("a frame");
    if frame.ethertype() != EthernetProtocol::Ipv6 {
        return None;
    }
    let packet = Ipv6Packet::new_checked(frame.payload()).expect("a packet");
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    let message = Icmpv6Packet::new_checked(packet.payload()).expect("a message");
    let message = Icmpv6Repr::parse(&from, &to, &message, &ChecksumCapabilities::default()).expect("a message");
    Some(look(from, to, message))
}

/// A DHCP server's answer to a client's message.
fn dhcp(message: &[u8], kind: DhcpMessageType, address: Ipv4Addr, router: Ipv4Addr, lease_seconds: u32) -> Vec<u8> {
    let asked = DhcpPacket::new_checked(message).expect("a packet");
    let asked = DhcpRepr::parse(&asked).expect("a message");
    let repr = DhcpRepr {
        message_type: kind,
        your_ip: address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        server_identifier: Some(PEER_V4),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        router: Some(router),
        lease_duration: Some(lease_seconds),
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        parameter_request_list: None,
        max_size: None,
        dns_servers: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
        ..asked
    };
    let header = UdpRepr { src_port: 67, dst_port: 68 };
    let bytes = repr.buffer_len();
    v4(OURS, address, IpProtocol::Udp, 8 + bytes, |packet| {
        let fill = |payload: &mut [u8]| repr.emit(&mut DhcpPacket::new_unchecked(payload)).expect("it has room");
        let (from, to) = (PEER_V4.into(), address.into());
        header.emit(&mut UdpPacket::new_unchecked(packet), &from, &to, bytes, fill, &ChecksumCapabilities::default());
    })
}

/// The DHCP messages among frames: what they are, and their bytes.
fn dhcp_of(frames: &[Vec<u8>]) -> Vec<(DhcpMessageType, Vec<u8>)> {
    let udp = frames.iter().filter_map(|frame| v4_of(frame)).filter(|(protocol, _)| *protocol == IpProtocol::Udp);
    udp.map(|(_, payload)| {
        let packet = UdpPacket::new_checked(&payload[..]).expect("a packet");
        assert_eq!((packet.src_port(), packet.dst_port()), (68, 67));
        let message = packet.payload().to_vec();
        let kind =
            DhcpRepr::parse(&DhcpPacket::new_checked(&message[..]).expect("a packet")).expect("a message").message_type;
        (kind, message)
    })
    .collect()
}

/// Leases an address to it.
fn lease(link: &mut Link, address: Ipv4Addr, router: Ipv4Addr, lease_seconds: u32) {
    let mut frames = link.run();
    for (expected, answer) in
        [(DhcpMessageType::Discover, DhcpMessageType::Offer), (DhcpMessageType::Request, DhcpMessageType::Ack)]
    {
        let messages = dhcp_of(&frames);
        let [(kind, message)] = &messages[..] else { panic!("{} messages", messages.len()) };
        assert_eq!(*kind, expected);
        frames = link.hand(dhcp(message, answer, address, router, lease_seconds));
    }
}

#[test]
fn a_lease_gives_an_address_and_its_end_takes_it() {
    let mut link = Link::new("dhcp");
    assert_eq!(link.addresses(), [format!("{OUR_V6}/64")]);
    lease(&mut link, OUR_V4, PEER_V4, 100);
    assert_eq!(link.addresses(), [format!("{OUR_V4}/24"), format!("{OUR_V6}/64")]);
    assert_eq!(link.network.show().gateway_v4, Some(PEER_V4));
    assert_eq!(link.events(), ["link up", "address 10.0.2.15/24, gateway 10.0.2.2"]);
    // Its renewal is asked for before the end, and without an answer the address goes.
    let mut asked = 0;
    for _ in 0..99 {
        asked += dhcp_of(&link.after(SECOND)).len();
    }
    assert_eq!((asked > 0, link.events().len(), link.addresses().len()), (true, 0, 2));
    link.after(2 * SECOND);
    assert_eq!(link.events(), ["address 10.0.2.15/24 is gone: its lease has ended"]);
    assert_eq!((link.addresses(), link.network.show().gateway_v4), (vec![format!("{OUR_V6}/64")], None));
    // And is asked for again.
    lease(&mut link, Ipv4Addr::new(10, 0, 2, 77), PEER_V4, 100);
    assert_eq!(link.events(), ["address 10.0.2.77/24, gateway 10.0.2.2"]);
}

#[test]
fn what_another_setting_takes_away_had_no_lease() {
    for (first, address) in [("10.0.2.15/24", "10.0.2.15/24"), ("dhcp", "10.0.2.15/24"), ("fe80::1/64", "fe80::1/64")] {
        let mut link = Link::new(first);
        if first == "dhcp" {
            lease(&mut link, OUR_V4, PEER_V4, 100);
        }
        link.after(SECOND);
        link.events();
        link.network.set_setting(Setting::Off, link.now_ns);
        assert_eq!(link.events(), [format!("address {address} is taken away: its setting is another one")]);
    }
}

#[test]
fn a_server_that_is_silent_is_asked_again_and_one_that_gives_nonsense_gives_nothing() {
    let mut link = Link::new("dhcp");
    let asked: usize = (0..60).map(|_| dhcp_of(&link.after(SECOND)).len()).sum();
    assert!((20..=60).contains(&asked), "{asked} times a minute");
    link.network.take_events();
    for (address, router) in
        [(Ipv4Addr::LOCALHOST, PEER_V4), (Ipv4Addr::new(10, 0, 2, 0), PEER_V4), (Ipv4Addr::new(10, 0, 2, 255), PEER_V4)]
    {
        let mut link = Link::new("dhcp");
        link.network.take_events();
        lease(&mut link, address, router, 100);
        assert_eq!(link.events(), [format!("the DHCP server gave {address}/24, which no interface can have")]);
        assert_eq!(link.addresses(), [format!("{OUR_V6}/64")]);
    }
    for router in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let mut link = Link::new("dhcp");
        lease(&mut link, OUR_V4, router, u32::MAX);
        assert_eq!((link.addresses().len(), link.network.show().gateway_v4), (2, None));
    }
}

#[test]
fn fixed_addresses_are_there_at_once_and_are_probed_and_announced() {
    let mut link = Link::new("10.0.2.15/24,fd00::15/64,gateway=10.0.2.2,gateway=fe80::2");
    assert_eq!(link.addresses(), ["10.0.2.15/24", "fd00::15/64", &format!("{OUR_V6}/64")]);
    let expected = ["link up", "address 10.0.2.15/24, gateway 10.0.2.2", "address fd00::15/64, gateway fe80::2"];
    assert_eq!(link.events(), expected);
    let (mut arps, mut solicited, mut advertised) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..10 {
        for frame in link.run() {
            arps.extend(arp_of(&frame));
            v6_of(&frame, |from, to, message| match message {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }) => {
                    assert_eq!(
                        (from, to.segments()[..7].to_vec()),
                        (Ipv6Addr::UNSPECIFIED, vec![0xff02, 0, 0, 0, 0, 1, 0xff00 | to.segments()[6]])
                    );
                    solicited.push(target_addr);
                }
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, lladdr: Some(lladdr), .. }) => {
                    assert_eq!((from, lladdr), (target_addr, RawHardwareAddress::from(OURS)));
                    advertised.push(target_addr);
                }
                other => panic!("{other:?}"),
            });
        }
        link.now_ns += SECOND;
    }
    let request = |own| (ArpOperation::Request, OURS, own, OUR_V4);
    let (probe, announcement) = (request(Ipv4Addr::UNSPECIFIED), request(OUR_V4));
    assert_eq!(arps, [probe, probe, announcement, announcement]);
    let fixed = "fd00::15".parse::<Ipv6Addr>().expect("an address");
    assert_eq!((solicited, advertised), (vec![fixed, OUR_V6, fixed, OUR_V6], vec![fixed, OUR_V6, fixed, OUR_V6]));
}

#[test]
fn a_machine_that_is_off_says_nothing() {
    let mut link = Link::new("off");
    assert!(link.addresses().is_empty());
    assert!((0..10).all(|_| link.after(SECOND).is_empty()));
    assert!(link.hand(arp(ArpOperation::Request, PEER_V4, OUR_V4)).is_empty());
    assert_eq!(link.events(), ["link up"]);
}

#[test]
fn who_asks_for_an_address_or_pings_it_gets_an_answer() {
    for mtu in [1500, 9000] {
        let nic = FakeNic::new(Mac(OURS.0)).with_mtu(mtu);
        let mut link = Link::on(nic, "10.0.2.15/24").settle();
        let replies = link.hand(arp(ArpOperation::Request, PEER_V4, OUR_V4));
        assert_eq!(arp_of(&replies[0]), Some((ArpOperation::Reply, OURS, OUR_V4, PEER_V4)));
        assert!(link.hand(arp(ArpOperation::Request, PEER_V4, Ipv4Addr::new(10, 0, 2, 16))).is_empty());

        // As long as a packet can be.
        let data = vec![0x5a; usize::from(mtu) - 28];
        let ping = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: &data };
        let frame = v4(OURS, OUR_V4, IpProtocol::Icmp, ping.buffer_len(), |packet| {
            ping.emit(&mut Icmpv4Packet::new_unchecked(packet), &ChecksumCapabilities::default());
        });
        let replies = link.hand(frame);
        let (protocol, payload) = v4_of(&replies[0]).expect("IPv4");
        let reply = Icmpv4Repr::parse(
            &Icmpv4Packet::new_checked(&payload[..]).expect("a message"),
            &ChecksumCapabilities::default(),
        );
        assert_eq!(
            (protocol, reply),
            (IpProtocol::Icmp, Ok(Icmpv4Repr::EchoReply { ident: 7, seq_no: 1, data: &data }))
        );

        let ask = NdiscRepr::NeighborSolicit { target_addr: OUR_V6, lladdr: Some(PEER.into()) };
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff75, 0x6e00);
        let replies =
            link.hand(v6(EthernetAddress([0x33, 0x33, 0xff, 0x75, 0x6e, 0]), PEER_V6, to, &Icmpv6Repr::Ndisc(ask)));
        let advertised = v6_of(&replies[0], |_, _, message| {
            matches!(message, Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr: OUR_V6, .. }))
        });
        assert_eq!(advertised, Some(true));
        let ping = Icmpv6Repr::EchoRequest { ident: 9, seq_no: 2, data: b"hello" };
        let replies = link.hand(v6(OURS, PEER_V6, OUR_V6, &ping));
        let echoed = v6_of(&replies[0], |_, _, message| {
            message == Icmpv6Repr::EchoReply { ident: 9, seq_no: 2, data: b"hello" }
        });
        assert_eq!(echoed, Some(true));
        assert!(link.events().is_empty());
    }
}

#[test]
fn a_port_that_nothing_listens_on_is_reset_at_once() {
    let mut link = Link::new("10.0.2.15/24").settle();
    link.hand(arp(ArpOperation::Request, PEER_V4, OUR_V4));
    let peer = Host { mac: Mac(PEER.0), address: PEER_V4 };
    let frame = peer.connects(Mac(OURS.0), OUR_V4, 40_000, 4420);
    let replies = link.hand(frame);
    let (protocol, payload) = v4_of(&replies[0]).expect("IPv4");
    let reply = TcpPacket::new_checked(&payload[..]).expect("a packet");
    assert_eq!((protocol, reply.rst(), reply.dst_port()), (IpProtocol::Tcp, true, 40_000));
    assert_eq!(reply.ack_number(), TcpSeqNumber(1001));
}

#[test]
fn another_machine_with_the_same_address_is_told_of_and_the_address_is_kept() {
    let mut link = Link::new("10.0.2.15/24").settle();
    let told = |address: &str| {
        format!("{address} is used by another machine, too (52:54:00:12:34:56): give one of them another address")
    };
    // A frame of our own that a switch sends back tells nothing.
    let mut own = arp(ArpOperation::Request, OUR_V4, OUR_V4);
    own[22..28].copy_from_slice(&OURS.0);
    link.hand(own);
    assert!(link.events().is_empty() && link.network.show().duplicates.is_empty());
    // One that is about to use it is told that it is ours.
    let replies = link.hand(arp(ArpOperation::Request, Ipv4Addr::UNSPECIFIED, OUR_V4));
    let Some((ArpOperation::Reply, OURS, OUR_V4, _)) = arp_of(&replies[0]) else { panic!("a reply") };
    assert!(link.events().is_empty() && link.network.show().duplicates.is_empty());
    // One that uses it, by any frame that has it as its own, is told of once a minute.
    for frame in [
        arp(ArpOperation::Reply, OUR_V4, PEER_V4),
        arp(ArpOperation::Request, OUR_V4, PEER_V4),
        arp(ArpOperation::Request, OUR_V4, OUR_V4),
    ] {
        link.hand(frame);
    }
    assert_eq!(link.events(), [told("10.0.2.15")]);
    assert_eq!(link.network.show().duplicates, [(IpAddr::V4(OUR_V4), Mac(PEER.0))]);
    link.after(59 * SECOND);
    link.hand(arp(ArpOperation::Reply, OUR_V4, PEER_V4));
    assert!(link.events().is_empty());
    link.after(SECOND);
    link.hand(arp(ArpOperation::Reply, OUR_V4, PEER_V4));
    assert_eq!(link.events(), [told("10.0.2.15")]);
    assert_eq!(link.addresses().len(), 2);

    // The same by neighbour discovery.
    let probe = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: OUR_V6, lladdr: None });
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff75, 0x6e00);
    let replies = link.hand(v6(EthernetAddress([0x33, 0x33, 0xff, 0x75, 0x6e, 0]), Ipv6Addr::UNSPECIFIED, all, &probe));
    let answered = v6_of(&replies[0], |from, to, message| {
        let advertised = matches!(message, Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr: OUR_V6, .. }));
        (from, to.is_multicast(), advertised)
    });
    assert_eq!(answered, Some((OUR_V6, true, true)));
    let flags = NdiscNeighborFlags::OVERRIDE;
    let claim = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr: OUR_V6, lladdr: Some(PEER.into()) });
    link.hand(v6(
        EthernetAddress([0x33, 0x33, 0, 0, 0, 1]),
        OUR_V6,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        &claim,
    ));
    assert_eq!(link.events(), [told(&OUR_V6.to_string())]);
    // What is for others is no such thing.
    link.hand(arp(ArpOperation::Reply, PEER_V4, OUR_V4));
    assert!(link.events().is_empty());
}

#[test]
fn a_link_that_goes_and_comes_keeps_the_address_and_a_lease_is_renewed_after_a_while() {
    let mut link = Link::new("dhcp");
    lease(&mut link, OUR_V4, PEER_V4, 86_400);
    link.events();
    for (away, anew) in [(2, false), (20, true)] {
        link.nic.ends().link = false;
        link.after(SECOND);
        assert!(!link.network.show().link);
        link.after(away * SECOND);
        link.nic.ends().link = true;
        let frames = link.after(SECOND);
        assert!(link.network.show().link);
        let gone = if anew { vec!["address 10.0.2.15/24 is gone: its lease has ended".into()] } else { Vec::new() };
        assert_eq!(link.events(), [vec!["link down".to_owned(), "link up".into()], gone].concat());
        assert_eq!(dhcp_of(&frames).len(), usize::from(anew), "away for {away} s");
    }
    let mut off = Link::on(
        {
            let nic = FakeNic::new(Mac(OURS.0));
            nic.ends().link = false;
            nic
        },
        "10.0.2.15/24",
    );
    assert_eq!(off.events(), ["link down", "address 10.0.2.15/24"]);
}

#[test]
fn a_flood_is_taken_in_by_bounded_steps_and_a_device_without_room_gets_no_more() {
    let mut link = Link::new("10.0.2.15/24").settle();
    let request = arp(ArpOperation::Request, PEER_V4, OUR_V4);
    link.nic.ends().to_nic.extend(std::iter::repeat_n(request, 1000));
    let (mut steps, mut before) = (0, 0);
    while link.network.step(link.now_ns) {
        steps += 1;
        let sent = link.nic.ends().from_nic.len();
        assert!(sent - before <= 32, "{} frames in a step", sent - before);
        before = sent;
        if !link.nic.ends().to_nic.is_empty() {
            assert!(!link.network.rest(link.now_ns), "it does not halt with work left");
        }
        if sent == 64 {
            // The device is full: frames wait, and time passes without work.
            assert!(!link.network.step(link.now_ns) || link.nic.ends().from_nic.len() == 64);
            link.nic.ends().from_nic.clear();
            before = 0;
        }
    }
    assert!((1000 / 32..1000).contains(&steps), "{steps} steps");
    assert!(link.nic.ends().to_nic.is_empty());
    let shown = link.network.show();
    assert_eq!((shown.rx.frames, shown.tx.frames >= 1000), (1000, true));
    assert!(link.network.rest(link.now_ns) && link.nic.ends().waits, "an idle one halts, and is woken");
}

#[test]
fn what_waits_for_room_costs_no_time_and_leaves_when_there_is_some() {
    let mut link = Link::new("dhcp");
    let room = link.nic.ends().room;
    link.nic.ends().from_nic.extend(std::iter::repeat_n(vec![0; 60], room));
    link.nic.ends().to_nic.push_back(arp(ArpOperation::Request, PEER_V4, OUR_V4));
    let mut steps = 0;
    for _ in 0..100 {
        link.now_ns = link.network.due_ns().min(link.now_ns + SECOND);
        // As a CPU does that halts until something is due.
        while !link.network.rest(link.now_ns) {
            link.network.step(link.now_ns);
            steps += 1;
            assert!(steps < 1000, "it keeps its CPU from halting");
        }
    }
    link.nic.ends().from_nic.clear();
    assert!(link.network.step(link.now_ns), "there is room, and it is not waited for any time");
    let frames = link.run();
    assert_eq!(dhcp_of(&frames).len(), 1);
    assert_eq!(dhcp_of(&frames)[0].0, DhcpMessageType::Discover);
}

#[test]
fn an_idle_interface_is_due_at_its_timers_only_and_one_that_cannot_wake_each_millisecond() {
    let link = Link::new("10.0.2.15/24").settle();
    assert!(link.network.due_ns() > link.now_ns && link.network.due_ns() <= link.now_ns + SECOND / 2);
    let mut link = Link::on(FakeNic::new(Mac(OURS.0)).without_interrupt(), "10.0.2.15/24").settle();
    link.run();
    assert_eq!(link.network.due_ns(), link.now_ns + 1_000_000);
}

#[test]
fn a_device_that_fails_is_told_of_once_and_left_alone() {
    let mut link = Link::new("10.0.2.15/24").settle();
    link.nic.ends().fault = Some(NicFault::NotItsBuffer);
    link.run();
    let expected = "device failed: it used a buffer that it was not given; it is not used any more";
    assert_eq!(link.events(), [expected]);
    for _ in 0..10 {
        assert!(link.hand(arp(ArpOperation::Request, PEER_V4, OUR_V4)).is_empty());
        link.after(SECOND);
    }
    let shown = link.network.show();
    assert_eq!((link.events().len(), shown.fault, shown.link), (0, Some(NicFault::NotItsBuffer), false));
    assert_eq!(link.network.due_ns(), u64::MAX, "it costs nothing");
}

#[test]
fn hostile_frames_do_no_harm() {
    // Cut short, longer than they say, and with each byte changed: frames of all kinds.
    let mut link = Link::new("10.0.2.15/24").settle();
    let mut dhcp_link = Link::new("dhcp");
    let frames = dhcp_link.run();
    let (_, message) = dhcp_of(&frames).remove(0);
    let ping = Icmpv6Repr::EchoRequest { ident: 9, seq_no: 2, data: b"hello" };
    let advert =
        NdiscRepr::NeighborAdvert { flags: NdiscNeighborFlags::all(), target_addr: OUR_V6, lladdr: Some(PEER.into()) };
    let seeds = [
        arp(ArpOperation::Request, PEER_V4, OUR_V4),
        v6(OURS, PEER_V6, OUR_V6, &ping),
        v6(OURS, PEER_V6, OUR_V6, &Icmpv6Repr::Ndisc(advert)),
        dhcp(&message, DhcpMessageType::Offer, OUR_V4, PEER_V4, 0),
        dhcp(&message, DhcpMessageType::Ack, OUR_V4, PEER_V4, u32::MAX),
    ];
    for seed in &seeds {
        for at in 0..seed.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, seed[at] ^ 0x10] {
                let mut frame = seed.clone();
                frame[at] = value;
                link.hand(frame.clone());
                dhcp_link.hand(frame);
            }
            link.hand(seed[..at].to_vec());
        }
        link.hand([&seed[..], &[0xff; 700]].concat());
    }
    let before = link.network.show().rx.frames;
    let replies = link.hand(arp(ArpOperation::Request, PEER_V4, OUR_V4));
    assert!(replies.iter().any(|frame| arp_of(frame) == Some((ArpOperation::Reply, OURS, OUR_V4, PEER_V4))));
    assert_eq!(link.network.show().rx.frames, before + 1);
}

/// What an event is for the log.
#[test]
fn events_say_what_to_do() {
    let event = Event::Duplicate { address: IpAddr::V4(OUR_V4), by: Mac([1; 6]) };
    assert!(event.to_string().contains("give one of them another address"));
}
