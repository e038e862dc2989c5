//! The jobs that are under way ([`service::admin::job`]): each is a coroutine of CPU 0, which lets one after the other make a
//! step where others have their turn.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, Ordering};

use service::admin::Outcome;
use service::admin::job::{JOBS_MAX, JobAdmin, JobWork, Pauses, Ticket};
use service::error::AdminError;
use service::link::LinkNumber;
use service::progress::Progress;
use spin::Mutex;

use super::coroutine::{Coroutine, CoroutineBody};
use super::{Machine, Node};

/// The jobs. CPU 0's alone.
#[derive(Default)]
pub(super) struct Jobs(Mutex<List>);

#[derive(Default)]
struct List {
    jobs: Vec<Job>,
    /// The place of the one that has its turn next.
    next: usize,
}

impl List {
    /// Takes the next one that goes on, with its place.
    fn take_next(&mut self) -> Option<(usize, Box<dyn Coroutine>)> {
        let count = self.jobs.len();
        let place =
            (self.next..self.next + count).map(|at| at % count).find(|at| self.jobs[*at].coroutine.is_some())?;
        self.next = place + 1;
        Some((place, self.jobs[place].coroutine.take()?))
    }
}

struct Job {
    ticket: Ticket,
    /// `None` while it goes on, and when it has ended.
    coroutine: Option<Box<dyn Coroutine>>,
    shared: Arc<Shared>,
    /// Whether its reply is for nobody.
    is_forgotten: bool,
}

/// What a job and the list share.
#[derive(Default)]
struct Shared {
    /// Whether it is to end.
    ends: AtomicBool,
    /// Its outcome, once it has ended.
    outcome: Mutex<Option<Result<Outcome, AdminError>>>,
}

/// What a job does between two steps.
struct JobPauses<'a> {
    shared: &'a Shared,
    pause: &'a (dyn Fn() + Sync),
}

impl Pauses for JobPauses<'_> {
    fn pause(&self, _: &Progress<'_>) -> ControlFlow<()> {
        (self.pause)();
        if self.shared.ends.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Jobs {
    /// Lets a job make a step, in turns. Returns whether one is under way.
    pub(super) fn step(&self) -> bool {
        let Some((place, mut coroutine)) = self.0.lock().take_next() else { return false };
        // No lock is held over a step. The list changes between steps alone.
        let goes_on = coroutine.resume();
        let List { jobs, .. } = &mut *self.0.lock();
        if goes_on {
            jobs[place].coroutine = Some(coroutine);
        }
        jobs.retain(|job| job.coroutine.is_some() || !job.is_forgotten);
        jobs.iter().any(|job| job.coroutine.is_some())
    }

    /// Lets all end, and goes on with them until they have.
    pub(super) fn end_all(&self) {
        self.0.lock().jobs.iter().for_each(|job| job.shared.ends.store(true, Ordering::Relaxed));
        while self.step() {}
    }
}

impl<M: Machine> JobAdmin for Node<M> {
    fn has_room(&self) -> bool {
        self.jobs.0.lock().jobs.len() < JOBS_MAX && self.machine.has_stack()
    }

    fn begin(&self, ticket: Ticket, work: JobWork<Outcome>) {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let body: CoroutineBody = Box::new(move |pause| {
            let outcome = work(&JobPauses { shared: &its, pause });
            *its.outcome.lock() = Some(outcome);
        });
        let coroutine = Some(self.machine.coroutine(body));
        self.jobs.0.lock().jobs.push(Job { ticket, coroutine, shared, is_forgotten: false });
    }

    fn ended(&self, link: LinkNumber) -> Option<(Ticket, Result<Outcome, AdminError>)> {
        let jobs = &mut self.jobs.0.lock().jobs;
        let is_it = |job: &Job| job.ticket.link == link && !job.is_forgotten && job.shared.outcome.lock().is_some();
        let place = jobs.iter().position(is_it)?;
        let Job { ticket, shared, .. } = jobs.remove(place);
        let outcome = shared.outcome.lock().take()?;
        Some((ticket, outcome))
    }

    fn end(&self, link: LinkNumber, number: &str) {
        for job in &self.jobs.0.lock().jobs {
            if job.ticket.link == link && job.ticket.number == number {
                job.shared.ends.store(true, Ordering::Relaxed);
            }
        }
    }

    fn forget(&self, link: LinkNumber) {
        let jobs = &mut self.jobs.0.lock().jobs;
        jobs.retain(|job| job.ticket.link != link || job.coroutine.is_some());
        for job in jobs.iter_mut().filter(|job| job.ticket.link == link) {
            job.shared.ends.store(true, Ordering::Relaxed);
            job.is_forgotten = true;
        }
    }
}
