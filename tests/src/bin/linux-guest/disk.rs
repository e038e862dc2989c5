//! Using a BTT that Linux attached, as the job describes, by direct I/O.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount, umount};
use tests::golden::digest;
use tests::linux::direct::Buffer;
use tests::linux::exercise::{Exercise, PLACE, places};
use tests::linux::{Job, Read, Report, sample};

use crate::{Outcome, bus, report};

pub(crate) fn use_btt(device: &str, job: &Job) -> Outcome<()> {
    let namespace = bus::attribute(device, "namespace")?;
    let slot = bus::slot(&namespace)?;
    let block = fs::read_dir(bus::folder(device).join("block"))?.next().ok_or("a BTT without a disk")??;
    let dev = block.file_name().to_string_lossy().into_owned();
    let sizes = bus::attribute(device, "sector_size")?;
    // All sizes, the chosen one in brackets.
    let sector_size = sizes.split(['[', ']']).nth(1).unwrap_or(&sizes).parse()?;
    let size = fs::read_to_string(format!("/sys/block/{dev}/size"))?.trim().parse::<u64>()? * 512;
    let uuid = bus::attribute(device, "uuid")?;
    report(&Report::Btt { slot, namespace, uuid, dev: dev.clone(), sector_size, size, arenas: arenas(device)? });

    let disk = Disk::open(&dev, size)?;
    let sampled = sample(disk.sectors).into_iter().map(|lba| Read { slot, lba, count: 1 });
    let reads = || job.reads.iter().copied().filter(|read| read.slot == slot);
    disk.report_reads(sampled.filter(|_| job.sample).chain(reads()));
    for write in job.writes.iter().filter(|write| write.slot == slot) {
        let error = disk.fill(write.lba, &[write.byte]).err().map(|error| error.to_string());
        report(&Report::Written { write: *write, error });
    }
    for exercise in job.exercises.iter().filter(|exercise| exercise.slot == slot) {
        let error = disk.exercise(*exercise).err().map(|error| error.to_string());
        report(&Report::Exercised { exercise: *exercise, error });
    }
    if job.exercises.iter().any(|exercise| exercise.slot == slot) {
        disk.report_reads(reads());
    }
    if job.file_systems.contains(&slot) {
        let error = file_system(&dev).err().map(|error| error.to_string());
        report(&Report::FileSystem { slot, error });
    }
    Ok(())
}

/// A BTT's block device.
struct Disk {
    file: File,
    /// The data bytes of a sector.
    sector: usize,
    sectors: u64,
}

impl Disk {
    fn open(dev: &str, size: u64) -> Outcome<Self> {
        let sector: usize = fs::read_to_string(format!("/sys/block/{dev}/queue/logical_block_size"))?.trim().parse()?;
        let flags = OFlag::O_DIRECT.bits();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(format!("/dev/{dev}"))?;
        Ok(Self { file, sector, sectors: size / sector as u64 })
    }

    fn report_reads(&self, reads: impl Iterator<Item = Read>) {
        for read in reads {
            let data = self.read(read.lba, read.count).map_err(|error| error.to_string());
            report(&Report::Sectors { read, data: data.map(|mut buffer| digest(buffer.bytes())) });
        }
    }

    fn read(&self, lba: u64, count: u64) -> io::Result<Buffer> {
        let mut buffer = Buffer::new(self.sector * usize::try_from(count).map_err(io::Error::other)?);
        self.file.read_exact_at(buffer.bytes(), lba * self.sector as u64)?;
        Ok(buffer)
    }

    /// Fills sectors, each with its byte, in one request.
    fn fill(&self, lba: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = Buffer::new(self.sector * bytes.len());
        for (sector, byte) in buffer.bytes().chunks_mut(self.sector).zip(bytes) {
            sector.fill(*byte);
        }
        self.file.write_all_at(buffer.bytes(), lba * self.sector as u64)?;
        self.file.sync_all()
    }

    /// Writes, and reads back: what was written at once, and all the places at the end.
    fn exercise(&self, exercise: Exercise) -> Outcome<()> {
        let mut there = Vec::new();
        for lba in places(self.sectors) {
            let mut buffer = self.read(lba, PLACE)?;
            there.push(buffer.bytes().to_vec());
        }
        for run in exercise.runs(self.sectors) {
            self.fill(run.lba, &run.bytes)?;
            let place = places(self.sectors).iter().rposition(|&place| place <= run.lba).ok_or("a place")?;
            let start = usize::try_from(run.lba - places(self.sectors)[place])? * self.sector;
            for (number, byte) in run.bytes.iter().enumerate() {
                there[place][start + number * self.sector..][..self.sector].fill(*byte);
            }
            let mut found = self.read(run.lba, run.bytes.len() as u64)?;
            if found.bytes() != &there[place][start..][..run.bytes.len() * self.sector] {
                return Err(format!("{run:?} reads otherwise").into());
            }
        }
        for (lba, there) in places(self.sectors).into_iter().zip(there) {
            if self.read(lba, PLACE)?.bytes() != there {
                return Err(format!("sectors {lba} to {} do not read as written", lba + PLACE - 1).into());
            }
        }
        Ok(())
    }
}

/// Makes an ext4 with a file in it, checks it, and reads the file again.
fn file_system(dev: &str) -> Outcome<()> {
    let (device, mnt, file) = (format!("/dev/{dev}"), "/mnt", "/mnt/file");
    let content: Vec<u8> = (0..1_u32 << 18).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    command("/bin/mke2fs", &["-q", "-F", "-t", "ext4", &device])?;
    mount(Some(device.as_str()), mnt, Some("ext4"), MsFlags::empty(), None::<&str>)?;
    fs::write(file, &content)?;
    umount(mnt)?;
    command("/bin/e2fsck", &["-fn", &device])?;
    mount(Some(device.as_str()), mnt, Some("ext4"), MsFlags::MS_RDONLY, None::<&str>)?;
    let found = fs::read(file)?;
    umount(mnt)?;
    if found == content { Ok(()) } else { Err("the file reads otherwise than it was written".into()) }
}

fn command(program: &str, words: &[&str]) -> Outcome<()> {
    let output = Command::new(program).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {words:?}: {text}").into())
}

fn arenas(device: &str) -> Outcome<Vec<Vec<(String, String)>>> {
    let mut arenas = Vec::new();
    loop {
        let Ok(files) = fs::read_dir(format!("/sys/kernel/debug/btt/{device}/arena{}", arenas.len())) else {
            return Ok(arenas);
        };
        let mut values = Vec::new();
        for file in files {
            let file = file?;
            let value = fs::read_to_string(file.path())?.trim().to_owned();
            values.push((file.file_name().to_string_lossy().into_owned(), value));
        }
        values.sort();
        arenas.push(values);
    }
}
