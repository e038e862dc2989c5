//! From power-on to the first Connect that is answered, by a host beside QEMU that asks again and again.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use bench::initiator::{self, ANY_CONTROLLER, INIT_BYTES};
use tests::linux::{Consumer, HOST_NQN, TargetNetwork};
use tests::place::Place;

use crate::machines::{Peer, appliance};

/// The sizes of memory that are tried.
pub(crate) const MEBIBYTES: [u64; 11] = [256, 192, 128, 112, 96, 80, 64, 48, 32, 24, 16];

/// How often a connection is tried, and how many of them are waited for at a time.
const PAUSE: Duration = Duration::from_millis(20);
const TRIES: usize = 16;

/// The longest that a machine may take that has all the memory that it may want, and another one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(12);

/// The address that QEMU's `user` network gives a guest, and passes connections on to.
const ADDRESS: &str = "10.0.2.15";

/// The subsystem that is asked for: discovery's, which both have.
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Boots one and returns how long it took to answer; `None`: it did not.
pub(crate) fn time(
    peer: Peer,
    place: &Place,
    media: &Path,
    cpus: u16,
    mebibytes: u64,
    patience: Duration,
) -> Option<Duration> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free");
    let port = free.port();
    let netdev = format!("user,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:4420");
    let network = TargetNetwork { netdev: &netdev, address: ADDRESS };
    let asker = thread::spawn(move || ask(port, patience));
    // A machine dies with the thread that started it: so it is this one.
    let asked = || asker.join().expect("the asker ends");
    match peer {
        Peer::Untorn => {
            let running = appliance(media, network, cpus, mebibytes).start();
            let answered = asked().map(|at| at.saturating_duration_since(started(running.process())));
            running.cut();
            answered
        }
        Peer::Linux => {
            let begun = Instant::now();
            let _machine = Consumer::start_target(media, network, cpus, &place.at("power-on"), mebibytes);
            asked().map(|at| at.saturating_duration_since(begun))
        }
    }
}

/// Asks again and again, and returns when the first answer came.
fn ask(port: u16, patience: Duration) -> Option<Instant> {
    let begun = Instant::now();
    let words = [initiator::init_request(), initiator::connect(DISCOVERY, HOST_NQN, 0, ANY_CONTROLLER)].concat();
    let mut asked: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    while begun.elapsed() < patience {
        // QEMU takes each connection, whether there is a guest or not.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port))
            && stream.write_all(&words).is_ok()
        {
            stream.set_nonblocking(true).expect("a socket may be so");
            asked.push((stream, Vec::new()));
            if asked.len() > TRIES {
                asked.remove(0);
            }
        }
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            asked.retain_mut(|(stream, received)| {
                let mut bytes = [0; 512];
                match stream.read(&mut bytes) {
                    Ok(0) => false,
                    Ok(count) => {
                        received.extend_from_slice(&bytes[..count]);
                        true
                    }
                    Err(why) => why.kind() == ErrorKind::WouldBlock,
                }
            });
            if asked.iter().any(|(_, received)| is_answered(received)) {
                return Some(Instant::now());
            }
            sleep(PAUSE / 20);
        }
    }
    None
}

/// ICResp and a reply to Connect that says yes.
fn is_answered(received: &[u8]) -> bool {
    let reply = received.get(INIT_BYTES..).and_then(initiator::next);
    reply.is_some_and(|reply| reply.kind == initiator::RESPONSE && reply.status == 0)
}

/// When a process was started, to 10 ms.
fn started(process: u32) -> Instant {
    let first = |path: String| fs::read_to_string(path).ok();
    let uptime = first("/proc/uptime".into()).and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let stat = first(format!("/proc/{process}/stat"));
    // Field 22 of all is the 20th behind its name.
    let ticks = stat.and_then(|stat| stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse::<f64>().ok());
    let age = uptime.zip(ticks).map_or(0.0, |(uptime, ticks)| uptime - ticks / 100.0);
    Instant::now().checked_sub(Duration::from_secs_f64(age.max(0.0))).unwrap_or_else(Instant::now)
}
