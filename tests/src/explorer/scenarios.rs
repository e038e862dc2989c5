//! What is explored, small before large.

use btt::info_block::Version;
use btt::sim::Persistence;

use super::Scenario;
use super::creation::{Creation, Over};
use super::lanes::Lanes;
use super::losses::LostLine;
use super::program::{Op, Program};
use super::repairs::{Damage, Repair};
use super::saving::Saving;
use super::single::{Single, kind};
use super::small::Small;
use super::stage::Grain;

/// A part of what is explored.
pub struct Group {
    /// What it is called.
    pub name: String,
    /// Its scenarios.
    pub scenarios: Vec<Box<dyn Scenario>>,
}

fn lanes(grain: Grain, programs: impl IntoIterator<Item = Program>) -> Vec<Box<dyn Scenario>> {
    programs.into_iter().map(|program| Box::new(Lanes { program, grain }) as Box<dyn Scenario>).collect()
}

fn written(grain: Grain, programs: &[&str]) -> Vec<Box<dyn Scenario>> {
    lanes(grain, programs.iter().map(|text| text.parse().expect("a program of ours")))
}

/// Every way in which `cpus` CPUs can each write `writes` of at most `most` sectors, up to the names of sectors and
/// CPUs: the first is sector 0, and a new one is always the lowest that has not been used. Sectors are
/// `apart` entries of the map from each other.
fn all(cpus: usize, writes: usize, most: u32, apart: u32, persistence: Persistence) -> Vec<Program> {
    let total = cpus * writes;
    let mut found: Vec<Vec<u32>> = vec![Vec::new()];
    for _ in 0..total {
        found = found
            .into_iter()
            .flat_map(|begun| {
                let fresh = begun.iter().max().map_or(0, |max| max + 1);
                (0..=fresh.min(most - 1)).map(move |lba| begun.iter().copied().chain([lba]).collect())
            })
            .collect();
    }
    found.retain(|lbas| is_first(lbas, writes));
    let (sectors, nfree) = ((most - 1) * apart + 1, u32::try_from(cpus).unwrap_or(1));
    let small = Small { sectors, nfree, persistence, interrupted: false };
    let op = |lba: &u32| Op::Write { lba: lba * apart, count: 1 };
    let program =
        |lbas: Vec<u32>| Program { small, cpus: lbas.chunks(writes).map(|own| own.iter().map(op).collect()).collect() };
    found.into_iter().map(program).collect()
}

/// The group of [`all`] such programs.
fn every(grain: Grain, cpus: usize, writes: usize, most: u32, apart: u32, persistence: Persistence) -> Group {
    let writes_text = if writes == 1 { "1 write".into() } else { format!("{writes} writes") };
    let apart_text = if apart > 1 { ", map lines apart" } else { "" };
    let step = if grain == Grain::Access { ", each access a step" } else { "" };
    Group {
        name: format!("{cpus} lanes x {writes_text}{}{apart_text}{step}", kind(persistence)),
        scenarios: lanes(grain, all(cpus, writes, most, apart, persistence)),
    }
}

/// Whether no other order of the CPUs, with the sectors named anew, comes before this one: lanes are alike.
fn is_first(lbas: &[u32], writes: usize) -> bool {
    let cpus: Vec<&[u32]> = lbas.chunks(writes).collect();
    orders(cpus.len()).into_iter().all(|order| {
        let mut names = Vec::new();
        let renamed = order.iter().flat_map(|&cpu| cpus[cpu]).map(|lba| {
            let known = names.iter().position(|name| name == lba);
            known.unwrap_or_else(|| {
                names.push(*lba);
                names.len() - 1
            })
        });
        let own = lbas.iter().map(|&lba| lba as usize);
        own.cmp(renamed) != std::cmp::Ordering::Greater
    })
}

/// All orders of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>, at: usize| [&order[..at], &[count - 1], &order[at..]].concat();
    shorter.iter().flat_map(|order| (0..count).map(|at| insert(order, at))).collect()
}

/// All that there is, small before large.
#[must_use]
pub fn groups() -> Vec<Group> {
    let creations = [Version::V1_1, Version::V2_0].into_iter().flat_map(|version| {
        [Over::Blank, Over::Btt(Version::V1_1), Over::Btt(Version::V2_0), Over::Remains]
            .map(|over| Box::new(Single(Creation { version, over })) as Box<dyn Scenario>)
    });
    let repairs = Persistence::ALL.into_iter().flat_map(|persistence| {
        Damage::ALL.map(|damage| Box::new(Single(Repair { damage, persistence })) as Box<dyn Scenario>)
    });
    let losses = Persistence::ALL.into_iter().flat_map(|persistence| {
        [0, 1].map(|line| Box::new(Single(LostLine { line, persistence })) as Box<dyn Scenario>)
    });
    let saves = Persistence::ALL.into_iter().flat_map(|persistence| {
        [0, 1, 2].map(|before| Box::new(Single(Saving { before, persistence })) as Box<dyn Scenario>)
    });
    vec![
        Group { name: "saves of the configuration".into(), scenarios: saves.collect() },
        every(Grain::Access, 2, 1, 2, 1, Persistence::Lines),
        every(Grain::Access, 2, 1, 2, 1, Persistence::Pieces),
        every(Grain::Fence, 2, 2, 3, 1, Persistence::Lines),
        every(Grain::Fence, 2, 2, 3, 1, Persistence::Pieces),
        every(Grain::Access, 2, 1, 2, 1, Persistence::Flushes),
        every(Grain::Fence, 2, 2, 3, 1, Persistence::Flushes),
        every(Grain::Fence, 2, 2, 2, 16, Persistence::Lines),
        Group {
            name: "runs".into(),
            scenarios: written(
                Grain::Fence,
                &[
                    "n4 s8: 0+4,2+4,0+4",
                    "n8 s8: 0+8",
                    "w n5 s8: 0+5,1+5",
                    "n6 s6: 0+3 | 1+3",
                    "n6 s6: 0+3,0+3 | 1+3",
                    "w n4 s4: 0+2 | 1+2",
                    "f n4 s4: 0+2 | 1+2",
                    "n6 s20: 14+3 | 15+3",
                    "n6 s20: 14+3,15 | 15+3",
                    "n4 s20: 15+2,15+2 | 15+2,15+2",
                ],
            ),
        },
        Group {
            name: "scattered commits".into(),
            scenarios: written(
                Grain::Fence,
                &[
                    "n4 s8: 5&0&7&2,0&5",
                    "n4 s4: 2&0&2&1",
                    "n4 s20: 19&0&17 | 0&16&19",
                    "n4 s20: 19&0,17&1 | 1&19",
                    "n6 s6: 4&1&0 | 0&4&1",
                    "n6 s6: 4&1&0 | 0+3",
                    "w n4 s4: 3&0&2 | 0&3",
                    "f n4 s4: 3&0&2 | 0&3",
                    "w n4 s4: 3&0,0&3 | 0",
                    "n4 s1025: 1024&3&0 | 0&1024",
                    "n4 s1025: 1024&16 | 16,0",
                    "n2 s3: 2&0 | 1&2 | 0&1",
                    "n1 s3: 2&0 | 0&2",
                    "n4 s3: 2&0 | z0+2 | e2",
                    "i n4 s4: 2&0,3 | 3&0",
                ],
            ),
        },
        Group {
            name: "lanes that CPUs share, readers, drains".into(),
            scenarios: written(
                Grain::Fence,
                &[
                    "n1 s2: 0,1 | 1,0",
                    "n1 s2: 0,0 | 0,0",
                    "n2 s1025: 0,1024 | 1024,0",
                    "n2 s2: 0,1 | 0 | 1,0",
                    "n2 s2: 0,0 | 0 | 0,0",
                    "w n1 s2: 0,0 | 0,1",
                    "f n1 s2: 0,0 | 0,1",
                    "f n2 s2: 0,d | 0,0,d",
                    "n2 s2: r0,r0 | 0,0",
                    "n3 s2: r0,r0 | 0,1 | 0",
                    "n2 s2: 0,d,0 | 0,d,1",
                    "n2 s2: 0,d | 0,0,d",
                ],
            ),
        },
        Group {
            name: "after a recovery".into(),
            scenarios: written(
                Grain::Fence,
                &[
                    "i n2 s3: 0,1 | 0,2,0",
                    "i n2 s3: 1,1 | 1,1",
                    "i n4 s4: 0+2,2 | 1+2,3",
                    "w i n2 s3: 0 | 0,2,0",
                    "f i n2 s3: 0 | 0,2,0",
                    "i n3 s3: 0 | 1,2 | 0,1",
                    "i n2 s3: z1,1 | 0,e1",
                ],
            ),
        },
        Group {
            name: "edits of the map".into(),
            scenarios: written(
                Grain::Fence,
                &[
                    "n2 s2: z0,0 | 0,z0",
                    "n2 s2: e0,0 | 0,e0",
                    "n2 s3: 0,z0+2 | 1,0",
                    "n2 s3: z0+3,0 | 1,2",
                    "n1 s2: 0,z0,0,e1,1",
                    "n3 s2: 0,0 | z0 | e0",
                    "w n2 s2: z0,0 | 0,e0",
                    "f n2 s2: z0,0 | 0,e0",
                ],
            ),
        },
        Group { name: "a lost map line".into(), scenarios: losses.collect() },
        Group { name: "repairs and the rewriting of flogs".into(), scenarios: repairs.collect() },
        Group { name: "creation".into(), scenarios: creations.collect() },
        every(Grain::Fence, 3, 1, 3, 1, Persistence::Lines),
        every(Grain::Fence, 3, 1, 3, 1, Persistence::Pieces),
        every(Grain::Fence, 2, 3, 3, 1, Persistence::Lines),
        every(Grain::Fence, 3, 2, 3, 1, Persistence::Lines),
        every(Grain::Fence, 2, 3, 3, 1, Persistence::Pieces),
        every(Grain::Fence, 3, 2, 3, 1, Persistence::Pieces),
        every(Grain::Fence, 3, 3, 3, 1, Persistence::Lines),
        every(Grain::Fence, 3, 3, 3, 1, Persistence::Pieces),
    ]
}

/// The scenario of this name, or the program that it spells, whether it is among [`groups`] or not.
#[must_use]
pub fn named(name: &str) -> Option<Box<dyn Scenario>> {
    let known = groups().into_iter().flat_map(|group| group.scenarios).find(|scenario| scenario.name() == name);
    known.or_else(|| {
        let (grain, text) = if let Some(text) = name.strip_prefix("each access: ") {
            (Grain::Access, text)
        } else if let Some(text) = name.strip_prefix("each lock: ") {
            (Grain::Lock, text)
        } else {
            (Grain::Fence, name)
        };
        let program = text.parse().ok()?;
        Some(Box::new(Lanes { program, grain }))
    })
}
