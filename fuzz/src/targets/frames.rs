//! Frames from a link: an interface with addresses, DHCP and a listening port, and all that a neighbour may send it.
//!
//! The input is a byte of choices, then frames, each after its length (16 bits) and the tenths of a second that pass before it.

use std::net::Ipv4Addr;

use net::mock::{Echo, FakeNic, Host, arp_of, mend};
use net::network::Network;
use net::nic::{MTU_DEFAULT, Mac, Nic as _};
use net::setting::Setting;
use net::tcp::Limits;

const OURS: Mac = Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PEER: Host = Host { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), address: Ipv4Addr::new(10, 0, 2, 2) };

/// The port that is listened on.
const PORT: u16 = 4420;

const LIMITS: Limits = Limits { connections: 3, receive_bytes: 256, send_bytes: 256 };

/// More steps than any number of frames takes here.
const STEPS_MAX: usize = 1000;

struct Link {
    network: Network,
    nic: FakeNic,
    now_ns: u64,
}

impl Link {
    fn new(setting: &str) -> Self {
        let nic = FakeNic::new(OURS);
        let setting = Setting::parse(setting).expect("a setting");
        let mut network = Network::new("net0".into(), Box::new(nic.clone()), setting, 7, 0);
        network.serve_by(Box::new(Echo::new(PORT, LIMITS)));
        let mut link = Self { network, nic, now_ns: 0 };
        link.run();
        link
    }

    /// Steps until it rests; what it sends.
    fn run(&mut self) -> Vec<Vec<u8>> {
        let mut steps = 0;
        while self.network.step(self.now_ns) {
            steps += 1;
            assert!(steps < STEPS_MAX, "it comes to rest");
            if !self.nic.clone().has_room() {
                break;
            }
        }
        let sent: Vec<_> = self.nic.ends().from_nic.drain(..).collect();
        assert!(sent.iter().all(|frame| frame.len() <= 14 + usize::from(MTU_DEFAULT)));
        sent
    }

    fn hand(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.nic.ends().to_nic.push_back(frame);
        self.run()
    }
}

pub(super) fn run(input: &[u8]) {
    let Some((choices, mut rest)) = input.split_first() else { return };
    let mut link = Link::new(if choices & 1 == 0 { "10.0.2.15/24,gateway=10.0.2.2" } else { "dhcp" });
    while let [low, high, tenths, tail @ ..] = rest {
        let bytes = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let mut frame = tail[..bytes].to_vec();
        if choices & 2 == 0 {
            mend(&mut frame);
        }
        link.now_ns += u64::from(*tenths) * 100_000_000;
        link.hand(frame);
        rest = &tail[bytes..];
    }
    // Whatever came, it answers its neighbours.
    if choices & 1 == 0 {
        link.now_ns += 1_000_000_000;
        link.run();
        let replies = link.hand(PEER.asks_for(ADDRESS));
        let answers = replies.iter().filter_map(|frame| arp_of(frame));
        assert!(answers.into_iter().any(|arp| !arp.is_request && arp.by == OURS && arp.address == ADDRESS));
    }
    let shown = link.network.show();
    assert!(shown.fault.is_none() && shown.addresses.len() <= 2);
    link.network.take_events().iter().for_each(|event| assert!(!event.to_string().is_empty()));
}
