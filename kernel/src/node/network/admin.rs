//! The admin command about the network.

use alloc::string::ToString;
use alloc::vec::Vec;

use net::Count;
use net::network::Shown;
use service::admin::commands::network::{Duplicate, Interface, Link, NetworkAdmin, Traffic};

use crate::node::{Machine, Node};

impl<M: Machine> NetworkAdmin for Node<M> {
    fn interfaces(&self) -> Vec<Interface> {
        self.networks.show().map(interface).collect()
    }
}

fn interface(shown: Shown) -> Interface {
    let traffic = |Count { frames, bytes, dropped }| Traffic { frames, bytes, dropped };
    Interface {
        dev: shown.name,
        mac: shown.mac.to_string(),
        link: if shown.link { Link::Up } else { Link::Down },
        mtu: shown.mtu,
        config: shown.setting.to_string(),
        addresses: shown.addresses.iter().map(ToString::to_string).collect(),
        gateway: shown.gateway_v4.map(|gateway| gateway.to_string()),
        gateway6: shown.gateway_v6.map(|gateway| gateway.to_string()),
        rx: traffic(shown.rx),
        tx: traffic(shown.tx),
        duplicates: shown
            .duplicates
            .iter()
            .map(|(address, by)| Duplicate { address: address.to_string(), mac: by.to_string() })
            .collect(),
        failed: shown.fault.map(|why| why.to_string()),
    }
}
