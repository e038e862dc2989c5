//! Pages over the network: for Prometheus and for people, read-only, where the key `metrics` names a port.
//!
//! | part | does | runs on |
//! |---|---|---|
//! | this | makes the pages that are asked for, from what the node is then | CPU 0, between two of its looks at the console |
//! | [`PagesOn`] | is what an interface's server serves (`net::http`) | the interface's CPU |
//!
//! | what | written by | read by | how |
//! |---|---|---|---|
//! | `port` | CPU 0 | an interface's CPU | relaxed: a number |
//! | `wanted` | an interface's CPU | CPU 0 | release, acquire: who asks finds the page made after that |
//! | `pages` | CPU 0 | an interface's CPU | lock, held to take or put a reference |
//!
//! However many ask, a page is made [`FRESH_NS`] after the one before at the earliest, and all have the same bytes.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use btt::CpuIndex;
use net::http::server::{Answer, Body, Server, Site};
use net::tcp::Service;
use service::error::AdminError;
use service::web::{Made, Page};
use spin::Mutex;

use super::export::{Clock, Waker};
use super::nvme;
use super::{Machine, Node};

/// How old a page may be for one who asks.
const FRESH_NS: u64 = 500_000_000;

/// The CPU that makes the pages.
const MAKER: CpuIndex = CpuIndex(0);

/// The part of the heap that a page may take, within these bounds. Of each page some are alive at a time: one that is asked for,
/// and one for each client that has not taken its own.
const HEAP_SHARE: u64 = 256;
const BYTES_MIN: u64 = 128 << 10;
const BYTES_MAX: u64 = 4 << 20;

/// The pages that are made anew.
const MADE: usize = Made::ALL.len();

/// The port and the pages. Shared by all CPUs.
pub(super) struct Metrics {
    /// 0: off.
    port: AtomicU16,
    /// The pages that are asked for, a bit each.
    wanted: AtomicU8,
    pages: Mutex<[Option<Copy>; MADE]>,
    clock: Arc<dyn Clock>,
    waker: Arc<dyn Waker>,
    bytes_max: usize,
}

/// A page as it was at a time.
#[derive(Clone)]
struct Copy {
    at_ns: u64,
    /// `None`: it would have taken too much memory.
    text: Option<Arc<String>>,
}

impl Metrics {
    /// Serves nothing yet.
    pub(super) fn new(clock: Arc<dyn Clock>, waker: Arc<dyn Waker>, heap_bytes: u64) -> Arc<Self> {
        let bytes_max = (heap_bytes / HEAP_SHARE).clamp(BYTES_MIN, BYTES_MAX);
        Arc::new(Self {
            port: AtomicU16::new(0),
            wanted: AtomicU8::new(0),
            pages: Mutex::new([const { None }; MADE]),
            clock,
            waker,
            bytes_max: usize::try_from(bytes_max).expect("at most BYTES_MAX"),
        })
    }

    /// Returns what serves an interface.
    pub(super) fn service(self: &Arc<Self>) -> Box<dyn Service> {
        Box::new(Server::new(PagesOn(Arc::clone(self))))
    }
}

/// The pages, as an interface's server sees them.
struct PagesOn(Arc<Metrics>);

impl Site for PagesOn {
    fn port(&self) -> Option<u16> {
        Some(self.0.port.load(Ordering::Relaxed)).filter(|port| *port != 0)
    }

    fn page(&mut self, path: &str, asked_ns: u64) -> Answer {
        let made = match Page::at(path) {
            None => return Answer::NotFound,
            Some(Page::Fixed(content_type, text)) => return Answer::Page(content_type, Body::Fixed(text)),
            Some(Page::Made(made)) => made,
        };
        let copy = self.0.pages.lock()[made as usize].clone();
        match copy.filter(|copy| copy.at_ns.saturating_add(FRESH_NS) >= asked_ns) {
            Some(Copy { text: Some(text), .. }) => Answer::Page(made.content_type(), Body::Made(text)),
            Some(Copy { text: None, .. }) => Answer::Unavailable("the page is too large for this machine's memory"),
            None => {
                let bit = 1 << made as u8;
                // Release: pairs with the acquire in `make_pages`.
                if self.0.wanted.fetch_or(bit, Ordering::Release) & bit == 0 {
                    self.0.waker.wake(MAKER);
                }
                Answer::Wait
            }
        }
    }
}

/// Text with a bound on its bytes.
struct Bounded {
    text: String,
    bytes_max: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.text.len() + more.len() > self.bytes_max {
            return Err(fmt::Error);
        }
        self.text.try_reserve(more.len()).map_err(|_| fmt::Error)?;
        self.text.push_str(more);
        Ok(())
    }
}

impl<M: Machine> Node<M> {
    /// Makes the pages that somebody waits for. The caller is CPU 0, holds no lock, and no lane unless it has suspended the
    /// disk.
    pub fn make_pages(&self) {
        let metrics = &self.metrics;
        if metrics.wanted.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Acquire: what is read from here on is as it was when it was asked for, or newer.
        let wanted = metrics.wanted.swap(0, Ordering::Acquire);
        for made in Made::ALL.into_iter().filter(|made| wanted & 1 << *made as u8 != 0) {
            let at_ns = metrics.clock.now_ns();
            // It may have been asked for again while it was made.
            let is_fresh = |copy: &Copy| copy.at_ns.saturating_add(FRESH_NS) > at_ns;
            if metrics.pages.lock()[made as usize].as_ref().is_some_and(is_fresh) {
                continue;
            }
            let mut page = Bounded { text: String::new(), bytes_max: metrics.bytes_max };
            let text = made.write(self, &mut page).is_ok().then(|| Arc::new(page.text));
            metrics.pages.lock()[made as usize] = Some(Copy { at_ns, text });
        }
    }

    /// Serves pages on this port of all interfaces, or on none: half a second from now at the latest.
    ///
    /// # Errors
    /// The port is NVMe/TCP's, or there is no interface.
    pub fn serve_metrics(&self, port: Option<u16>) -> Result<(), AdminError> {
        if let Some(port) = port {
            if nvme::PORTS.contains(&port) {
                return Err(AdminError::usage(format!("{port} is a port of NVMe/TCP")));
            }
            if self.networks.cpus().len() == 0 {
                return Err(AdminError::failed("there is no network interface to serve it on (run-qemu.sh --net)"));
            }
        }
        self.metrics.port.store(port.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }
}
