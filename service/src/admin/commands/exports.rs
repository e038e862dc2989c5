//! Disks for other machines: `export`, `unexport`.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::{CommandSpec, DEV};
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Request};
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
            options: &[],
            details: "",
        },
        parse: |line| Ok(Box::new(Export { dev: line.required(0)?.into() })),
    },
    Command {
        spec: CommandSpec { name: "unexport", summary: "stop serving it", words: &[DEV], options: &[], details: "" },
        parse: |line| Ok(Box::new(Unexport { dev: line.required(0)?.into() })),
    },
];

/// `export`.
#[derive(Debug)]
pub struct Export {
    /// The block device.
    pub dev: String,
}

/// `unexport`.
#[derive(Debug)]
pub struct Unexport {
    /// The block device.
    pub dev: String,
}

impl Request<Part> for Export {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        part.export(&self.dev)?;
        Ok(Exported { dev: self.dev, exported: true }.into())
    }
}

impl Request<Part> for Unexport {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        part.unexport(&self.dev)?;
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
