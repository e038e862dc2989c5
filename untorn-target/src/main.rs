//! `untorn-target`: serves BTT files by NVMe/TCP. What it serves and where goes to standard output, a line each, before the
//! first connection is taken.

use std::error::Error;
use std::io::{Write, stdout};
use std::net::TcpListener;
use std::process::ExitCode;

use clap::Parser;
use nvmf::{DiskId, Millis, Nqn, Random, Settings, Target};
use untorn_target::disk::Disk;
use untorn_target::disks::Disks;
use untorn_target::options::Options;
use untorn_target::random;
use untorn_target::server::Server;
use uuid::Builder;

fn main() -> ExitCode {
    // clap ends with status 2 by itself when the usage is wrong.
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("untorn-target: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut disks = Vec::new();
    for path in &options.files {
        disks.push(Disk::open(path, options.format, options.read_only)?);
    }
    let mut bytes = [0; 18];
    random::fill(&mut bytes);
    let [uuid @ .., low, high] = bytes;
    // Two processes that serve one host must not number their controllers alike, though they know nothing of each other.
    let first = 1 + u16::from_le_bytes([low, high]) % 0xf000;
    let settings = Settings {
        connections: options.connections,
        controller_ids: first..=first + 0xff,
        uuid: Builder::from_random_bytes(uuid).into_uuid(),
        random: Random::new(random::fill),
    };
    let target = Target::new(settings, Millis(0));
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push(TcpListener::bind(address).map_err(|why| format!("{address}: {why}"))?);
    }
    let mut out = stdout().lock();
    for (number, disk) in (0..).zip(&disks) {
        let namespace = disk.namespace(DiskId(number));
        let nqn = Nqn::of_uuid(&namespace.uuid);
        target.export(nqn.clone(), namespace).map_err(|why| format!("{}: {why}: {nqn}", disk.path.display()))?;
        let (sectors, bytes) = (namespace.sectors, namespace.sector_bytes);
        writeln!(out, "{nqn}: {}, {sectors} sectors of {bytes} bytes", disk.path.display())?;
    }
    for listener in &listeners {
        writeln!(out, "listening on {}", listener.local_addr()?)?;
    }
    if options.allow.is_empty() {
        eprintln!("untorn-target: no host may connect (--allow HOSTNQN, or --allow any)");
    }
    for rule in &options.allow {
        target.allow(rule.clone(), None, options.secrets());
    }
    out.flush()?;
    drop(out);
    Server::new(target, Disks(disks), listeners, options.advertise)?.run()?;
    Ok(())
}
