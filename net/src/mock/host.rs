//! Another machine on the link, frame by frame.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet,
    Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscRepr,
    RawHardwareAddress, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
};

use crate::network::link_local_of;
use crate::nic::{HEADER_BYTES, Mac};

/// The number that its pings carry.
const IDENT: u16 = 0x7e57;

/// A machine with one IPv4 address.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Its device's address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Host {
    /// Returns the frame by which it asks whose an address is.
    #[must_use]
    pub fn asks_for(&self, address: Ipv4Addr) -> Vec<u8> {
        self.arp(ArpOperation::Request, self.address, address, None)
    }

    /// Returns the frame by which it tells all that an address is its own.
    #[must_use]
    pub fn claims(&self, address: Ipv4Addr) -> Vec<u8> {
        self.arp(ArpOperation::Request, address, address, None)
    }

    /// Returns its reply to a frame that asks for its address.
    #[must_use]
    pub fn reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let asked = arp_of(frame).filter(|asked| asked.is_request && asked.target == self.address)?;
        Some(self.arp(ArpOperation::Reply, self.address, asked.address, Some(asked.by)))
    }

    fn arp(&self, operation: ArpOperation, own: Ipv4Addr, target: Ipv4Addr, to: Option<Mac>) -> Vec<u8> {
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(self.mac.0),
            source_protocol_addr: own,
            target_hardware_addr: EthernetAddress(to.map_or([0; 6], |to| to.0)),
            target_protocol_addr: target,
        };
        let to = EthernetAddress(to.map_or([0xff; 6], |to| to.0));
        self.frame(to, EthernetProtocol::Arp, repr.buffer_len(), |packet| {
            repr.emit(&mut ArpPacket::new_unchecked(packet));
        })
    }

    /// Returns a ping with these data.
    #[must_use]
    pub fn pings(&self, mac: Mac, address: Ipv4Addr, number: u16, data: &[u8]) -> Vec<u8> {
        let message = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: number, data };
        self.packet(mac, address, IpProtocol::Icmp, message.buffer_len(), |payload| {
            message.emit(&mut Icmpv4Packet::new_unchecked(payload), &ChecksumCapabilities::default());
        })
    }

    /// Returns the first segment of a connection to a port, from that port of its own.
    #[must_use]
    pub fn connects(&self, mac: Mac, address: Ipv4Addr, from: u16, to: u16) -> Vec<u8> {
        let segment = TcpRepr {
            src_port: from,
            dst_port: to,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(1000),
            ack_number: None,
            window_len: 1000,
            window_scale: None,
            max_seg_size: Some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (own, target) = (self.address.into(), address.into());
        self.packet(mac, address, IpProtocol::Tcp, segment.buffer_len(), |payload| {
            segment.emit(&mut TcpPacket::new_unchecked(payload), &own, &target, &ChecksumCapabilities::default());
        })
    }

    /// A packet of IPv4.
    fn packet(
        &self,
        mac: Mac,
        dst_addr: Ipv4Addr,
        next_header: IpProtocol,
        payload_len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Vec<u8> {
        let header = Ipv4Repr { src_addr: self.address, dst_addr, next_header, payload_len, hop_limit: 64 };
        let bytes = header.buffer_len() + payload_len;
        self.frame(EthernetAddress(mac.0), EthernetProtocol::Ipv4, bytes, |packet| {
            let mut packet = Ipv4Packet::new_unchecked(packet);
            header.emit(&mut packet, &ChecksumCapabilities::default());
            fill(packet.payload_mut());
        })
    }

    /// Returns the frame by which it asks all machines that may have an IPv6 address whose it is.
    #[must_use]
    pub fn asks_for_v6(&self, address: Ipv6Addr) -> Vec<u8> {
        let lladdr = Some(RawHardwareAddress::from(EthernetAddress(self.mac.0)));
        let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: address, lladdr });
        // The solicited-node address, and its Ethernet address.
        let [.., a, b, c] = address.octets();
        let dst_addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, u16::from(a) | 0xff00, u16::from_be_bytes([b, c]));
        let (src_addr, payload_len) = (link_local_of(self.mac), message.buffer_len());
        let header = Ipv6Repr { src_addr, dst_addr, next_header: IpProtocol::Icmpv6, payload_len, hop_limit: 255 };
        let to = EthernetAddress([0x33, 0x33, 0xff, a, b, c]);
        self.frame(to, EthernetProtocol::Ipv6, header.buffer_len() + payload_len, |packet| {
            let mut packet = Ipv6Packet::new_unchecked(packet);
            header.emit(&mut packet);
            let mut packet = Icmpv6Packet::new_unchecked(packet.payload_mut());
            message.emit(&src_addr, &dst_addr, &mut packet, &ChecksumCapabilities::default());
        })
    }

    fn frame(
        &self,
        dst_addr: EthernetAddress,
        ethertype: EthernetProtocol,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Vec<u8> {
        let mut frame = vec![0; HEADER_BYTES + bytes];
        let header = EthernetRepr { src_addr: EthernetAddress(self.mac.0), dst_addr, ethertype };
        header.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
        fill(&mut frame[HEADER_BYTES..]);
        frame
    }
}

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it asks, or replies.
    pub is_request: bool,
    /// The machine that sent it.
    pub by: Mac,
    /// The address that this machine has as its own.
    pub address: Ipv4Addr,
    /// The address that it asks for, or that it replies to.
    pub target: Ipv4Addr,
}

/// Returns what a frame says, if it is ARP's.
#[must_use]
pub fn arp_of(frame: &[u8]) -> Option<Arp> {
    let frame = EthernetFrame::new_checked(frame).ok().filter(|frame| frame.ethertype() == EthernetProtocol::Arp)?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr: address,
        target_protocol_addr: target,
        ..
    } = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()?
    else {
        return None;
    };
    Some(Arp { is_request: operation == ArpOperation::Request, by: Mac(source_hardware_addr.0), address, target })
}

/// Returns number and data of a ping's reply, if a frame is one.
#[must_use]
pub fn pong_of(frame: &[u8]) -> Option<(u16, Vec<u8>)> {
    let frame = EthernetFrame::new_checked(frame).ok().filter(|frame| frame.ethertype() == EthernetProtocol::Ipv4)?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok().filter(|packet| packet.verify_checksum())?;
    let message = Icmpv4Packet::new_checked(packet.payload()).ok()?;
    match Icmpv4Repr::parse(&message, &ChecksumCapabilities::default()).ok()? {
        Icmpv4Repr::EchoReply { ident: IDENT, seq_no, data } => Some((seq_no, data.to_vec())),
        _ => None,
    }
}

/// Returns the address that a frame advertises as its sender's, if it is a neighbour's advertisement of IPv6.
#[must_use]
pub fn advertised_by(frame: &[u8]) -> Option<Ipv6Addr> {
    let frame = EthernetFrame::new_checked(frame).ok().filter(|frame| frame.ethertype() == EthernetProtocol::Ipv6)?;
    let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    match Icmpv6Repr::parse(&from, &to, &message, &ChecksumCapabilities::default()).ok()? {
        // One that was asked for: the others go to all.
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) if !to.is_multicast() => Some(target_addr),
        _ => None,
    }
}

/// Mends the checksums of a frame, as far as it has packets of which they could be.
pub fn mend(frame: &mut [u8]) {
    let Ok(mut frame) = EthernetFrame::new_checked(frame) else { return };
    let kind = frame.ethertype();
    match kind {
        EthernetProtocol::Ipv4 => {
            let Ok(mut packet) = Ipv4Packet::new_checked(frame.payload_mut()) else { return };
            packet.fill_checksum();
            let (from, to, protocol) = (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header());
            let payload = packet.payload_mut();
            match protocol {
                IpProtocol::Icmp => {
                    if let Ok(mut message) = Icmpv4Packet::new_checked(payload) {
                        message.fill_checksum();
                    }
                }
                IpProtocol::Tcp => {
                    if let Ok(mut segment) = TcpPacket::new_checked(payload) {
                        segment.fill_checksum(&from, &to);
                    }
                }
                IpProtocol::Udp => {
                    if let Ok(mut datagram) = UdpPacket::new_checked(payload) {
                        datagram.fill_checksum(&from, &to);
                    }
                }
                _ => {}
            }
        }
        EthernetProtocol::Ipv6 => {
            let Ok(mut packet) = Ipv6Packet::new_checked(frame.payload_mut()) else { return };
            let (from, to, protocol) = (packet.src_addr(), packet.dst_addr(), packet.next_header());
            let payload = packet.payload_mut();
            match protocol {
                IpProtocol::Icmpv6 => {
                    if let Ok(mut message) = Icmpv6Packet::new_checked(payload) {
                        message.fill_checksum(&from, &to);
                    }
                }
                IpProtocol::Tcp => {
                    if let Ok(mut segment) = TcpPacket::new_checked(payload) {
                        segment.fill_checksum(&from.into(), &to.into());
                    }
                }
                _ => {}
            }
        }
        _ => {}
    }
}
