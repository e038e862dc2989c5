//! What addresses an interface is to have, as it is configured: `dhcp`, `off`, or `ADDRESS/PREFIX,…,gateway=ADDRESS`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{IpAddress, IpCidr};

/// The most addresses of an interface: smoltcp has room for 8, and one is its link-local.
pub const ADDRESSES_MAX: usize = 7;

/// The prefix of a word that names a gateway.
const GATEWAY: &str = "gateway=";

/// What addresses an interface is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// None: it neither sends nor receives.
    Off,
    /// An IPv4 address from a DHCP server.
    Dhcp,
    /// These.
    Fixed(Fixed),
}

/// Addresses that were set, one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The addresses, each with its network.
    pub addresses: Vec<IpCidr>,
    /// Where IPv4 packets go that are for none of the networks.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub gateway_v6: Option<Ipv6Addr>,
}

/// Why a setting is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError(String);

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for SettingError {}

impl Setting {
    /// Reads a setting.
    ///
    /// # Errors
    /// [`SettingError`], for people: what is wrong with which word.
    pub fn parse(text: &str) -> Result<Self, SettingError> {
        match text {
            "off" => return Ok(Self::Off),
            "dhcp" => return Ok(Self::Dhcp),
            _ => {}
        }
        let mut fixed = Fixed { addresses: Vec::new(), gateway_v4: None, gateway_v6: None };
        for word in text.split(',') {
            fixed.take(word).map_err(|why| SettingError(format!("'{word}' {why}")))?;
        }
        fixed.check().map_err(|why| SettingError(why.to_string()))?;
        Ok(Self::Fixed(fixed))
    }
}

impl Fixed {
    fn take(&mut self, word: &str) -> Result<(), &'static str> {
        if let Some(gateway) = word.strip_prefix(GATEWAY) {
            let again = match gateway.parse().map_err(|_| "names no address")? {
                IpAddr::V4(gateway) => self.gateway_v4.replace(gateway).is_some(),
                IpAddr::V6(gateway) => self.gateway_v6.replace(gateway).is_some(),
            };
            return if again { Err("is a second gateway of its kind") } else { Ok(()) };
        }
        let (address, prefix) = word.split_once('/').ok_or("is none of dhcp, off, ADDRESS/PREFIX, gateway=ADDRESS")?;
        let address: IpAddr = address.parse().map_err(|_| "has no address before its /")?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 =
            prefix.parse().ok().filter(|prefix| (1..=longest).contains(prefix)).ok_or("has no prefix length")?;
        if self.addresses.len() == ADDRESSES_MAX {
            return Err("is one address too many");
        }
        if self.addresses.iter().any(|other| IpAddr::from(other.address()) == address) {
            return Err("is there twice");
        }
        let cidr = IpCidr::new(address.into(), prefix);
        if !is_of_an_interface(cidr) {
            return Err("is no address that an interface can have");
        }
        self.addresses.push(cidr);
        Ok(())
    }

    /// Checks that gateways can be reached.
    fn check(&self) -> Result<(), &'static str> {
        if self.addresses.is_empty() {
            return Err("there is no ADDRESS/PREFIX");
        }
        let gateways = self.gateway_v4.map(IpAddr::V4).into_iter().chain(self.gateway_v6.map(IpAddr::V6));
        for gateway in gateways {
            let near = matches!(gateway, IpAddr::V6(it) if it.is_unicast_link_local());
            let gateway = IpAddress::from(gateway);
            if !near && !self.addresses.iter().any(|own| own.contains_addr(&gateway) && own.address() != gateway) {
                return Err("the gateway is in none of the networks");
            }
        }
        Ok(())
    }
}

/// Returns whether an interface can have an address: it is one machine's, and not this machine's alone, and neither its
/// network's own nor for all of it.
#[must_use]
pub fn is_of_an_interface(cidr: IpCidr) -> bool {
    match cidr {
        IpCidr::Ipv4(cidr) => {
            let address = cidr.address();
            let of_machine =
                cidr.prefix_len() >= 31 || (address != cidr.network().address() && Some(address) != cidr.broadcast());
            of_machine
                && !(address.is_unspecified()
                    || address.is_loopback()
                    || address.is_multicast()
                    || address.is_broadcast())
        }
        IpCidr::Ipv6(cidr) => {
            let address = cidr.address();
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        }
    }
}

/// As it is written.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = match self {
            Self::Off => return f.write_str("off"),
            Self::Dhcp => return f.write_str("dhcp"),
            Self::Fixed(fixed) => fixed,
        };
        let gateways = fixed.gateway_v4.map(IpAddr::V4).into_iter().chain(fixed.gateway_v6.map(IpAddr::V6));
        let addresses = fixed.addresses.iter().map(ToString::to_string);
        let words: Vec<String> = addresses.chain(gateways.map(|it| format!("{GATEWAY}{it}"))).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::Setting;

    #[test]
    fn what_is_written_is_read_and_written_the_same() {
        for text in [
            "dhcp",
            "off",
            "10.0.2.15/24",
            "10.0.2.15/24,gateway=10.0.2.2",
            "10.0.2.15/24,192.168.7.1/32,fd00::5/64,gateway=10.0.2.2,gateway=fe80::1",
            "10.0.0.0/31",
            "fe80::2/64,fd00::1/128",
        ] {
            assert_eq!(Setting::parse(text).map(|it| it.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(
            Setting::parse("gateway=10.1.1.1,10.1.1.2/8").map(|it| it.to_string()).as_deref(),
            Ok("10.1.1.2/8,gateway=10.1.1.1")
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_word() {
        for (text, expected) in [
            ("", "'' is none of dhcp, off, ADDRESS/PREFIX, gateway=ADDRESS"),
            ("DHCP", "'DHCP' is none of dhcp, off, ADDRESS/PREFIX, gateway=ADDRESS"),
            ("dhcp,10.0.2.15/24", "'dhcp' is none of dhcp, off, ADDRESS/PREFIX, gateway=ADDRESS"),
            ("10.0.2.15", "'10.0.2.15' is none of dhcp, off, ADDRESS/PREFIX, gateway=ADDRESS"),
            ("10.0.2.15/24,", "'' is none of dhcp, off, ADDRESS/PREFIX, gateway=ADDRESS"),
            ("10.0.2/24", "'10.0.2/24' has no address before its /"),
            ("010.0.2.1/24", "'010.0.2.1/24' has no address before its /"),
            ("10.0.2.15/33", "'10.0.2.15/33' has no prefix length"),
            ("10.0.2.15/0", "'10.0.2.15/0' has no prefix length"),
            ("10.0.2.15/-1", "'10.0.2.15/-1' has no prefix length"),
            ("fd00::1/129", "'fd00::1/129' has no prefix length"),
            ("10.0.2.0/24", "'10.0.2.0/24' is no address that an interface can have"),
            ("10.0.2.255/24", "'10.0.2.255/24' is no address that an interface can have"),
            ("127.0.0.1/8", "'127.0.0.1/8' is no address that an interface can have"),
            ("224.0.0.1/24", "'224.0.0.1/24' is no address that an interface can have"),
            ("255.255.255.255/32", "'255.255.255.255/32' is no address that an interface can have"),
            ("0.0.0.0/32", "'0.0.0.0/32' is no address that an interface can have"),
            ("::1/128", "'::1/128' is no address that an interface can have"),
            ("ff02::1/64", "'ff02::1/64' is no address that an interface can have"),
            ("10.0.2.15/24,10.0.2.15/16", "'10.0.2.15/16' is there twice"),
            ("gateway=10.0.2.2", "there is no ADDRESS/PREFIX"),
            ("10.0.2.15/24,gateway=10.0.3.2", "the gateway is in none of the networks"),
            ("10.0.2.15/24,gateway=10.0.2.15", "the gateway is in none of the networks"),
            ("10.0.2.15/24,gateway=fd00::1", "the gateway is in none of the networks"),
            ("10.0.2.15/24,gateway=", "'gateway=' names no address"),
            ("10.0.2.15/24,gateway=10.0.2.2,gateway=10.0.2.3", "'gateway=10.0.2.3' is a second gateway of its kind"),
            (
                "10.0.0.1/8,10.0.0.2/8,10.0.0.3/8,10.0.0.4/8,10.0.0.5/8,10.0.0.6/8,10.0.0.7/8,10.0.0.8/8",
                "'10.0.0.8/8' is one address too many",
            ),
        ] {
            assert_eq!(Setting::parse(text).map_err(|why| why.to_string()), Err(expected.into()), "{text}");
        }
    }
}
