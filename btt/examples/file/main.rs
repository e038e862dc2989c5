//! A BTT on an ordinary file: `cargo run --example file -- FILE [SECTOR_SIZE [UUID [MAXLANE]]]`.
//!
//! Makes the BTT if the file holds none, then copies standard input into its first sectors, or with an empty input
//! prints what it is. The seeds' `btt_init` took the same parameters from any driver with `rw_bytes`.

mod namespace;

use btt::bytes::{Sectors, SectorsMut};
use btt::format::{Recipe, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::{Btt, CpuIndex, ExternalLba, OpenError, Placement};
use namespace::FileNamespace;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use uuid::Uuid;

/// A namespace without labels: version 1.1, no parent.
const PLACEMENT: Placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: file FILE [SECTOR_SIZE [UUID [MAXLANE]]]")?;
    let size: u32 = arguments.next().map_or(Ok(512), |word| word.parse())?;
    let uuid = match arguments.next() {
        Some(word) => word.parse()?,
        None => random_uuid()?,
    };
    let lanes: u32 = arguments.next().map_or(Ok(4), |word| word.parse())?;
    if lanes == 0 {
        return Err("MAXLANE is at least 1".into());
    }
    let sector_size = SectorSize::new(size).ok_or_else(|| format!("{size} is not a sector size"))?;

    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let namespace = FileNamespace::new(file, false)?;
    let btt = match Btt::open(&namespace, PLACEMENT, lanes) {
        Err(OpenError::NotABtt) => {
            let recipe = Recipe {
                sector_size,
                uuid,
                parent_uuid: PLACEMENT.parent_uuid,
                version: PLACEMENT.version,
                zero_data: false,
                zero_entries: false,
            };
            format(&namespace, &recipe, &mut |_, _| ())?;
            Btt::open(&namespace, PLACEMENT, lanes)?
        }
        opened => opened?,
    };

    let bytes = btt.sector_size().bytes() as usize;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    if input.is_empty() {
        let (sectors, lanes) = (btt.capacity_sectors(), btt.lane_count());
        println!("{}: {sectors} sectors of {bytes} bytes, {lanes} lanes", btt.uuid());
        return Ok(());
    }
    input.resize(input.len().next_multiple_of(bytes), 0);
    let sectors = Sectors::new(&input, btt.sector_size()).ok_or("not whole sectors")?;
    let mut lane = btt.lane(CpuIndex(0));
    lane.write(ExternalLba(0), sectors.count() as u64, &sectors)?;
    let mut back = vec![0; input.len()];
    let mut sink = SectorsMut::new(&mut back, btt.sector_size()).ok_or("not whole sectors")?;
    lane.read(ExternalLba(0), (input.len() / bytes) as u64, &mut sink)?;
    println!("{} sectors written, read back {}", sectors.count(), if back == input { "the same" } else { "DIFFERENT" });
    drop(lane);
    btt.close()?;
    Ok(())
}

/// A random uuid. The crate's own `v4` needs std, and would give it to the image in a build of the whole workspace.
fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
