//! Models that are small enough for every schedule.

use std::sync::atomic::{AtomicU32, Ordering};

use btt::BttError;

use crate::checker::{Depth, explore};
use crate::medium::SECTORS;
use crate::stage::{Stage, join};

#[test]
fn a_reader_never_sees_its_block_given_away() {
    explore("a read against a block's next use", Depth::All, || {
        let stage = Stage::new(2, 2, &[0, 1]);
        // The first write frees the block that may be being read, the second one takes it.
        let writer = stage.cpu(|stage| {
            stage.write(1, 0, 1, 1);
            stage.write(1, 1, 1, 2);
        });
        let found = stage.read(0, 0, 1)[0];
        assert!(found <= 1, "{found}");
        join(writer);
        stage.judge(&[(0, &[1]), (1, &[2])]);
    });
}

#[test]
fn a_reader_with_the_new_version_has_the_new_entry() {
    explore("a read against a block's next use by another stripe", Depth::All, || {
        let stage = Stage::new(2, 2, &[0, 16]);
        // The second write leaves the version of sector 0 as the first one left it.
        let writer = stage.cpu(|stage| {
            stage.write(1, 0, 1, 1);
            stage.write(1, 16, 1, 2);
        });
        let found = stage.read(0, 0, 1)[0];
        assert!(found <= 1, "{found}");
        join(writer);
        stage.judge(&[(0, &[1]), (16, &[2])]);
    });
}

#[test]
fn a_reader_that_has_gone_on_to_another_block_has_left_the_first_one() {
    explore("two reads against the first one's block's next use", Depth::All, || {
        let stage = Stage::new(2, 2, &[0, 1, 2]);
        let writer = stage.cpu(|stage| {
            stage.write(1, 0, 1, 1);
            stage.write(1, 1, 1, 2);
        });
        let found = stage.read(0, 0, 1)[0];
        assert!(found <= 1, "{found}");
        assert_eq!(stage.read(0, 2, 1), [0]);
        join(writer);
        stage.judge(&[(0, &[1]), (1, &[2]), (2, &[0])]);
    });
}

#[test]
fn a_reader_that_has_gone_on_to_a_shorter_run_has_left_the_first_one() {
    explore("a read of two and of one against the second one's block's next use", Depth::All, || {
        let stage = Stage::new(2, 2, &[0, 1, 2]);
        let writer = stage.cpu(|stage| {
            stage.write(1, 1, 1, 1);
            stage.write(1, 1, 1, 2);
        });
        let found = stage.read(0, 0, 2);
        assert!(found[0] == 0 && found[1] <= 2, "{found:?}");
        assert_eq!(stage.read(0, 2, 1), [0]);
        join(writer);
        stage.judge(&[(0, &[0]), (1, &[2]), (2, &[0])]);
    });
}

#[test]
fn a_sector_that_is_written_while_its_loss_is_found_is_not_marked_as_lost() {
    explore("a lost sector against two writes of it", Depth::All, || {
        let stage = Stage::new(2, 2, &[0]);
        // Into the block that lane 1 had free.
        stage.write(1, 0, 1, 1);
        stage.medium().lose(SECTORS + 1);
        // The second write takes the lost block again, which holds good data then.
        let writer = stage.cpu(|stage| {
            stage.write(1, 0, 1, 2);
            stage.write(1, 0, 1, 3);
        });
        match stage.try_read(0, 0, 1) {
            Ok(found) => assert!([2, 3].contains(&found[0]), "{found:?}"),
            Err(why) => assert!(matches!(why, BttError::Data { .. }), "{why}"),
        }
        join(writer);
        stage.judge(&[(0, &[3])]);
    });
}

#[test]
fn a_write_is_not_undone_by_whoever_clears_the_error_that_it_found() {
    explore("an error is cleared beside a write", Depth::All, || {
        // Zeroes would pass for sector 0's.
        let stage = Stage::new(2, 2, &[0]);
        stage.mark_error(0, 0);
        let writer = stage.cpu(|stage| stage.write(1, 0, 1, 1));
        assert!(stage.clear_error(0, 0) <= 1);
        join(writer);
        stage.judge(&[(0, &[1])]);
    });
}

#[test]
fn an_edit_leaves_the_block_that_a_write_has_given_its_sector() {
    explore("an edit beside a write", Depth::All, || {
        let stage = Stage::new(2, 2, &[0]);
        let writer = stage.cpu(|stage| stage.write(1, 0, 1, 1));
        stage.mark_error(0, 0);
        join(writer);
        stage.judge(&[]);
        match stage.try_read(0, 0, 1) {
            Ok(found) => assert_eq!(found, [1]),
            Err(why) => assert!(matches!(why, BttError::SectorError { .. }), "{why}"),
        }
    });
}

#[test]
fn a_reader_keeps_nothing_of_its_sectors_next_write() {
    explore("a read against a block that its own sector has again", Depth::All, || {
        let stage = Stage::new(2, 2, &[0]);
        // The third write takes the block of the first one: the entry is as it was.
        let writer = stage.cpu(|stage| (1..=3).for_each(|version| stage.write(1, 0, 1, version)));
        let found = stage.read(0, 0, 1)[0];
        assert!(found <= 3, "{found}");
        join(writer);
        stage.judge(&[(0, &[3])]);
    });
}

#[test]
fn a_reader_of_two_sectors_beside_a_scattered_commit_of_them() {
    explore("a run of reads against a scattered commit", Depth::All, || {
        let stage = Stage::new(4, 2, &[15, 16]);
        let writer = stage.cpu(|stage| {
            stage.commit(1, &[(16, 1), (15, 1)]);
            stage.commit(1, &[(15, 2)]);
        });
        let found = stage.read(0, 15, 2);
        assert!(found[0] <= 2 && found[1] <= 1, "{found:?}");
        join(writer);
        stage.judge(&[(15, &[2]), (16, &[1])]);
    });
}

#[test]
fn one_reader_and_two_writers_of_one_sector() {
    explore("one reader, two writers", Depth::All, || {
        let stage = Stage::new(3, 3, &[0]);
        let first = stage.cpu(|stage| stage.write(1, 0, 1, 1));
        let second = stage.cpu(|stage| stage.write(2, 0, 1, 2));
        let found = stage.read(0, 0, 1)[0];
        assert!(found <= 2, "{found}");
        join(first);
        join(second);
        stage.judge(&[(0, &[1, 2])]);
    });
}

#[test]
fn a_reader_beside_two_writers_who_take_each_others_blocks() {
    // Every schedule takes minutes.
    explore("one reader, two writers, three writes", Depth::Preemptions(4), || {
        let stage = Stage::new(3, 3, &[0, 1]);
        let first = stage.cpu(|stage| {
            stage.write(1, 0, 1, 1);
            stage.write(1, 1, 1, 2);
        });
        let second = stage.cpu(|stage| stage.write(2, 0, 1, 3));
        let found = stage.read(0, 0, 1)[0];
        assert!([0, 1, 3].contains(&found), "{found}");
        join(first);
        join(second);
        stage.judge(&[(0, &[1, 3]), (1, &[2])]);
    });
}

#[test]
fn two_writers_of_one_sector() {
    explore("two writers of one sector", Depth::All, || {
        let stage = Stage::new(2, 2, &[0]);
        let other = stage.cpu(|stage| {
            stage.write(1, 0, 1, 1);
            stage.write(1, 0, 1, 2);
        });
        stage.write(0, 0, 1, 3);
        stage.write(0, 0, 1, 4);
        join(other);
        stage.judge(&[(0, &[2, 4])]);
    });
}

#[test]
fn a_map_change_is_settled_before_another_lane_follows_it() {
    explore("deferred map write-back", Depth::All, || {
        // Sector 0 has two writers, sector 1 shares its line, sector 32 only its lock.
        let stage = Stage::new(2, 2, &[0, 1, 32]);
        stage.write(0, 0, 1, 1);
        let other = stage.cpu(|stage| {
            stage.write(1, 0, 1, 2);
            stage.write(1, 32, 1, 3);
        });
        stage.write(0, 1, 1, 4);
        stage.write(0, 0, 1, 5);
        join(other);
        stage.judge(&[(0, &[2, 5]), (1, &[4]), (32, &[3])]);
    });
}

/// CPUs 0 and 1 on one lane.
fn two_cpus_share(stage: &Stage) {
    let other = stage.cpu(|stage| {
        stage.write(1, 0, 1, 1);
        stage.read(1, 1, 1)
    });
    stage.write(0, 1, 1, 2);
    stage.write(0, 0, 1, 3);
    let found = join(other)[0];
    assert!([0, 2].contains(&found), "{found}");
    stage.judge(&[(0, &[1, 3]), (1, &[2])]);
}

/// CPUs 0 and 2 on lane 0, CPU 1 on lane 1.
fn two_of_three_cpus_share(stage: &Stage) {
    let sharer = stage.cpu(|stage| stage.write(2, 1, 1, 1));
    let other = stage.cpu(|stage| stage.write(1, 0, 1, 2));
    stage.write(0, 0, 1, 3);
    join(sharer);
    join(other);
    stage.judge(&[(0, &[2, 3]), (1, &[1])]);
}

#[test]
fn a_lane_that_two_cpus_share() {
    explore("a lane shared by two CPUs", Depth::All, || two_cpus_share(&Stage::new(1, 1, &[0, 1])));
}

#[test]
fn a_lane_that_moves_takes_its_map_changes_along() {
    explore("a lane that moves, and another one", Depth::All, || two_of_three_cpus_share(&Stage::new(2, 2, &[0, 1])));
}

#[test]
fn cpus_that_share_a_window_and_a_lane() {
    explore("two CPUs on one window", Depth::All, || two_cpus_share(&Stage::behind_windows(1, 1, &[0, 1])));
    explore("three CPUs on two windows", Depth::All, || {
        two_of_three_cpus_share(&Stage::behind_windows(2, 2, &[0, 1]));
    });
}

#[test]
fn a_run_of_reads_against_a_run_of_writes_across_two_locks() {
    explore("runs across a stripe border", Depth::All, || {
        let stage = Stage::new(4, 2, &[15, 16]);
        let writer = stage.cpu(|stage| {
            stage.write(1, 15, 2, 1);
            stage.write(1, 16, 1, 2);
        });
        let found = stage.read(0, 15, 2);
        assert!(found.iter().all(|version| *version <= 2), "{found:?}");
        join(writer);
        stage.judge(&[(15, &[1]), (16, &[2])]);
    });
}

#[test]
fn runs_that_need_the_same_locks_in_turn_do_not_wait_for_each_other() {
    explore("runs over both locks, both ways", Depth::All, || {
        // Lines 0 and 1 are stripes 0 and 1; lines 1 and 2 are stripes 1 and 0.
        let stage = Stage::new(4, 2, &[15, 16, 31, 32]);
        let other = stage.cpu(|stage| stage.write(1, 31, 2, 1));
        stage.write(0, 15, 2, 2);
        join(other);
        stage.judge(&[(15, &[2]), (16, &[2]), (31, &[1]), (32, &[1])]);
    });
}

#[test]
fn commits_of_the_same_sectors_in_any_order_do_not_wait_for_each_other() {
    explore("two commits of two sectors, both ways", Depth::All, || {
        let stage = Stage::new(4, 2, &[0, 16]);
        let other = stage.cpu(|stage| assert_eq!(stage.commit(1, &[(16, 1), (0, 1)]), [2]));
        assert_eq!(stage.commit(0, &[(0, 2), (16, 2)]), [2]);
        join(other);
        stage.judge(&[(0, &[1, 2]), (16, &[1, 2])]);
    });
}

#[test]
fn a_commit_takes_no_sector_twice_and_no_two_lines_of_one_stripe() {
    explore("commits that are cut", Depth::All, || {
        // Lines 0 and 2 share a lock.
        let stage = Stage::new(4, 2, &[0, 32]);
        let other = stage.cpu(|stage| assert_eq!(stage.commit(1, &[(0, 1), (32, 1)]), [1, 1]));
        assert_eq!(stage.commit(0, &[(32, 2), (32, 3)]), [1, 1]);
        join(other);
        stage.judge(&[(0, &[1]), (32, &[1, 3])]);
    });
}

#[test]
fn a_commit_beside_a_run_that_settles_what_it_has_left() {
    explore("a commit, and a run of its sectors", Depth::All, || {
        let stage = Stage::new(4, 2, &[15, 16]);
        let other = stage.cpu(|stage| stage.write(1, 15, 2, 1));
        stage.commit(0, &[(16, 2), (15, 2)]);
        stage.commit(0, &[(15, 3)]);
        join(other);
        stage.judge(&[(15, &[1, 3]), (16, &[1, 2])]);
    });
}

#[test]
fn an_arena_turns_read_only_for_everybody_and_stays_sound() {
    for access in 0..14 {
        FAILS_AT.store(access, Ordering::Relaxed);
        explore(&format!("access {access} fails"), Depth::All, || {
            let stage = Stage::new(2, 2, &[0]);
            stage.medium().fail_once(FAILS_AT.load(Ordering::Relaxed));
            let other = stage.cpu(|stage| stage.try_write(1, 0, 1, 1));
            let own = stage.try_write(0, 0, 1, 2);
            let results = [own, join(other)];
            stage.medium().never_fail();
            // A write that failed may be there or not; one that did not fail is, unless another one came after it.
            let may: &[u32] = if results.iter().any(Result::is_ok) { &[1, 2] } else { &[0, 1, 2] };
            stage.judge(&[(0, may)]);
            let read_only = |result: &Result<(), BttError>| matches!(result, Err(BttError::ReadOnly { .. }));
            let refused = stage.try_write(0, 0, 1, 3);
            assert_eq!(results.iter().any(read_only), read_only(&refused), "{results:?}, then {refused:?}");
            assert!(results.iter().all(|result| !read_only(result) || *result == refused), "the first reason stands");
        });
    }
}

/// Which access fails in the model that is being explored.
static FAILS_AT: AtomicU32 = AtomicU32::new(0);
