//! On the host: `sector-bench` beside programs for other engines, in turns.

use std::error::Error;
use std::process::Command;

use ::tests::workspace;

use crate::figure::{Point, Results};

/// The sizes of sectors that are measured, bytes.
pub(crate) const SECTORS: [u32; 2] = [512, 4096];
/// The numbers of threads.
pub(crate) const THREADS: [u32; 2] = [1, 2];
/// The size of the file, MiB.
const MIB: u32 = 256;

/// What ours are called with, beside the size, the threads and the time.
const OURS: [&str; 4] = [
    "--run 1 --mix randwrite,randread,rw7030",
    "--run 8 --mix randwrite,randread",
    "--scatter 8 --mix randwrite",
    "--run 1 --mix randwrite --caches-survive",
];

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
}

/// Measures ours beside the peers, whose programs print lines of the same form. In a peer's command `{bs}`, `{mib}`, `{th}`
/// and `{secs}` stand for what differs.
///
/// # Errors
/// A program fails, prints something else, or had errors.
pub(crate) fn measure(peers: &[String], effort: Effort) -> Result<Results, Box<dyn Error>> {
    let bench = workspace::target().join("release/sector-bench");
    let ours = OURS.iter().map(|options| {
        format!("{} --sector {{bs}} --mib {{mib}} --threads {{th}} --seconds {{secs}} {options}", bench.display())
    });
    let mut programs: Vec<String> = ours.chain(peers.iter().cloned()).collect();
    let mut results = Results::default();
    for round in 0..effort.rounds {
        for sector in SECTORS {
            for threads in THREADS {
                for program in &programs {
                    run(program, sector, threads, effort.seconds, round, &mut results)?;
                }
            }
        }
        eprintln!("host: round {} of {}", round + 1, effort.rounds);
        // The first is the last of the next round, so that what grows or shrinks with time hits all.
        programs.reverse();
    }
    Ok(results)
}

fn run(
    program: &str,
    sector: u32,
    threads: u32,
    seconds: f64,
    round: usize,
    results: &mut Results,
) -> Result<(), Box<dyn Error>> {
    let line = program.replace("{bs}", &sector.to_string()).replace("{mib}", &MIB.to_string());
    let line = line.replace("{th}", &threads.to_string()).replace("{secs}", &seconds.to_string());
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().ok_or("a program has no name")?);
    let text = String::from_utf8(workspace::run(command.args(words)))?;
    for printed in text.lines() {
        let (point, value) = parse(printed).ok_or_else(|| format!("`{line}` printed `{printed}`"))?;
        results.add(point, round, value);
    }
    Ok(())
}

/// The point and thousands of sectors a CPU-second of a line prog,engine,bsize,pool_MiB,threads,mix,ops,secs,kops,MBps,
/// kops_cpu,p50_ns,p99_ns,p999_ns,max_ns,errors. `None` for another line; and for one of ours with errors. (A peer may have
/// some: a floor without locks loses a block where two threads meet.)
fn parse(line: &str) -> Option<(Point, f64)> {
    let fields: Vec<&str> = line.split(',').collect();
    let [_, engine, sector, _, threads, mix, _, _, _, _, value, _, _, _, _, errors] = fields[..] else { return None };
    if errors != "0" && engine.starts_with("untorn") {
        return None;
    }
    Some((Point::new(engine, mix, sector.parse().ok()?, threads.parse().ok()?), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_unless_ours_had_errors() {
        let line = |engine: &str, errors: u32| {
            format!("a,{engine},512,256,2,randwrite,770176,0.3000,2567.1,1314.4,3095.3,310,459,650,4066334,{errors}")
        };
        let point = |engine| Some((Point::new(engine, "randwrite", 512, 2), 3095.3));
        assert_eq!(parse(&line("untorn-run1", 0)), point("untorn-run1"));
        assert_eq!(parse(&line("untorn-run1", 1)), None);
        assert_eq!(parse(&line("btt2f", 1)), point("btt2f"));
        assert_eq!(parse("prefill errors 1"), None);
    }
}
