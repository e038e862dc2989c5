//! A BTT on an ordinary file: `cargo run --example file -- FILE [SECTOR_SIZE [UUID [MAXLANE]]]`.
//!
//! Makes the BTT if the file holds none, then copies standard input into its first sectors, or with an empty input
//! prints what it is. The parameters are those that Linux's `btt_init` takes.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::process::ExitCode;

use btt::bytes::{Sectors, SectorsMut};
use btt::file::FileMedium;
use btt::format::{FormatOptions, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::{Btt, CpuIndex, ExternalLba, OpenError, Placement};
use uuid::Uuid;

/// A namespace without labels: version 1.1, no parent.
const PLACEMENT: Placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };

const USAGE: &str = "usage: file FILE [SECTOR_SIZE [UUID [MAXLANE]]]

Lays a BTT on FILE, unless it holds one, and copies standard input into its first sectors; with an empty input it says
what it is. FILE is there already (truncate -s 32M FILE makes one), of more than 16M. SECTOR_SIZE: 512 (default), 520, 528,
4096, 4104, 4160 or 4224. UUID: of a new BTT (default: a random one). MAXLANE: the most writers at once (default: 4).";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("file: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut arguments = arguments.into_iter();
    let path = arguments.next().ok_or(USAGE)?;
    let size: u32 = arguments.next().map_or(Ok(512), |word| word.parse().map_err(|why| format!("{word}: {why}")))?;
    let uuid = match arguments.next() {
        Some(word) => word.parse().map_err(|why| format!("{word}: {why}"))?,
        None => random_uuid()?,
    };
    let lanes: u32 = arguments.next().map_or(Ok(4), |word| word.parse().map_err(|why| format!("{word}: {why}")))?;
    if lanes == 0 {
        return Err("MAXLANE is at least 1".into());
    }
    let sector_size = SectorSize::new(size).ok_or_else(|| format!("{size} is not a sector size"))?;

    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(|why| format!("{path}: {why} (truncate -s 32M {path} makes a file)"))?;
    let medium = FileMedium::new(file, false)?;
    let btt = match Btt::open(&medium, PLACEMENT, lanes) {
        Err(OpenError::NotABtt) => {
            let options = FormatOptions {
                sector_size,
                uuid,
                parent_uuid: PLACEMENT.parent_uuid,
                version: PLACEMENT.version,
                zero_data: false,
                zero_entries: false,
            };
            format(&medium, &options, &mut |_, _| ())?;
            Btt::open(&medium, PLACEMENT, lanes)?
        }
        opened => opened?,
    };

    let bytes = btt.sector_size().bytes() as usize;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    if input.is_empty() {
        let (sectors, lanes) = (btt.capacity_sectors(), btt.lane_count());
        let lane = if lanes == 1 { "lane" } else { "lanes" };
        println!("{}: {sectors} sectors of {bytes} bytes, {lanes} {lane}", btt.uuid());
        return Ok(());
    }
    input.resize(input.len().next_multiple_of(bytes), 0);
    let sectors = Sectors::new(&input, btt.sector_size()).ok_or("not whole sectors")?;
    btt.lane(CpuIndex(0)).write(ExternalLba(0), sectors.count() as u64, &sectors)?;
    let mut back = vec![0; input.len()];
    let mut sink = SectorsMut::new(&mut back, btt.sector_size()).ok_or("not whole sectors")?;
    btt.reader(CpuIndex(0)).read(ExternalLba(0), (input.len() / bytes) as u64, &mut sink)?;
    let sector = if sectors.count() == 1 { "sector" } else { "sectors" };
    let same = if back == input { "the same" } else { "DIFFERENT" };
    println!("{} {sector} written, read back {same}", sectors.count());
    btt.close()?;
    Ok(())
}

/// A random uuid. The crate's own `v4` needs std, and would give it to the image in a build of the whole workspace.
fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
