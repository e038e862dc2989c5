//! Damaged media, shown to every program that knows the format: an unmodified Linux and its ndctl, PMDK's checker, and untorn.
//! The table in docs/repair.md is what this finds. What untorn has mended, all of them take for sound.
//!
//! Of each medium there are three: one that Linux attaches as it is, one that ndctl repairs before, and one that untorn
//! has mended. (A medium that needs no mending is one.) One boot of Linux judges them all, and media as power cuts leave
//! them while an old flog is rewritten.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use tests::damage::{self, COUNT, Cure, Damage, FIRST, Verdict, content, old_layout_cuts, to_dimm};
use tests::dimm::Dimm;
use tests::golden::digest;
use tests::linux::{self, Exercise, Job, Phase, Read, Report};
use tests::pmdk::{self, Outcome};
use tests::workspace;

/// The others' versions that docs/repair.md is about: what they make of damage is not ours to demand of other ones.
const VERSIONS: [&str; 3] = ["6.1.", "76.1", "1.12.1"];

/// What Linux has made of one medium.
#[derive(Debug, Default)]
struct Seen {
    attached: bool,
    raw: bool,
    /// Whether each of ndctl's checks passed, and its output.
    checks: BTreeMap<Phase, (bool, String)>,
    /// What was read, before and after Linux wrote elsewhere.
    read: Vec<(Read, Result<String, String>)>,
    write_error: Option<String>,
}

/// What must be read of a medium, damaged or mended: the digest, or nothing where it must fail.
fn expected(read: &Read, damage: &Damage, mended: bool) -> Option<String> {
    let bytes = if damage.sector < 4096 { 512 } else { 4096 };
    let byte = |lba| if damage.zeroes.contains(&lba) { 0 } else { content(lba) };
    let data: Vec<u8> = (read.lba..read.lba + read.count).flat_map(|lba| vec![byte(lba); bytes]).collect();
    let is_error = (mended || damage.cure == Cure::None)
        && damage.lost.iter().any(|lost| (read.lba..read.lba + read.count).contains(lost));
    (!is_error).then(|| digest(&data))
}

impl Seen {
    /// In words.
    fn words(&self, damage: &Damage, mended: bool) -> &'static str {
        if !self.attached {
            return if self.raw { "shows a raw disk" } else { "refused" };
        }
        let wrong = |(read, data): &&(Read, Result<String, String>)| match (expected(read, damage, mended), data) {
            (Some(right), Ok(data)) => right != *data,
            (None, Ok(_)) => true,
            (_, Err(_)) => false,
        };
        let failed =
            |(read, data): &&(Read, Result<String, String>)| expected(read, damage, mended).is_some() && data.is_err();
        let (before, after) = self.read.split_at(self.read.len() / 2);
        if before.iter().any(|one| wrong(&one)) {
            "reads what is not there"
        } else if before.iter().any(|one| failed(&one)) {
            "reads fail"
        } else if self.write_error.as_ref().is_some_and(|error| !error.contains("read")) {
            "writes fail"
        } else if self.write_error.is_some() || after.iter().any(|one| wrong(&one) || failed(&one)) {
            "served, until a write hits other sectors"
        } else {
            "served"
        }
    }

    fn check(&self, phase: Phase) -> (bool, &str) {
        let (ok, text) = &self.checks[&phase];
        (*ok, text)
    }
}

/// What ndctl makes of a medium: its check, its repair, and whether Linux then reads what it should.
fn ndctl_words(seen: &Seen, damage: &Damage) -> &'static str {
    let (ok, text) = seen.check(Phase::Before);
    // It only reports a backup that differs.
    let sound = ok && !text.contains("needs to be restored");
    let after = seen.words(damage, false) == "served" && seen.checks.get(&Phase::Repaired).is_some_and(|(ok, _)| *ok);
    match (sound, after) {
        (true, _) => "finds nothing",
        (false, true) => "repaired",
        (false, false) if text.contains("Problem parsing") || text.contains("Unable to recover") => "gives up",
        (false, false) => "reported",
    }
}

fn pmdk_words(damage: &Damage, dimm: &Dimm) -> &'static str {
    let checker = env!("CARGO_BIN_EXE_pmdk-check");
    match pmdk::check(&pmdk::copy(dimm), false, checker).0 {
        Outcome::Consistent => "finds nothing",
        Outcome::Died => "dies",
        Outcome::Error => "gives up",
        _ => {
            let copy = pmdk::copy(dimm);
            let repaired = pmdk::check(&copy, true, checker).0 == Outcome::Repaired;
            let sound = repaired && pmdk::check(&copy, false, checker).0 == Outcome::Consistent;
            match sound && damage::reads_right(damage, fs::read(copy.path()).unwrap()) {
                _ if !sound => "reported",
                true => "repaired",
                false => "repaired, but sectors read otherwise",
            }
        }
    }
}

/// A kind of damage, and the media of it.
struct Case {
    damage: Damage,
    verdict: Verdict,
    /// As it is, to be repaired by ndctl, and mended by untorn: the slots of their NVDIMMs.
    slots: [usize; 3],
    pmdk: &'static str,
}

#[test]
fn what_untorn_mends_is_sound_to_everybody_and_the_table_says_what_the_others_make_of_damage() {
    let mut dimms: Vec<Dimm> = Vec::new();
    let mut cases = Vec::new();
    for damage in damage::all() {
        let medium = damage.medium();
        let verdict = damage::judge(&damage, &medium);
        let first = dimms.len();
        dimms.push(to_dimm(&medium));
        let slots = if verdict.mended.image() == medium.image() {
            [first; 3]
        } else {
            dimms.extend([to_dimm(&medium), to_dimm(&verdict.mended)]);
            [first, first + 1, first + 2]
        };
        let pmdk = if pmdk::knows_btts() {
            let (outcome, text) = pmdk::check(&pmdk::copy(&dimms[slots[2]]), false, env!("CARGO_BIN_EXE_pmdk-check"));
            assert_eq!(outcome, Outcome::Consistent, "{}, mended: {text}", damage.name);
            pmdk_words(&damage, &dimms[first])
        } else {
            "not asked"
        };
        cases.push(Case { damage, verdict, slots, pmdk });
    }
    let cuts = dimms.len();
    dimms.extend(old_layout_cuts(8, 4).iter().map(to_dimm));

    let slots = 0..dimms.len();
    let ones = (FIRST..FIRST + COUNT).map(|lba| (lba, 1));
    let spans: Vec<(u64, u64)> = ones.chain([(FIRST, 8)]).collect();
    let reads = slots.clone().flat_map(|slot| spans.iter().map(move |&(lba, count)| Read { slot, lba, count }));
    let changed = || cases.iter().filter(|case| case.slots[0] != case.slots[1]);
    let job = Job {
        dimms: dimms.len(),
        unchecked: changed().map(|case| case.slots[0]).collect(),
        repairs: changed().map(|case| case.slots[1]).collect(),
        reads: reads.collect(),
        exercises: slots.map(|slot| Exercise { slot, writes: 20, seed: 5 }).collect(),
        ..Job::default()
    };
    let reports = linux::judge(&dimms.iter().collect::<Vec<_>>(), &job, env!("CARGO_BIN_EXE_linux-guest"));
    let (seen, release) = gather(&reports, dimms.len());

    // What untorn mended, and what a cut left of the rewriting of a flog, is as it should be to Linux and ndctl.
    for Case { damage, slots: [.., mended], .. } in &cases {
        let seen = &seen[*mended];
        assert_eq!(seen.words(damage, true), "served", "{}, mended: {seen:?}", damage.name);
        // ndctl takes an error flag in a group's old_map for a block past the end, and knows no blocks with padding.
        let (sound, text) = seen.check(Phase::Before);
        let known = text.contains("Problem parsing arena[0] metadata") && !damage.sector.is_multiple_of(64)
            || text.contains("out of bounds") && damage.name.contains("old_map");
        assert!(sound || known, "{}, mended: {text}", damage.name);
    }
    for (number, seen) in seen[cuts..].iter().enumerate() {
        assert_eq!(seen.words(&damage::none(), true), "served", "cut {number} of the rewriting of a flog: {seen:?}");
        assert!(seen.check(Phase::Before).0, "cut {number} of the rewriting of a flog: {seen:?}");
        assert!(seen.check(Phase::After).0, "cut {number} of the rewriting of a flog: {seen:?}");
    }

    // The table.
    let ndctl = Command::new("ndctl").arg("--version").output().unwrap().stdout;
    let versions = [release, String::from_utf8(ndctl).unwrap().trim().to_owned(), pmdk::version()];
    let known = versions.iter().zip(VERSIONS).all(|(found, known)| found.starts_with(known));
    let page = fs::read_to_string(workspace::top().join("docs/repair.md")).unwrap();
    let mut missing = Vec::new();
    for Case { damage, verdict, slots, pmdk } in &cases {
        let linux = seen[slots[0]].words(damage, false);
        let ndctl = ndctl_words(&seen[slots[1]], damage);
        let ours = format!("{} | {} |", verdict.detected, damage.cure.words());
        let row = format!("| {} | {linux} | {ndctl} | {pmdk} | {ours}", damage.name);
        let there = |line: &str| {
            line == row || !known && line.starts_with(&format!("| {} |", damage.name)) && line.ends_with(&ours)
        };
        if !page.lines().any(there) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "docs/repair.md lacks what has been found ({versions:?}):\n{}", missing.join("\n"));
}

fn gather(reports: &[Report], dimms: usize) -> (Vec<Seen>, String) {
    let mut all: Vec<Seen> = (0..dimms).map(|_| Seen::default()).collect();
    let mut linux = String::new();
    for report in reports {
        match report {
            Report::Check { phase, slot, ok, text, .. } => {
                all[*slot].checks.insert(*phase, (*ok, text.clone()));
            }
            Report::NoBtt { slot, raw } => all[*slot].raw = *raw,
            Report::Btt { slot, .. } => all[*slot].attached = true,
            Report::Sectors { read, data } => all[read.slot].read.push((*read, data.clone())),
            Report::Exercised { exercise, error } => all[exercise.slot].write_error.clone_from(error),
            Report::Release(release) => linux.clone_from(release),
            Report::Trouble(what) => panic!("{what}"),
            _ => {}
        }
    }
    (all, linux)
}
