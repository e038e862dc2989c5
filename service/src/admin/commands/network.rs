//! The network interfaces: `net`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::CommandSpec;
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Look};
use crate::error::AdminError;

/// The machine's network.
pub trait NetworkAdmin {
    /// Its interfaces, in their order.
    fn interfaces(&self) -> Vec<Interface>;
}

/// The part of the appliance that the commands are for.
pub type Part = dyn NetworkAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[Command {
    spec: CommandSpec {
        name: "net",
        summary: "the network interfaces and their addresses",
        words: &[],
        options: &[],
        details: "netN=dhcp, off, or ADDRESS/PREFIX,…,gateway=ADDRESS on the image's command line sets interface N's\n\
                  addresses for this boot; without it an interface asks by DHCP.\n\
                  received and sent: since boot; dropped: what was no frame, or had no room.\n",
    },
    parse: |_| Ok(Box::new(ShowNetwork)),
}];

/// `net`.
#[derive(Debug)]
pub struct ShowNetwork;

impl Look<Part> for ShowNetwork {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(Interfaces(part.interfaces()).into())
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// `net0`.
    pub dev: String,
    /// Its device's address: `52:54:00:75:6e:00`.
    pub mac: String,
    /// Whether it has a link.
    pub link: Link,
    /// The longest IP packet that it sends, in bytes.
    pub mtu: u16,
    /// What addresses it is to have, as its key `netN` has them: `dhcp`.
    pub config: String,
    /// The addresses that it has, with their networks' prefixes: `10.0.2.15/24`.
    pub addresses: Vec<String>,
    /// Where IPv4 packets go that are for none of its networks.
    pub gateway: Option<String>,
    /// The same of IPv6.
    pub gateway6: Option<String>,
    /// What it has received.
    pub rx: Traffic,
    /// What it has sent.
    pub tx: Traffic,
    /// Its addresses that another machine uses, too.
    pub duplicates: Vec<Duplicate>,
    /// Why its device is not used any more.
    pub failed: Option<String>,
}

/// Whether there is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// There is one.
    Up,
    /// There is none.
    Down,
}

/// What went one way since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Frames that were dropped.
    pub dropped: u64,
}

/// An address that another machine uses, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The address.
    pub address: String,
    /// The other machine's device.
    pub mac: String,
}

/// The reply to `net`.
#[derive(Debug)]
struct Interfaces(Vec<Interface>);

impl Reply for Interfaces {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.0.is_empty() {
            writeln!(out, "no network interface")?;
        }
        for interface in &self.0 {
            let Interface { dev, mac, mtu, config, .. } = interface;
            let link = match interface.link {
                Link::Up => "up",
                Link::Down => "down",
            };
            writeln!(out, "{dev}: {mac}, link {link}, mtu {mtu}, {config}")?;
            for address in &interface.addresses {
                writeln!(out, "  address   {address}")?;
            }
            for gateway in interface.gateway.iter().chain(&interface.gateway6) {
                writeln!(out, "  gateway   {gateway}")?;
            }
            for (name, Traffic { frames, bytes, dropped }) in [("received", interface.rx), ("sent", interface.tx)] {
                writeln!(out, "  {name:<9} {frames} frames, {bytes} bytes; {dropped} dropped")?;
            }
            for Duplicate { address, mac } in &interface.duplicates {
                writeln!(out, "  duplicate {address} is used by {mac}, too")?;
            }
            if let Some(why) = &interface.failed {
                writeln!(out, "  failed    {why}")?;
            }
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("result", &self.0)
    }
}
