//! Watches over an interface's own addresses: tells others of them, and notices a machine that uses one, too.
//!
//! An address is in use at once. It is probed and announced as RFC 5227 (ARP) and RFC 4862, 5.4 (neighbour discovery) have it,
//! and frames of others that have it as their own are told of. It is not given up then: a single forged frame would take
//! the service away otherwise.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet,
    Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use crate::nic::{HEADER_BYTES, Mac};

/// The time between two frames about an address.
const STEP_NS: u64 = 1_000_000_000;

/// How long the same news of an address is not told again.
const QUIET_NS: u64 = 60_000_000_000;

/// The frames about a new address, one each [`STEP_NS`].
const COURSE: [Notice; 4] = [Notice::Probe, Notice::Probe, Notice::Announce, Notice::Announce];

/// The hop limit that neighbour discovery must have, so that it is from a neighbour (RFC 4861, 7.1).
const NEAR: u8 = 255;

/// All nodes of a link (RFC 4291, 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// Is it anyone's?
    Probe,
    /// It is ours.
    Announce,
}

/// What a frame says of an own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Another machine uses it.
    Used { address: IpAddr, by: Mac },
    /// Another machine is about to use it, and has to be told that it is ours.
    Probed { address: IpAddr, by: Mac },
}

#[derive(Clone, Debug)]
struct Own {
    address: IpAddr,
    /// The frames of [`COURSE`] that were sent.
    sent: usize,
    next_ns: u64,
    used_by: Option<Mac>,
    /// When that was told last.
    told_ns: u64,
}

/// The watch over the addresses of one interface.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    mac: Mac,
    own: Vec<Own>,
}

impl Watch {
    pub(crate) const fn new(mac: Mac) -> Self {
        Self { mac, own: Vec::new() }
    }

    /// Watches over these addresses from now on. Of those that it knows already it goes on.
    pub(crate) fn set(&mut self, addresses: impl Iterator<Item = IpAddr>, now_ns: u64) {
        let before = core::mem::take(&mut self.own);
        self.own = addresses
            .map(|address| {
                let known = before.iter().find(|own| own.address == address).cloned();
                known.unwrap_or(Own { address, sent: 0, next_ns: now_ns, used_by: None, told_ns: 0 })
            })
            .collect();
    }

    /// Probes and announces all of them again: the link is another one.
    pub(crate) fn restart(&mut self, now_ns: u64) {
        for own in &mut self.own {
            (own.sent, own.next_ns, own.used_by) = (0, now_ns, None);
        }
    }

    /// Returns the addresses that another machine uses.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = (IpAddr, Mac)> {
        self.own.iter().filter_map(|own| Some((own.address, own.used_by?)))
    }

    /// Returns when the next frame is to be sent.
    pub(crate) fn due_ns(&self) -> u64 {
        let waiting = self.own.iter().filter(|own| own.sent < COURSE.len());
        waiting.map(|own| own.next_ns).min().unwrap_or(u64::MAX)
    }

    /// Returns a frame that is to be sent now.
    pub(crate) fn next_frame(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        let own = self.own.iter_mut().find(|own| own.sent < COURSE.len() && own.next_ns <= now_ns)?;
        let notice = COURSE[own.sent];
        own.sent += 1;
        own.next_ns = now_ns.saturating_add(STEP_NS);
        let ours = EthernetAddress(self.mac.0);
        Some(match (own.address, notice) {
            (IpAddr::V4(address), Notice::Probe) => arp(ours, Ipv4Addr::UNSPECIFIED, address, None),
            (IpAddr::V4(address), Notice::Announce) => arp(ours, address, address, None),
            (IpAddr::V6(address), Notice::Probe) => solicitation(ours, address),
            (IpAddr::V6(address), Notice::Announce) => advertisement(ours, address),
        })
    }

    /// Returns the frame by which another machine is told that an address is ours.
    pub(crate) fn answer(&self, address: IpAddr, to: Mac) -> Vec<u8> {
        let ours = EthernetAddress(self.mac.0);
        match address {
            IpAddr::V4(address) => arp(ours, address, Ipv4Addr::UNSPECIFIED, Some(EthernetAddress(to.0))),
            IpAddr::V6(address) => advertisement(ours, address),
        }
    }

    /// Returns what a received frame says of an own address.
    pub(crate) fn look(&self, frame: &[u8]) -> Option<Sign> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let (claimed, wanted, by) = match frame.ethertype() {
            EthernetProtocol::Arp => claim_of_arp(frame.payload())?,
            EthernetProtocol::Ipv6 => claim_of_discovery(frame.src_addr(), frame.payload())?,
            _ => return None,
        };
        let by = Mac(by.0);
        let is_own = |address: &IpAddr| by != self.mac && self.own.iter().any(|own| own.address == *address);
        let used = claimed.filter(is_own).map(|address| Sign::Used { address, by });
        used.or_else(|| wanted.filter(is_own).map(|address| Sign::Probed { address, by }))
    }

    /// Notes that another machine uses an address. Returns whether that is to be told.
    pub(crate) fn note(&mut self, address: IpAddr, by: Mac, now_ns: u64) -> bool {
        let Some(own) = self.own.iter_mut().find(|own| own.address == address) else { return false };
        let is_new = own.used_by.is_none() || now_ns >= own.told_ns.saturating_add(QUIET_NS);
        own.used_by = Some(by);
        if is_new {
            own.told_ns = now_ns;
        }
        is_new
    }
}

/// The address that a frame has as its sender's own, the one that it asks for before its sender uses it, and its sender.
type Claim = (Option<IpAddr>, Option<IpAddr>, EthernetAddress);

fn claim_of_arp(packet: &[u8]) -> Option<Claim> {
    let packet = ArpPacket::new_checked(packet).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation, source_hardware_addr: by, source_protocol_addr, target_protocol_addr, ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if source_protocol_addr.is_unspecified() {
        let wanted = (operation == ArpOperation::Request).then_some(IpAddr::V4(target_protocol_addr));
        return Some((None, wanted, by));
    }
    Some((Some(IpAddr::V4(source_protocol_addr)), None, by))
}

fn claim_of_discovery(by: EthernetAddress, packet: &[u8]) -> Option<Claim> {
    let packet = Ipv6Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != NEAR {
        return None;
    }
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    match Icmpv6Repr::parse(&from, &to, &message, &ChecksumCapabilities::default()).ok()? {
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) => {
            Some((Some(IpAddr::V6(target_addr)), None, by))
        }
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }) if from.is_unspecified() => {
            Some((None, Some(IpAddr::V6(target_addr)), by))
        }
        _ => Some((Some(IpAddr::V6(from)), None, by)),
    }
}

/// An ARP request to all, or a reply.
fn arp(from: EthernetAddress, own: Ipv4Addr, target: Ipv4Addr, reply_to: Option<EthernetAddress>) -> Vec<u8> {
    let operation = if reply_to.is_some() { ArpOperation::Reply } else { ArpOperation::Request };
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: from,
        source_protocol_addr: own,
        target_hardware_addr: reply_to.unwrap_or(EthernetAddress([0; 6])),
        target_protocol_addr: target,
    };
    let to = reply_to.unwrap_or(EthernetAddress::BROADCAST);
    frame(from, to, EthernetProtocol::Arp, repr.buffer_len(), |packet| {
        repr.emit(&mut ArpPacket::new_unchecked(packet));
    })
}

/// A neighbour solicitation before the address is used: from none.
fn solicitation(from: EthernetAddress, address: Ipv6Addr) -> Vec<u8> {
    // The solicited-node address, and its Ethernet address (RFC 4291, 2.7.1; RFC 2464, 7).
    let [.., a, b, c] = address.octets();
    let low = [u16::from(a) | 0xff00, u16::from_be_bytes([b, c])];
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low[0], low[1]);
    let repr = NdiscRepr::NeighborSolicit { target_addr: address, lladdr: None };
    discovery(from, EthernetAddress([0x33, 0x33, 0xff, a, b, c]), Ipv6Addr::UNSPECIFIED, to, repr)
}

/// A neighbour advertisement to all, unasked.
fn advertisement(from: EthernetAddress, address: Ipv6Addr) -> Vec<u8> {
    let lladdr = Some(RawHardwareAddress::from(from));
    let repr = NdiscRepr::NeighborAdvert { flags: NdiscNeighborFlags::OVERRIDE, target_addr: address, lladdr };
    discovery(from, EthernetAddress([0x33, 0x33, 0, 0, 0, 1]), address, ALL_NODES, repr)
}

fn discovery(
    from: EthernetAddress,
    to: EthernetAddress,
    src_addr: Ipv6Addr,
    dst_addr: Ipv6Addr,
    repr: NdiscRepr<'_>,
) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(repr);
    let payload_len = message.buffer_len();
    let header = Ipv6Repr { src_addr, dst_addr, next_header: IpProtocol::Icmpv6, payload_len, hop_limit: NEAR };
    frame(from, to, EthernetProtocol::Ipv6, header.buffer_len() + payload_len, |packet| {
        let mut packet = Ipv6Packet::new_unchecked(packet);
        header.emit(&mut packet);
        let mut packet = Icmpv6Packet::new_unchecked(packet.payload_mut());
        message.emit(&src_addr, &dst_addr, &mut packet, &ChecksumCapabilities::default());
    })
}

fn frame(
    src_addr: EthernetAddress,
    dst_addr: EthernetAddress,
    ethertype: EthernetProtocol,
    bytes: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES + bytes];
    EthernetRepr { src_addr, dst_addr, ethertype }.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    fill(&mut frame[HEADER_BYTES..]);
    frame
}
