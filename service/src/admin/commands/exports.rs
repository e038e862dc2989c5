//! Disks for other machines: `export`, `unexport`, `allow`, `deny`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::{Arguments, CommandSpec, DEV, OptionSpec, WordSpec, long_flag, long_option, word};
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Request};
use crate::config::hosts::SecretTexts;
use crate::error::AdminError;

/// The disks that consumers are offered.
pub trait ExportAdmin {
    /// Offers a block device to consumers. One that is offered stays so.
    ///
    /// # Errors
    /// Not found; failed, where there is no way to consumers, or where its sectors fit no virtio disk.
    fn export(&mut self, dev: &str) -> Result<(), AdminError>;

    /// Withdraws it: consumers' requests fail from now on.
    ///
    /// # Errors
    /// Not found: there is no such device, or it is not exported.
    fn unexport(&mut self, dev: &str) -> Result<(), AdminError>;

    /// Serves a block device by NVMe/TCP, as a subsystem of that name or of one that its uuid gives. One that is served so
    /// stays so.
    ///
    /// # Errors
    /// Not found; usage: the name is none; failed, where there is no network, its sectors are none that hosts take, or the
    /// name is taken.
    fn export_nvme(&mut self, dev: &str, nqn: Option<&str>) -> Result<NvmeExport, AdminError>;

    /// Ends that: its hosts are disconnected, and what they have not been answered is not done.
    ///
    /// # Errors
    /// Not found: there is no such device, or it is not served so.
    fn unexport_nvme(&mut self, dev: &str) -> Result<(), AdminError>;

    /// Lets a host connect.
    ///
    /// # Errors
    /// Usage: a name or a secret is none; not found: there is no such subsystem; failed: there is no network.
    fn allow(&mut self, rule: &HostRule, secrets: Option<SecretTexts<'_>>) -> Result<(), AdminError>;

    /// Takes that back: a host that may not connect any more is disconnected.
    ///
    /// # Errors
    /// Usage; not found: there is no such subsystem, or no such rule.
    fn deny(&mut self, rule: &HostRule) -> Result<(), AdminError>;
}

/// Who may connect, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostRule {
    /// The host's NQN, or `any`.
    pub host: String,
    /// The subsystem's NQN; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nqn: Option<String>,
}

impl HostRule {
    fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        Ok(Self { host: line.required(0)?.into(), nqn: line.value("nqn").map(Into::into) })
    }
}

/// How a device is served by NVMe/TCP: the reply to `export --nvme`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NvmeExport {
    /// The block device.
    pub dev: String,
    /// The subsystem's NQN.
    pub nqn: String,
    /// The machine's addresses now.
    pub addresses: Vec<String>,
    /// The TCP port.
    pub port: u16,
}

/// The part of the appliance that the commands are for.
pub type Part = dyn ExportAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[
    Command {
        spec: CommandSpec {
            name: "export",
            summary: "serve a device to another machine",
            words: &[DEV],
            options: &[
                long_flag("nvme", "over the network, by NVMe/TCP (port 4420); else to the bridge (vhost-user)"),
                long_option("nqn", "NQN", "the subsystem's name (one of the BTT's uuid)"),
            ],
            details: "By NVMe/TCP no host may connect until it is allowed: allow.\n",
        },
        parse: |line| {
            let (dev, nvme, nqn) = (line.required(0)?.into(), line.flag("nvme"), line.value("nqn").map(Into::into));
            if nqn.is_some() && !nvme {
                return Err(line.usage("--nqn goes with --nvme"));
            }
            Ok(Box::new(Export { dev, nvme, nqn }))
        },
    },
    Command {
        spec: CommandSpec {
            name: "unexport",
            summary: "stop serving it",
            words: &[DEV],
            options: &[long_flag("nvme", "by NVMe/TCP; else to the bridge")],
            details: "",
        },
        parse: |line| Ok(Box::new(Unexport { dev: line.required(0)?.into(), nvme: line.flag("nvme") })),
    },
    Command {
        spec: CommandSpec {
            name: "allow",
            summary: "let a host connect by NVMe/TCP",
            words: &[HOST],
            options: &[
                SUBSYSTEM,
                long_option("secret", "DHHC-1:...", "what the host must prove to know (nvme gen-dhchap-key)"),
                long_option("controller-secret", "DHHC-1:...", "what is proved to the host in turn, if it asks"),
            ],
            details: "A host's name is only what it says, unless it has a secret. docs/network.md has what is not protected.\n",
        },
        parse: |line| {
            let [secret, controller_secret] =
                ["secret", "controller-secret"].map(|name| Hidden(line.value(name).map(Into::into)));
            if secret.0.is_none() && controller_secret.0.is_some() {
                return Err(AdminError::usage("--controller-secret is for hosts that have a --secret"));
            }
            Ok(Box::new(Allow { rule: HostRule::parse(line)?, secret, controller_secret }))
        },
    },
    Command {
        spec: CommandSpec {
            name: "deny",
            summary: "take that back, and disconnect the host",
            words: &[HOST],
            options: &[SUBSYSTEM],
            details: "",
        },
        parse: |line| Ok(Box::new(Deny(HostRule::parse(line)?))),
    },
];

const HOST: WordSpec = word("HOSTNQN", "the host's name, or any: nqn.2014-08.org.nvmexpress:uuid:...");
const SUBSYSTEM: OptionSpec = long_option("nqn", "NQN", "for this subsystem alone (all)");

/// `export`.
#[derive(Debug)]
pub struct Export {
    /// The block device.
    pub dev: String,
    /// `--nvme`: by NVMe/TCP.
    pub nvme: bool,
    /// `--nqn`: the subsystem's name.
    pub nqn: Option<String>,
}

/// `unexport`.
#[derive(Debug)]
pub struct Unexport {
    /// The block device.
    pub dev: String,
    /// `--nvme`: by NVMe/TCP.
    pub nvme: bool,
}

/// `allow`.
#[derive(Debug)]
pub struct Allow {
    /// Who, and to what.
    pub rule: HostRule,
    /// `--secret`.
    pub secret: Hidden,
    /// `--controller-secret`.
    pub controller_secret: Hidden,
}

/// `deny`.
#[derive(Debug)]
pub struct Deny(pub HostRule);

/// A text that is never shown.
pub struct Hidden(pub Option<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a secret" } else { "none" })
    }
}

impl Request<Part> for Allow {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        let controller = self.controller_secret.0.as_deref();
        part.allow(&self.rule, self.secret.0.as_deref().map(|host| SecretTexts { host, controller }))?;
        Ok(Ruled { rule: self.rule, allowed: true, secret: Some(self.secret.0.is_some()) }.into())
    }
}

impl Request<Part> for Deny {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        part.deny(&self.0)?;
        Ok(Ruled { rule: self.0, allowed: false, secret: None }.into())
    }
}

/// The reply to `allow` and `deny`.
#[derive(Debug, Serialize)]
struct Ruled {
    #[serde(flatten)]
    rule: HostRule,
    allowed: bool,
    /// Whether it must prove to know a secret, if it is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
}

impl Reply for Ruled {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let host = if self.rule.host == "any" { "every host" } else { &self.rule.host };
        let what = self.rule.nqn.as_deref().unwrap_or("all subsystems");
        let is_allowed = if self.allowed { "allowed" } else { "not allowed any more" };
        writeln!(
            out,
            "{host} is {is_allowed} to use {what}{}",
            if self.secret == Some(true) { ", once it has proved its secret" } else { "" }
        )
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

impl Reply for NvmeExport {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{} is served by NVMe/TCP as {}", self.dev, self.nqn)?;
        if self.addresses.is_empty() {
            writeln!(out, "  no interface has an address: net shows them")?;
        }
        let port = self.port;
        self.addresses.iter().try_for_each(|address| writeln!(out, "  at {address}, port {port}"))
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

impl Request<Part> for Export {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        if self.nvme {
            return Ok(part.export_nvme(&self.dev, self.nqn.as_deref())?.into());
        }
        part.export(&self.dev)?;
        Ok(Exported { dev: self.dev, exported: true }.into())
    }
}

impl Request<Part> for Unexport {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        if self.nvme {
            part.unexport_nvme(&self.dev)?;
        } else {
            part.unexport(&self.dev)?;
        }
        Ok(Exported { dev: self.dev, exported: false }.into())
    }
}

/// Whether consumers can have the device now.
#[derive(Debug, Serialize)]
struct Exported {
    dev: String,
    exported: bool,
}

impl Reply for Exported {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{} is {}", self.dev, if self.exported { "exported" } else { "withdrawn" })
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
