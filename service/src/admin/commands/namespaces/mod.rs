//! Namespaces and their BTTs: `arenas`, `init-labels`, `create-`, `destroy-`, `enable-`, `disable-` and `check-namespace`.

pub mod arenas;
pub mod check;
pub mod create;
pub mod labels;

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::{CommandSpec, WordSpec, flag, long_flag, option, word};
use crate::admin::job::{Job, JobWork};
use crate::admin::list::namespace_json;
use crate::admin::pretty::pretty;
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Request};
use crate::error::AdminError;
use crate::inventory::Namespace;
use arenas::Arenas;
use check::{Check, CheckNamespace};
use create::CreateNamespace;
use labels::{InitLabels, LabelArea};

/// The namespaces: what they are made of, and how they come and go.
///
/// A namespace's name is its own (`namespace0.0`), its BTT's (`btt0.0`) or its block device's (`pmem0s`).
pub trait NamespaceAdmin {
    /// The arenas of a namespace.
    ///
    /// # Errors
    /// Not found; failed, if it is not in sector mode; damaged, if its metadata cannot be read.
    fn arenas(&mut self, namespace: &str) -> Result<Arenas, AdminError>;

    /// Gives a DIMM label index blocks, and no labels. Durable when it returns.
    ///
    /// # Errors
    /// Not found; failed, where there is no label area, where a namespace on it is in use, or where labels are valid or a
    /// namespace is not blank and force is not set; read-only.
    fn init_labels(&mut self, request: &InitLabels) -> Result<LabelArea, AdminError>;

    /// Makes a namespace and enables it. Durable when it returns. Returns what `list` shows of it then.
    ///
    /// # Errors
    /// Not found (the region); failed, where it holds something recognisable and force is not set, where there is no room,
    /// or where the size, sector size or name does not fit; read-only.
    fn create_namespace(&mut self, request: &CreateNamespace) -> Result<Namespace, AdminError>;

    /// Takes a namespace's label and its BTT away, so that its space is free; in a region without labels only the BTT.
    /// Durable when it returns. Returns its name.
    ///
    /// # Errors
    /// Not found; failed, if it is not disabled and `force` is not set; read-only.
    fn destroy_namespace(&mut self, namespace: &str, force: bool) -> Result<String, AdminError>;

    /// Opens a namespace that was disabled. Returns what `list` shows of it then.
    ///
    /// # Errors
    /// Not found; damaged or failed, where it cannot be opened.
    fn enable_namespace(&mut self, namespace: &str) -> Result<Namespace, AdminError>;

    /// Makes a namespace's writes durable and closes it. Returns its name.
    ///
    /// # Errors
    /// Not found; failed, where its writes could not be made durable: it stays enabled.
    fn disable_namespace(&mut self, namespace: &str) -> Result<String, AdminError>;

    /// Checks a namespace's metadata, all of it; stores nothing unless asked to repair.
    ///
    /// # Errors
    /// Not found; failed, if there is no BTT to check. Damage is a finding, not an error.
    fn check_namespace(&mut self, request: &CheckNamespace) -> Result<Check, AdminError>;

    /// Takes a namespace in hand for a check that is a job, which stores nothing. `None`: a command has it in hand, or it is not
    /// open.
    ///
    /// # Errors
    /// As [`NamespaceAdmin::check_namespace`].
    fn check_for_job(&self, request: &CheckNamespace) -> Option<Result<JobWork<Check>, AdminError>>;
}

const NAMESPACE: WordSpec = word("NS", "a namespace: namespace0.0");

/// The part of the appliance that the commands are for.
pub type Part = dyn NamespaceAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[
    Command {
        spec: CommandSpec {
            name: "arenas",
            summary: "a BTT's arenas, as Linux shows them under debugfs",
            words: &[NAMESPACE],
            options: &[],
            details: "",
        },
        parse: |line| Ok(Box::new(ShowArenas { namespace: line.required(0)?.into() })),
    },
    Command {
        spec: CommandSpec {
            name: "init-labels",
            summary: "write empty label index blocks, so that a DIMM can hold several namespaces",
            words: &[word("DIMM", "a DIMM: nmem0")],
            options: &[
                option('V', "label-version", "VERSION", "of the labels: 1.2 (the default) or 1.1"),
                flag('f', "force", "even over valid labels, or a namespace that is not blank"),
            ],
            details: "The namespaces on the DIMM are gone then: a region without labels is one namespace, one with labels has\n\
                      those that create-namespace makes. In labels 1.2 a BTT is of version 2.0, in labels 1.1 of 1.1.\n",
        },
        parse: |line| Ok(Box::new(InitLabels::parse(line)?)),
    },
    Command {
        spec: CommandSpec {
            name: "create-namespace",
            summary: "make a namespace and enable it",
            words: &[],
            options: &[
                option('r', "region", "REGION", "in this region (the first with room)"),
                option('t', "type", "TYPE", "in a region of this type: pmem or blk"),
                option('s', "size", "SIZE", "bytes, metadata included (all that is free)"),
                option('m', "mode", "MODE", "sector (the default) or raw"),
                option(
                    'l',
                    "sector-size",
                    "SECTOR",
                    "bytes of a sector (4096): 512, 520, 528, 4096, 4104, 4160 or 4224",
                ),
                option('n', "name", "NAME", "an alternative name, kept in the label"),
                option('u', "uuid", "UUID", "the uuid (a new one)"),
                flag('f', "force", "even over something recognisable; zeroes what could be read of it"),
                long_flag(
                    "zero-entries",
                    "let trim mark sectors in the map: fast, but today's Linux misreads some of them",
                ),
            ],
            details: "On a region without labels the whole region is the namespace; with -s or -n one whose DIMMs have blank\n\
                      label areas gets labels first. Sizes are multiples of the region's align (list -R).\n",
        },
        parse: |line| Ok(Box::new(CreateNamespace::parse(line)?)),
    },
    Command {
        spec: CommandSpec {
            name: "destroy-namespace",
            summary: "take a namespace's space back",
            words: &[NAMESPACE],
            options: &[flag('f', "force", "even if it is enabled")],
            details: "",
        },
        parse: |line| Ok(Box::new(DestroyNamespace { namespace: line.required(0)?.into(), force: line.flag("force") })),
    },
    Command {
        spec: CommandSpec {
            name: "enable-namespace",
            summary: "serve a namespace",
            words: &[NAMESPACE],
            options: &[],
            details: "",
        },
        parse: |line| Ok(Box::new(EnableNamespace { namespace: line.required(0)?.into() })),
    },
    Command {
        spec: CommandSpec {
            name: "disable-namespace",
            summary: "stop serving a namespace",
            words: &[NAMESPACE],
            options: &[],
            details: "",
        },
        parse: |line| Ok(Box::new(DisableNamespace { namespace: line.required(0)?.into() })),
    },
    Command {
        spec: CommandSpec {
            name: "check-namespace",
            summary: "check a BTT's metadata, all of it",
            words: &[NAMESPACE],
            options: &[
                flag('R', "repair", "repair what has one certain answer"),
                flag('L', "rewrite-log", "write the flog anew, one record a group: its old layout is gone then"),
                flag('f', "force", "with -R: make errors of the sectors whose content is not certain"),
                long_flag("portable", "write zeroes where sectors are trimmed in the map, and allow no more of that"),
            ],
            details: "Stores nothing without -R, -L or --portable; with one of them, the namespace is closed meanwhile.\n\
                      A power cut in a repair does no harm: do it again. Exit status 4: something is wrong and not repaired.\n",
        },
        parse: |line| Ok(Box::new(CheckNamespace::parse(line)?)),
    },
];

/// `arenas`.
#[derive(Debug)]
pub struct ShowArenas {
    /// The namespace's name.
    pub namespace: String,
}

/// `destroy-namespace`.
#[derive(Debug)]
pub struct DestroyNamespace {
    /// The namespace's name.
    pub namespace: String,
    /// `-f`: even if it is enabled.
    pub force: bool,
}

/// `enable-namespace`.
#[derive(Debug)]
pub struct EnableNamespace {
    /// The namespace's name.
    pub namespace: String,
}

/// `disable-namespace`.
#[derive(Debug)]
pub struct DisableNamespace {
    /// The namespace's name.
    pub namespace: String,
}

impl Request<Part> for ShowArenas {
    fn is_change(&self) -> bool {
        false
    }

    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(part.arenas(&self.namespace)?.into())
    }
}

impl Request<Part> for InitLabels {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(part.init_labels(&self)?.into())
    }
}

impl Request<Part> for CreateNamespace {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(Enabled(namespace_json(&part.create_namespace(&self)?)).into())
    }
}

impl Request<Part> for DestroyNamespace {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(Changed { dev: part.destroy_namespace(&self.namespace, self.force)?, state: "destroyed" }.into())
    }
}

impl Request<Part> for EnableNamespace {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(Enabled(namespace_json(&part.enable_namespace(&self.namespace)?)).into())
    }
}

impl Request<Part> for DisableNamespace {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(Changed { dev: part.disable_namespace(&self.namespace)?, state: "disabled" }.into())
    }
}

impl Request<Part> for CheckNamespace {
    fn is_change(&self) -> bool {
        self.repair || self.rewrite_log || self.portable
    }

    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(part.check_namespace(&self)?.into())
    }

    fn as_job(&self) -> Option<&dyn Job<Part>> {
        (!self.is_change()).then_some(self)
    }
}

impl Job<Part> for CheckNamespace {
    fn device(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    fn begin(&self, part: &Part) -> Option<Result<JobWork<Outcome>, AdminError>> {
        let begun = |work: JobWork<Check>| -> JobWork<Outcome> { Box::new(|pauses| Ok(work(pauses)?.into())) };
        Some(part.check_for_job(self)?.map(begun))
    }
}

/// A namespace that is enabled now, in ndctl's JSON.
#[derive(Debug)]
struct Enabled(String);

impl Reply for Enabled {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", pretty(&self.0))
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.raw_members(&self.0)
    }
}

/// A namespace that is enabled no more.
#[derive(Debug, Serialize)]
struct Changed {
    dev: String,
    state: &'static str,
}

impl Reply for Changed {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}: {}", self.dev, self.state)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
