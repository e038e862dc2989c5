//! Models of two to four CPUs.

use std::rc::Rc;

use loom::thread;

use crate::checker::{Depth, explore};
use crate::stage::{Stage, join};

/// Has another CPU poll the queues of CPU `of` in so many rounds of so many steps.
fn poller(stage: &Rc<Stage>, of: usize, rounds: u32, steps: u32) -> thread::JoinHandle<()> {
    let stage = Rc::clone(stage);
    thread::spawn(move || (0..rounds).for_each(|_| stage.poll(of, steps)))
}

#[test]
fn a_letter_that_comes_as_a_cpu_lets_go_is_found_by_who_looks_again() {
    explore("a letter to a CPU that lets go of its queues", Depth::All, || {
        let stage = Stage::new(&[&[7]]);
        let mut pollers = vec![poller(&stage, 0, 1, 1)];
        let letter = stage.ask(0, |queues, _| queues.note(1));
        assert_eq!(stage.wait_for(0, &letter, &mut pollers), 1);
        pollers.into_iter().for_each(join);
        assert_eq!(stage.look(0).0, [1]);
    });
}

#[test]
fn a_cpu_that_keeps_its_queues_replies_between_two_steps() {
    explore("a letter to a CPU that lets go of nothing", Depth::All, || {
        let stage = Stage::new(&[&[7]]);
        let mut queues = stage.stations[0].try_hold().expect("nobody has them");
        let letter = stage.ask(0, |queues, _| queues.add(8));
        assert_eq!(stage.reply(0, &letter), None);
        queues.carry_out(&stage);
        assert_eq!(stage.reply(0, &letter), Some(()));
        assert_eq!(stage.stations[0].count(), 2);
    });
}

#[test]
fn letters_are_carried_out_in_order_and_each_has_its_reply_once() {
    explore("two letters to a CPU that comes back", Depth::Preemptions(3), || {
        let stage = Stage::new(&[&[7]]);
        let mut pollers = vec![poller(&stage, 0, 2, 2)];
        let letters = [1, 2].map(|number| stage.ask(0, move |queues, _| queues.note(number)));
        assert_eq!(letters.each_ref().map(|letter| stage.wait_for(0, letter, &mut pollers)), [1, 2]);
        pollers.into_iter().for_each(join);
        assert_eq!(letters.map(|letter| stage.reply(0, &letter)), [None, None], "a second reply");
        assert_eq!(stage.look(0).0, [1, 2]);
    });
}

#[test]
fn letters_of_two_cpus_are_each_carried_out_once() {
    explore("two CPUs that ask a third one", Depth::Preemptions(3), || {
        let stage = Stage::new(&[&[7]]);
        let pollers = vec![poller(&stage, 0, 1, 1)];
        let other = thread::spawn({
            let stage = Rc::clone(&stage);
            move || stage.ask(0, |queues, _| queues.note(2))
        });
        let letter = stage.ask(0, |queues, _| queues.note(1));
        let early = stage.reply(0, &letter);
        let other = join(other);
        pollers.into_iter().for_each(join);
        let replies = [early.or_else(|| stage.reply(0, &letter)), stage.reply(0, &other)];
        let (notes, _) = stage.look(0);
        assert!(matches!((replies, &notes[..]), ([Some(1), Some(2)], [1, 2]) | ([Some(2), Some(1)], [2, 1])));
    });
}

#[test]
fn queues_are_counted_once_the_reply_is_there() {
    explore("a queue removed and another one added", Depth::All, || {
        let stage = Stage::new(&[&[7]]);
        let mut pollers = vec![poller(&stage, 0, 1, 2)];
        let removed = stage.ask(0, |queues, _| queues.remove(7).is_some());
        assert!(stage.wait_for(0, &removed, &mut pollers));
        assert_eq!(stage.stations[0].count(), 0);
        let added = stage.ask(0, |queues, _| queues.add(8));
        stage.wait_for(0, &added, &mut pollers);
        assert_eq!(stage.stations[0].count(), 1);
        pollers.into_iter().for_each(join);
        assert_eq!(stage.look(0).1, [8]);
    });
}

#[test]
fn a_cpu_and_the_keeper_of_the_watch_never_have_the_queues_at_once() {
    explore("a CPU, the keeper, and one that asks", Depth::Preemptions(4), || {
        let stage = Stage::new(&[&[7]]);
        let mut pollers = vec![poller(&stage, 0, 1, 1), poller(&stage, 0, 1, 1)];
        let added = stage.ask(0, |queues, _| queues.add(8));
        stage.wait_for(0, &added, &mut pollers);
        assert_eq!(stage.stations[0].count(), 2);
        pollers.into_iter().for_each(join);
        assert_eq!(stage.look(0).1, [7, 8]);
    });
}

#[test]
fn a_queue_that_moves_is_where_its_letters_find_it() {
    explore("a queue that moves between two CPUs", Depth::Preemptions(4), || {
        let stage = Stage::new(&[&[1, 2], &[3]]);
        let mut pollers = vec![poller(&stage, 0, 1, 1), poller(&stage, 1, 1, 1)];
        // Asked for before it moves, and not replied to yet.
        let before = stage.ask(0, |queues, _| queues.numbers().contains(&1));
        let moved = stage.moves(1, 0, 1);
        let counts = stage.stations.iter().map(|station| station.count());
        assert!(counts.eq(if moved { [1, 2] } else { [2, 1] }));
        let at = usize::from(moved);
        let removed = stage.ask(at, |queues, _| queues.remove(1).is_some());
        assert!(stage.wait_for(at, &removed, &mut pollers));
        assert!(stage.wait_for(0, &before, &mut pollers));
        pollers.into_iter().for_each(join);
        assert_eq!([stage.look(0).1, stage.look(1).1], [[2], [3]]);
    });
}

#[test]
fn a_suspended_disk_is_used_by_no_step_wherever_its_queues_move() {
    explore("a suspension while a queue moves", Depth::Preemptions(4), || {
        let stage = Stage::new(&[&[1, 2], &[]]);
        let mut pollers = vec![poller(&stage, 0, 1, 1), poller(&stage, 1, 1, 1)];
        stage.suspend(&mut pollers, || _ = stage.moves(1, 0, 1));
        pollers.into_iter().for_each(join);
    });
}

#[test]
fn a_suspended_disk_is_used_by_no_queue_that_is_just_being_added() {
    explore("a suspension while a queue is added", Depth::Preemptions(4), || {
        let stage = Stage::new(&[&[1]]);
        let mut pollers = vec![poller(&stage, 0, 1, 3)];
        let removed = stage.ask(0, |queues, _| queues.remove(1).is_some());
        assert!(stage.wait_for(0, &removed, &mut pollers));
        // Its reply need not be there yet.
        let added = stage.ask(0, |queues, _| queues.add(2));
        stage.suspend(&mut pollers, || ());
        stage.wait_for(0, &added, &mut pollers);
        pollers.into_iter().for_each(join);
    });
}
