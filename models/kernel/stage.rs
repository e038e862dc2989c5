//! CPUs that have queues, and what they do with them.

use std::rc::Rc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::checker::Guarded;
use crate::held::{Count, Held};
use crate::mailbox::Reply;

/// A queue.
pub(crate) struct Queue {
    number: u32,
    /// Touched by each step: its CPU before has left it.
    memory: Guarded,
}

/// A CPU's queues.
pub(crate) struct Queues {
    list: Vec<Queue>,
    /// What letters have noted here.
    notes: Vec<u32>,
}

impl Queues {
    fn new(numbers: &[u32]) -> Self {
        let list = numbers.iter().map(|number| Queue { number: *number, memory: Guarded::new() });
        Self { list: list.collect(), notes: Vec::new() }
    }

    pub(crate) fn add(&mut self, number: u32) {
        self.list.push(Queue { number, memory: Guarded::new() });
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Queue> {
        let at = self.list.iter().position(|queue| queue.number == number)?;
        Some(self.list.remove(at))
    }

    pub(crate) fn put(&mut self, queue: Queue) {
        self.list.push(queue);
    }

    /// Notes a number, and returns how many there are.
    pub(crate) fn note(&mut self, number: u32) -> usize {
        self.notes.push(number);
        self.notes.len()
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.list.iter().map(|queue| queue.number).collect()
    }

    /// Serves its queues.
    fn step(&mut self, stage: &Stage) {
        for queue in &self.list {
            queue.memory.write();
            if !stage.is_suspended.load(Ordering::Acquire) {
                stage.disk.read();
            }
        }
    }
}

impl Count for Queues {
    fn count(&self) -> usize {
        self.list.len()
    }
}

/// The queues of all CPUs, and a disk that they serve.
pub(crate) struct Stage {
    pub(crate) stations: Vec<Held<Queues, Stage>>,
    is_suspended: AtomicBool,
    /// Read by each step on a queue, unless it is suspended: nothing else uses it meanwhile.
    disk: Guarded,
}

impl Stage {
    /// CPUs with queues of these numbers. They share it: to loom they are one thread in turn.
    pub(crate) fn new(queues: &[&[u32]]) -> Rc<Self> {
        let stations = queues.iter().map(|numbers| Held::new(Queues::new(numbers))).collect();
        Rc::new(Self { stations, is_suspended: AtomicBool::new(false), disk: Guarded::new() })
    }

    /// A round of so many steps over a CPU's queues, as `Exports::serve` and `Station::poll` do it.
    pub(crate) fn poll(&self, of: usize, steps: u32) {
        let station = &self.stations[of];
        if station.count() == 0 {
            return;
        }
        let Some(mut queues) = station.try_hold() else { return };
        for _ in 0..steps {
            queues.carry_out(self);
            queues.step(self);
        }
    }

    pub(crate) fn ask<R: Send + 'static>(
        &self,
        of: usize,
        what: impl FnOnce(&mut Queues, &Self) -> R + Send + 'static,
    ) -> Reply<R> {
        self.stations[of].ask(self, what)
    }

    /// Looks for a reply once.
    pub(crate) fn reply<R>(&self, of: usize, reply: &Reply<R>) -> Option<R> {
        self.stations[of].reply(self, reply)
    }

    /// Looks for a reply beside CPUs that poll, and once more, if it must, when they have stopped.
    pub(crate) fn wait_for<R>(&self, of: usize, reply: &Reply<R>, pollers: &mut Vec<thread::JoinHandle<()>>) -> R {
        self.reply(of, reply).unwrap_or_else(|| {
            pollers.drain(..).for_each(join);
            self.reply(of, reply).expect("nobody has the queues, so the reply can be had")
        })
    }

    /// Returns what letters have noted with a CPU's queues, and the queues. No other CPU runs.
    pub(crate) fn look(&self, of: usize) -> (Vec<u32>, Vec<u32>) {
        let queues = self.stations[of].try_hold().expect("nobody has them");
        (queues.notes.clone(), queues.numbers())
    }

    /// Moves a queue to another CPU as `Control::balance` does, and returns whether it did: not if a CPU has one of the two
    /// just now.
    pub(crate) fn moves(&self, number: u32, from: usize, to: usize) -> bool {
        let Some(mut giver) = self.stations[from].try_take(self) else { return false };
        let Some(mut taker) = self.stations[to].try_take(self) else { return false };
        let Some(queue) = giver.remove(number) else { return false };
        taker.put(queue);
        true
    }

    /// Suspends the disk as `Exports::suspend` does, and then has it alone. `meanwhile` is done while it waits.
    pub(crate) fn suspend(&self, pollers: &mut Vec<thread::JoinHandle<()>>, meanwhile: impl FnOnce()) {
        self.is_suspended.store(true, Ordering::Release);
        let asked: Vec<_> = (0..self.stations.len()).map(|of| self.ask(of, |_, _| ())).collect();
        meanwhile();
        asked.iter().enumerate().for_each(|(of, reply)| self.wait_for(of, reply, pollers));
        self.disk.write();
    }
}

/// Waits until a CPU stops.
pub(crate) fn join<R>(cpu: thread::JoinHandle<R>) -> R {
    cpu.join().expect("a CPU's failure is the model's")
}
