//! The process: what was acknowledged is there after it was killed; who may connect; which files it takes.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test ends where it is surprised")]

// The host that proves nvmf: here its bytes go by TCP.
#[path = "../../nvmf/tests/common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::host::{self, Reply, Sqe, connect, icreq, io, property_set, take_replies};
use common::{DISCOVERY, HOST};

const PROGRAM: &str = env!("CARGO_BIN_EXE_untorn-target");

/// The longest that a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

const READ: u8 = 2;
const WRITE: u8 = 1;

/// A file that goes with the test.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, mib: u64) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        File::create(&path).unwrap().set_len(mib << 20).unwrap();
        Self(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The process, which is killed when it is dropped.
struct Process {
    child: Child,
    nqn: String,
    sectors: u64,
    address: String,
}

impl Process {
    fn start(image: &Image, options: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--listen", "127.0.0.1:0"]).args(options).arg(&image.0).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let disk = lines.next().expect("a line for the disk");
        let (nqn, rest) = disk.split_once(": ").unwrap();
        let words: Vec<_> = rest.split(' ').collect();
        let sectors = words[1].parse().unwrap_or_else(|_| panic!("{disk}"));
        let listens = lines.next().expect("a line for the socket");
        let address = listens.strip_prefix("listening on ").unwrap().to_owned();
        Self { child, nqn: nqn.to_owned(), sectors, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection by TCP.
struct Wire {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    fn open(process: &Process) -> Self {
        let socket = TcpStream::connect(&process.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = Self { socket, received: Vec::new() };
        wire.socket.write_all(&icreq(0, 0, 3)).unwrap();
        // ICResp has no digests: what follows does.
        assert!(matches!(wire.replies(0).unwrap()[..], [Reply::Init { digests: 3, .. }]));
        wire
    }

    /// The next replies; `None` when the connection is gone.
    fn replies(&mut self, digests: u8) -> Option<Vec<Reply>> {
        loop {
            let replies = take_replies(&mut self.received, digests, 4);
            if !replies.is_empty() {
                return Some(replies);
            }
            let mut piece = [0; 1 << 16];
            match self.socket.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn send(&mut self, command: Sqe, data: &[u8]) -> Option<()> {
        self.socket.write_all(&host::pdu(4, 0, &command.0, data, 3)).ok()
    }

    /// A command to its end: status, result, data.
    fn command(&mut self, command: Sqe, data: &[u8]) -> Option<(u16, u64, Vec<u8>)> {
        self.send(command, data)?;
        let mut read = Vec::new();
        loop {
            for reply in self.replies(3)? {
                match reply {
                    Reply::Data { data, .. } => read.extend_from_slice(&data),
                    Reply::End { status, result, .. } => return Some((status, result, read)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// A queue of a subsystem: its status and its controller.
    fn connect(&mut self, nqn: &str, name: &str, qid: u16, cntlid: u16) -> (u16, u16) {
        let (command, data) = connect(nqn, name, qid, cntlid, 5000, 0);
        let (status, result, _) = self.command(command, &data).expect("Connect has a reply");
        (status, result as u16)
    }
}

/// An admin queue and an I/O queue.
fn queues(process: &Process) -> (Wire, Wire) {
    let (mut admin, mut queue) = (Wire::open(process), Wire::open(process));
    let (status, id) = admin.connect(&process.nqn, HOST, 0, 0xffff);
    assert_eq!(status, 0);
    assert_eq!(admin.command(property_set(1, 0x14, 0x46_0001), &[]).unwrap().0, 0);
    assert_eq!(queue.connect(&process.nqn, HOST, 1, id).0, 0);
    (admin, queue)
}

/// Runs it to its end.
fn run(image: &Image, options: &[&str]) -> Output {
    Command::new(PROGRAM).args(["--listen", "127.0.0.1:0"]).args(options).arg(&image.0).output().unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    const SECTORS: u64 = 24;
    let image = Image::new("kill", 32);
    let mut process = Process::start(&image, &["--format", "512", "--allow", HOST]);
    // The last version of each sector that was acknowledged, and the last that was sent.
    let (mut acknowledged, mut sent) = ([0_u64; SECTORS as usize], [0_u64; SECTORS as usize]);
    let mut version = 0;
    for round in 0..6 {
        let (_admin, mut queue) = queues(&process);
        for lba in 0..SECTORS {
            let (status, _, data) = queue.command(io(READ, 1, lba, 1), &[]).unwrap();
            let words: Vec<_> = data.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            assert!(status == 0 && words.len() == 64);
            assert!(words.iter().all(|word| *word == words[0]), "sector {lba} is torn: {words:?}");
            let (least, most) = (acknowledged[lba as usize], sent[lba as usize]);
            assert!((least..=most).contains(&words[0]), "sector {lba}: {} is not in {least}..={most}", words[0]);
            // From now on this is what is there.
            acknowledged[lba as usize] = words[0];
        }
        // Sixteen writes are on their way all the time, of one to three sectors, each sector by one of them at a time.
        let mut flying = Vec::new();
        for number in 0..300 + round * 37 {
            let place = number % 16;
            version += 1;
            let (first, count) = if place < 8 { (place * 2, 2) } else { (8 + place, 1) };
            flying.push((number as u16, first, count, version));
            (first..first + count).for_each(|lba| sent[lba as usize] = version);
            let data = version.to_le_bytes().repeat(64 * count as usize);
            queue.send(io(WRITE, number as u16, first, count as u32).carries(data.len() as u32), &data).unwrap();
            while flying.len() > 15 {
                for reply in queue.replies(3).unwrap() {
                    let Reply::End { cid, status: 0, .. } = reply else { panic!("{reply:?}") };
                    let at = flying.iter().position(|(number, ..)| *number == cid).unwrap();
                    let (_, first, count, version) = flying.remove(at);
                    (first..first + count).for_each(|lba| acknowledged[lba as usize] = version);
                }
            }
        }
        process.kill();
        process = Process::start(&image, &["--allow", HOST]);
    }
}

#[test]
fn only_hosts_that_are_named_may_connect() {
    let image = Image::new("hosts", 32);
    let process = Process::start(&image, &["--format", "4096", "--allow", "nqn.good"]);
    let mut wire = Wire::open(&process);
    assert_eq!(wire.connect(&process.nqn, HOST, 0, 0xffff).0, 0x4184);
    assert_eq!(wire.connect(&process.nqn, "nqn.good", 0, 0xffff).0, 0);
    let mut stranger = Wire::open(&process);
    assert_eq!(stranger.connect(DISCOVERY, HOST, 0, 0xffff).0, 0);
    stranger.command(property_set(1, 0x14, 0x46_0001), &[]).unwrap();
    let (status, _, log) = stranger.command(host::log(2, 0x70, 1024, 0), &[]).unwrap();
    assert_eq!((status, log[8]), (0, 0), "and sees nothing");
}

#[test]
fn a_file_keeps_its_name_and_serves_one_process() {
    let image = Image::new("name", 32);
    let mut process = Process::start(&image, &["--format", "4096", "--allow", "any"]);
    let second = run(&image, &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process serves it"), "{second:?}");
    let (nqn, sectors) = (process.nqn.clone(), process.sectors);
    let (_admin, mut queue) = queues(&process);
    let last = Sqe::new(WRITE, 1, 1).dword(10, sectors as u32 - 1).carries(4096);
    assert_eq!(queue.command(last, &[0x42; 4096]).unwrap().0, 0);
    process.kill();
    // Also if it is to be formatted: it is not blank any more.
    let process = Process::start(&image, &["--format", "512", "--allow", "any", "--read-only"]);
    assert_eq!((&process.nqn, process.sectors), (&nqn, sectors));
    let before = fs::read(&image.0).unwrap();
    let (_admin, mut queue) = queues(&process);
    let read = Sqe::new(READ, 1, 1).dword(10, sectors as u32 - 1).moves(4096);
    assert_eq!(queue.command(read, &[]).unwrap(), (0, 0, vec![0x42; 4096]));
    assert_eq!(queue.command(last, &[0; 4096]).unwrap().0, 0x4020);
    assert!(fs::read(&image.0).unwrap() == before, "nothing of the file is changed");
}

#[test]
fn files_that_cannot_be_served_are_refused_with_the_reason() {
    let small = "too small for a BTT: 1048576 of 16781312 bytes";
    for (options, reason) in [(&[][..], "--format 4096 lays a BTT on it"), (&["--format", "4096"], small)] {
        let image = Image::new("small", 1);
        let output = run(&image, options);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
    // What is not blank is left as it is.
    let image = Image::new("filled", 32);
    File::options().write(true).open(&image.0).unwrap().write_all_at(b"something", 5000).unwrap();
    let before = fs::read(&image.0).unwrap();
    assert_eq!(run(&image, &["--format", "4096"]).status.code(), Some(1));
    assert!(fs::read(&image.0).unwrap() == before);
    for wrong in [
        &["--format", "520"][..],
        &["--allow", ""],
        &["--allow", "foo"],
        &["--allow", "nqn.a,nqn.b"],
        &["--listen", "nowhere"],
    ] {
        assert_eq!(run(&image, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_host_that_does_not_read_does_not_keep_others_waiting() {
    let image = Image::new("stalled", 32);
    let process = Process::start(&image, &["--format", "4096", "--allow", "any"]);
    let (_admin, mut stalled) = queues(&process);
    // 16 MiB of data that are not read: more than the sockets hold.
    for cid in 0..127 {
        stalled.send(Sqe::new(READ, cid, 1).dword(12, 31).moves(128 << 10), &[]).unwrap();
    }
    let (_admin, mut queue) = queues(&process);
    assert_eq!(queue.command(Sqe::new(READ, 1, 1).moves(4096), &[]).unwrap().0, 0);
    // And it gets all of them when it reads again.
    let (mut bytes, mut ends) = (0, 0);
    while ends < 127 {
        for reply in stalled.replies(3).unwrap() {
            match reply {
                Reply::Data { data, .. } => bytes += data.len(),
                Reply::End { status: 0, .. } => ends += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(bytes, 127 * (128 << 10));
}
