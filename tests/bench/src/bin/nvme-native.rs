//! Where the time of an NVMe/TCP operation goes, without a machine: `untorn-target`'s server on a loopback address, and its
//! parts by themselves.
//!
//! `nvme-native [--mib 256] [--seconds 0.5] [--rounds 5]`
//!
//! Prints microseconds of one operation of 4096 bytes, random reads and writes, the median of the rounds with the least and
//! the most. The parts, each alone on one thread:
//!
//! | part | is |
//! |---|---|
//! | copy | 4096 bytes between memory and a place of the file's size in memory: the limit |
//! | disk | the BTT on the file, by the target's storage: the map, the commit, the system calls; the copy included |
//! | protocol | commands in, replies out, in memory, by the target's connection over a disk that does nothing |
//! | TCP | the same bytes over loopback, between two threads that only read and write them |
//! | whole | the server, as a process, and a host that waits for each reply, or keeps 32 commands under way |
//!
//! `server` is the CPU time of the server in a whole operation. The file is under /dev/shm, where `fdatasync` is
//! a system call and no more.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bench::initiator::{self, ANY_CONTROLLER, DATA, INIT_BYTES, Pdu, RESPONSE};
use clap::Parser;
use nvmf::{Allowed, Connection, DiskId, Endpoint, Lba, Millis, Nqn, Random, SectorBytes, Settings, Storage};
use nvmf::{StorageError, Target};
use service::pattern::Choices;
use untorn_target::disk::Disk;
use untorn_target::disks::Disks;
use untorn_target::server::Server;
use uuid::Uuid;

/// Measures what an NVMe/TCP operation costs without a machine.
#[derive(Debug, Parser)]
struct Options {
    /// The file's size, MiB
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// How long each part is measured
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only serves this file, until it is killed
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

const SECTOR: usize = 4096;
const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:0b06833d-0000-4000-8000-000000000001";

/// The bytes of a command, of the header of data, and of a reply without data.
const COMMAND_BYTES: usize = 72;
const REPLY_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

impl Way {
    /// The bytes of an operation, to the target and back.
    const fn bytes(self) -> (usize, usize) {
        match self {
            Self::Read => (COMMAND_BYTES, REPLY_BYTES + SECTOR),
            Self::Write => (COMMAND_BYTES + SECTOR, REPLY_BYTES),
        }
    }

    fn command(self, cid: u16, lba: u64, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Read => initiator::read(cid, lba, 4096),
            Self::Write => initiator::write(cid, lba, data),
        }
    }
}

/// A disk that does nothing.
struct Nothing;

impl Storage for Nothing {
    fn read(&mut self, _: DiskId, _: Lba, _: &mut [u8]) -> Result<(), StorageError> {
        Ok(())
    }

    fn write_all(&mut self, _: DiskId, writes: &[nvmf::Write<'_>], done: &mut dyn FnMut(Result<(), StorageError>)) {
        writes.iter().for_each(|_| done(Ok(())));
    }

    fn compare_and_write(&mut self, _: DiskId, _: Lba, _: &[u8], _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }

    fn write_zeroes(&mut self, _: DiskId, _: Lba, _: u64) -> Result<(), StorageError> {
        Ok(())
    }

    fn deallocate(&mut self, _: DiskId, _: Lba, _: u64) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A file under /dev/shm, removed when it is dropped.
struct Shared(PathBuf);

impl Drop for Shared {
    fn drop(&mut self) {
        // It may be gone.
        let _ = fs::remove_file(&self.0);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if let Some(file) = &options.serve {
        return serve(file);
    }
    let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load at the start: {}", load().trim());
    let file = Shared(PathBuf::from(format!("/dev/shm/untorn-nvme-native-{}", std::process::id())));
    OpenOptions::new().write(true).create_new(true).open(&file.0)?.set_len(options.mib << 20)?;
    fill(&file.0)?;
    let mut rows: Vec<(String, Vec<f64>)> = Vec::new();
    let mut note = |name: &str, us: f64| match rows.iter_mut().find(|(known, _)| known == name) {
        Some((_, values)) => values.push(us),
        None => rows.push((name.to_owned(), vec![us])),
    };
    let time = Duration::from_secs_f64(options.seconds);
    for _ in 0..options.rounds {
        for way in [Way::Read, Way::Write] {
            let named = |part: &str| format!("{way:?} {part}").to_lowercase();
            note(&named("copy"), copy(way, options.mib << 20, time));
            note(&named("disk"), disk(way, &file.0, time, 1)?);
            note(&named("disk, 32 together"), disk(way, &file.0, time, 32)?);
            for depth in [1, 32] {
                note(&named(&format!("protocol, depth {depth}")), protocol(way, &file.0, time, depth)?);
                note(&named(&format!("tcp, depth {depth}")), tcp(way, time, depth)?);
                let (whole, server) = whole(way, &file.0, time, depth)?;
                note(&named(&format!("whole, depth {depth}")), whole);
                note(&named(&format!("server, depth {depth}")), server);
            }
        }
    }
    println!("load at the end: {}\n\n| us of an operation | median | least | most |\n|---|---|---|---|", load().trim());
    for (name, mut values) in rows {
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        println!("| {name} | {median:.2} | {:.2} | {:.2} |", values[0], values[values.len() - 1]);
    }
    Ok(())
}

/// Runs an operation again and again, and returns the microseconds of one.
fn timed(time: Duration, mut operation: impl FnMut() -> Result<u64, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        for _ in 0..16 {
            count += operation()?;
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
}

fn copy(way: Way, bytes: u64, time: Duration) -> f64 {
    let mut memory = vec![1_u8; usize::try_from(bytes).expect("it fits memory")];
    let (mut buffer, mut choices) = (vec![2_u8; SECTOR], Choices::new(1, 0));
    let copied = timed(time, || {
        let at = usize::try_from(choices.below(bytes / SECTOR as u64)).expect("in memory") * SECTOR;
        match way {
            Way::Read => buffer.copy_from_slice(&memory[at..at + SECTOR]),
            Way::Write => memory[at..at + SECTOR].copy_from_slice(&buffer),
        }
        black_box(&mut buffer);
        Ok(1)
    });
    copied.expect("a copy does not fail")
}

fn open(file: &Path) -> Result<Disks, Box<dyn Error>> {
    Ok(Disks(vec![Disk::open(file, Some(SectorBytes::B4096), false)?]))
}

/// Writes to all blocks that sectors and free ones have, so that no page is new to the file later.
fn fill(file: &Path) -> Result<(), Box<dyn Error>> {
    let mut disks = open(file)?;
    let data = vec![1; 32 * SECTOR];
    for _ in 0..2 {
        for first in (0..disks.0[0].btt.capacity_sectors() - 32).step_by(32) {
            let mut outcome = Ok(());
            let write = nvmf::Write { first: Lba(first), data: &data };
            disks.write_all(DiskId(0), &[write], &mut |done| outcome = outcome.and(done));
            outcome?;
        }
    }
    Ok(())
}

fn disk(way: Way, file: &Path, time: Duration, together: usize) -> Result<f64, Box<dyn Error>> {
    let mut disks = open(file)?;
    let sectors = disks.0[0].btt.capacity_sectors();
    let (mut buffer, mut choices) = (vec![2_u8; SECTOR], Choices::new(1, 0));
    timed(time, || {
        match way {
            Way::Read => {
                for _ in 0..together {
                    disks.read(DiskId(0), Lba(choices.below(sectors)), &mut buffer)?;
                }
            }
            Way::Write => {
                let mut writes = Vec::new();
                for _ in 0..together {
                    writes.push(nvmf::Write { first: Lba(choices.below(sectors)), data: &buffer });
                }
                let mut outcome = Ok(());
                disks.write_all(DiskId(0), &writes, &mut |done| outcome = outcome.and(done));
                outcome?;
            }
        }
        Ok(together as u64)
    })
}

/// A target that serves the disk to all.
fn target(disks: &Disks) -> Result<(Target, String), Box<dyn Error>> {
    let random = Random::new(untorn_target::random::fill);
    let settings = Settings { connections: 8, controller_ids: 1..=100, uuid: Uuid::from_u128(1), random };
    let target = Target::new(settings, Millis(0));
    let namespace = disks.0[0].namespace(DiskId(0));
    let nqn = Nqn::of_uuid(&namespace.uuid);
    target.export(nqn.clone(), namespace).map_err(|why| why.to_string())?;
    target.allow(Allowed::Any, None, None);
    Ok((target, nqn.to_string()))
}

/// A connection in memory.
struct InMemory<'a> {
    target: &'a Target,
    connection: Connection,
    room: Vec<u8>,
}

impl<'a> InMemory<'a> {
    fn open(target: &'a Target) -> Result<Self, Box<dyn Error>> {
        let endpoint = Endpoint { address: Ipv4Addr::LOCALHOST.into(), port: 4420 };
        let connection = Connection::accept(target, endpoint, Millis(0)).ok_or("no connection")?;
        Ok(Self { target, connection, room: vec![0; 256 << 10] })
    }

    /// Sends bytes, and returns what comes back.
    fn exchange(&mut self, mut bytes: &[u8]) -> &[u8] {
        let mut made = 0;
        loop {
            let taken = self.connection.input(self.target, bytes, Millis(0));
            bytes = &bytes[taken..];
            let more = self.connection.step(self.target, &mut Nothing, Millis(0));
            made += self.connection.output(&mut Nothing, &mut self.room[made..]);
            if bytes.is_empty() && !more && !self.connection.has_output() {
                return &self.room[..made];
            }
        }
    }
}

fn protocol(way: Way, file: &Path, time: Duration, depth: u16) -> Result<f64, Box<dyn Error>> {
    let disks = open(file)?;
    let sectors = disks.0[0].btt.capacity_sectors();
    let (target, nqn) = target(&disks)?;
    let mut admin = InMemory::open(&target)?;
    admin.exchange(&initiator::init_request());
    let controller = controller(admin.exchange(&initiator::connect(&nqn, HOST, 0, ANY_CONTROLLER)))?;
    admin.exchange(&initiator::enable());
    let mut queue = InMemory::open(&target)?;
    queue.exchange(&initiator::init_request());
    queue.exchange(&initiator::connect(&nqn, HOST, 1, controller));
    let data = vec![2; SECTOR];
    // Made before: the host's work is not measured.
    let mut choices = Choices::new(1, 0);
    let commands: Vec<u8> = (0..depth).flat_map(|cid| way.command(cid, choices.below(sectors), &data)).collect();
    let expected = way.bytes().1 * usize::from(depth);
    timed(time, || match queue.exchange(&commands).len() {
        bytes if bytes == expected => Ok(depth.into()),
        bytes => Err(format!("{bytes} bytes came back").into()),
    })
}

/// The controller that a reply to Connect names.
fn controller(reply: &[u8]) -> Result<u16, Box<dyn Error>> {
    match initiator::next(reply) {
        Some(Pdu { kind: RESPONSE, status: 0, .. }) => Ok(u16::from_le_bytes([reply[8], reply[9]])),
        other => Err(format!("Connect was answered by {other:?}").into()),
    }
}

/// Two threads that pass on as many bytes as an operation has.
fn tcp(way: Way, time: Duration, depth: u16) -> Result<f64, Box<dyn Error>> {
    let (there, back) = way.bytes();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
    }
    let depth = usize::from(depth);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            let (mut waiting, mut reply) = (0, vec![0; back * depth]);
            reply.fill(3);
            while let Ok(got @ 1..) = far.read(&mut buffer) {
                waiting += got;
                let whole = waiting / there;
                waiting -= whole * there;
                if far.write_all(&reply[..whole * back]).is_err() {
                    return;
                }
            }
        });
        let (request, mut reply) = (vec![1; there * depth], vec![0; 256 << 10]);
        near.write_all(&request)?;
        let mut waiting = 0;
        let took = timed(time, || {
            waiting += near.read(&mut reply)?;
            let whole = waiting / back;
            waiting -= whole * back;
            near.write_all(&request[..whole * there])?;
            Ok(whole as u64)
        });
        drop(near);
        took
    })
}

/// A host's socket.
struct Queue {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Queue {
    fn open(address: &str) -> Result<Self, Box<dyn Error>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut queue = Self { socket, received: Vec::new() };
        queue.socket.write_all(&initiator::init_request())?;
        let mut reply = [0; INIT_BYTES];
        queue.socket.read_exact(&mut reply)?;
        Ok(queue)
    }

    fn command(&mut self, command: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        self.socket.write_all(command)?;
        let mut reply = vec![0; REPLY_BYTES];
        self.socket.read_exact(&mut reply)?;
        Ok(reply)
    }

    /// Waits for bytes, and returns the commands that are done.
    fn done(&mut self, buffer: &mut [u8]) -> Result<Vec<u16>, Box<dyn Error>> {
        let got = self.socket.read(buffer)?;
        if got == 0 {
            return Err("the target is gone".into());
        }
        self.received.extend_from_slice(&buffer[..got]);
        let (mut at, mut done) = (0, Vec::new());
        while let Some(pdu) = initiator::next(&self.received[at..]) {
            at += pdu.bytes;
            match pdu {
                Pdu { kind: DATA, cid, .. } | Pdu { kind: RESPONSE, status: 0, cid, .. } => done.push(cid),
                other => return Err(format!("{other:?}").into()),
            }
        }
        self.received.drain(..at);
        Ok(done)
    }
}

/// The server, as a process of its own: it serves until it is killed, which it is when this is dropped.
struct Serving {
    process: Child,
    address: String,
    nqn: String,
}

impl Serving {
    fn start(file: &Path) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("--serve").arg(file).stdout(Stdio::piped()).spawn()?;
        let out = process.stdout.take().ok_or("it is piped")?;
        let mut serving = Self { process, address: String::new(), nqn: String::new() };
        let mut lines = BufReader::new(out).lines();
        for word in [&mut serving.address, &mut serving.nqn] {
            *word = lines.next().ok_or("the server ended")??;
        }
        Ok(serving)
    }

    /// The CPU time of its only thread, in microseconds.
    fn cpu_us(&self) -> Result<f64, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.process.id()))?;
        Ok(text.split(' ').next().ok_or("no time")?.parse::<f64>()? / 1000.0)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves a file to all, and prints where and under which name.
fn serve(file: &Path) -> Result<(), Box<dyn Error>> {
    let disks = open(file)?;
    let (target, nqn) = target(&disks)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}\n{nqn}", listener.local_addr()?);
    Server::new(target, disks, vec![listener], None)?.run()?;
    Ok(())
}

/// A server and a host. Returns microseconds, and those of the server's CPU time.
fn whole(way: Way, file: &Path, time: Duration, depth: u16) -> Result<(f64, f64), Box<dyn Error>> {
    let sectors = open(file)?.0[0].btt.capacity_sectors();
    let serving = Serving::start(file)?;
    let mut admin = Queue::open(&serving.address)?;
    let controller = controller(&admin.command(&initiator::connect(&serving.nqn, HOST, 0, ANY_CONTROLLER))?)?;
    admin.command(&initiator::enable())?;
    let mut queue = Queue::open(&serving.address)?;
    queue.command(&initiator::connect(&serving.nqn, HOST, 1, controller))?;
    let (data, mut buffer) = (vec![2; SECTOR], vec![0; 256 << 10]);
    let mut choices = Choices::new(1, 0);
    let mut request = Vec::new();
    (0..depth).for_each(|cid| request.extend(way.command(cid, choices.below(sectors), &data)));
    queue.socket.write_all(&request)?;
    let (before, mut count) = (serving.cpu_us()?, 0);
    let took = timed(time, || {
        let done = queue.done(&mut buffer)?;
        request.clear();
        done.iter().for_each(|cid| request.extend(way.command(*cid, choices.below(sectors), &data)));
        queue.socket.write_all(&request)?;
        count += done.len();
        Ok(done.len() as u64)
    })?;
    Ok((took, (serving.cpu_us()? - before) / count as f64))
}
