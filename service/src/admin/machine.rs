//! Replies for programs: one JSON object on one line.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::command::Lba;
use super::execute::{Data, Reply};
use super::table::COMMANDS;
use super::{help, prometheus};
use crate::error::AdminError;

/// Writes `{"ok":true,…}` or `{"ok":false,"error":…}`, without the line's end.
///
/// A command that did its work and found damage (a check, a verification) has `"exit":4` as its last field: the status
/// that a script should end with.
///
/// # Errors
/// The writer's.
pub fn write(outcome: &Result<Reply, AdminError>, out: &mut dyn fmt::Write) -> fmt::Result {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(error) => return write!(out, "{{\"ok\":false,\"error\":{}}}", json(error)),
    };
    out.write_str("{\"ok\":true")?;
    match reply {
        Reply::Help => field(out, "commands", &json(&COMMANDS.iter().map(help::brief).collect::<Vec<_>>()))?,
        Reply::HelpOf(spec) => fields(out, &json(&help::in_full(spec)))?,
        Reply::Version => fields(out, &json(&Version::OURS))?,
        Reply::Status(status) => fields(out, &json(status))?,
        Reply::Mode(mode) => field(out, "mode", &json(&mode.as_str()))?,
        Reply::List(list) => field(out, "result", list)?,
        Reply::Nfit(nfit) => fields(out, &json(nfit))?,
        Reply::Arenas(arenas) => fields(out, &json(arenas))?,
        Reply::LabelArea(area) => fields(out, &json(area))?,
        Reply::Namespace(namespace) => fields(out, namespace)?,
        Reply::Changed(changed) => fields(out, &json(changed))?,
        Reply::Check(check) => fields(out, &json(check))?,
        Reply::Data(data) => sectors(out, data)?,
        Reply::Done(_, done) => fields(out, &json(done))?,
        Reply::Errors(errors) => fields(out, &json(errors))?,
        Reply::Bench(bench) => fields(out, &json(bench))?,
        Reply::Stats(stats) => fields(out, &json(stats))?,
        Reply::Prometheus(stats) => {
            let mut text = String::new();
            prometheus::write(stats, &mut text)?;
            field(out, "prometheus", &json(&text))?;
        }
        Reply::Exported(exported) => fields(out, &json(exported))?,
        Reply::Trace(trace) => fields(out, &json(trace))?,
        Reply::Poweroff | Reply::Reboot => {}
    }
    if reply.exit_code() != 0 {
        write!(out, ",\"exit\":{}", reply.exit_code())?;
    }
    out.write_str("}")
}

/// Writes a reply for a program, in mode json: the object and the line's end.
///
/// # Errors
/// The writer's.
pub fn write_for_program(outcome: &Result<Reply, AdminError>, out: &mut dyn fmt::Write) -> fmt::Result {
    write(outcome, out)?;
    out.write_str("\n")
}

/// What `version` says.
#[derive(Serialize)]
pub(super) struct Version {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

impl Version {
    pub(super) const OURS: Self = Self { name: "untorn", version: crate::VERSION };
}

/// Our replies have string keys and plain values: they always serialise.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// One more field.
fn field(out: &mut dyn fmt::Write, name: &str, json: &str) -> fmt::Result {
    write!(out, ",\"{name}\":{json}")
}

/// An object's fields in the reply's own object.
fn fields(out: &mut dyn fmt::Write, object: &str) -> fmt::Result {
    match object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some("") | None => Ok(()),
        Some(fields) => write!(out, ",{fields}"),
    }
}

/// The sectors in base64, encoded as they are sent: no second copy of a megabyte.
fn sectors(out: &mut dyn fmt::Write, data: &Data) -> fmt::Result {
    #[derive(Serialize)]
    struct Head<'a> {
        dev: &'a str,
        lba: Lba,
        count: u64,
        sector_size: u32,
    }
    let extent = &data.extent;
    let head = Head { dev: &extent.dev, lba: extent.lba, count: extent.count, sector_size: data.sector_size };
    fields(out, &json(&head))?;
    write!(out, ",\"data\":\"{}\"", Base64Display::new(&data.bytes, &STANDARD))
}
