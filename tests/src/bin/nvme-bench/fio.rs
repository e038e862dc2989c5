//! What is measured: points, and runs of fio.

use std::fmt;

use serde_json::Value;

/// What fio does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    rw: &'static str,
    block: &'static str,
    pub(crate) depth: u32,
}

impl Point {
    pub(crate) const ALL: [Self; 6] = [
        Self { rw: "randread", block: "4k", depth: 1 },
        Self { rw: "randwrite", block: "4k", depth: 1 },
        Self { rw: "randread", block: "4k", depth: 32 },
        Self { rw: "randwrite", block: "4k", depth: 32 },
        Self { rw: "read", block: "128k", depth: 4 },
        Self { rw: "write", block: "128k", depth: 4 },
    ];

    /// The line that runs it on a disk for so long; it prints fio's JSON.
    pub(crate) fn line(&self, disk: &str, seconds: u32) -> String {
        let Self { rw, block, depth } = self;
        format!(
            "fio --name=bench --filename=/dev/{disk} --rw={rw} --bs={block} --direct=1 --ioengine=libaio \
             --iodepth={depth} --thread --size=200M --norandommap --randrepeat=0 --time_based --runtime={seconds} \
             --output-format=json --output=/tmp/fio && cat /tmp/fio"
        )
    }

    /// Takes fio's JSON apart: operations a second, how many there were, and latencies in microseconds at 50 % and 99 %.
    pub(crate) fn parse(&self, text: &str) -> Printed {
        // It may have something to note before.
        let json = text.find('{').map_or("", |at| &text[at..]);
        let json: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("fio printed {text}: {error}"));
        let side = &json["jobs"][0][if self.rw.ends_with("read") { "read" } else { "write" }];
        let number = |value: &Value| value.as_f64().expect("fio counts");
        let latency_us =
            ["50.000000", "99.000000"].map(|percent| number(&side["clat_ns"]["percentile"][percent]) / 1000.0);
        Printed { iops: number(&side["iops"]), operations: number(&side["total_ios"]), latency_us }
    }
}

/// `randread 4k depth 1`.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} depth {}", self.rw, self.block, self.depth)
    }
}

/// What fio printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printed {
    pub(crate) iops: f64,
    pub(crate) operations: f64,
    pub(crate) latency_us: [f64; 2],
}

/// A run of fio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) iops: f64,
    /// At 50 % and 99 %.
    pub(crate) latency_us: [f64; 2],
    /// Frames on the link for each operation, both ways.
    pub(crate) frames: f64,
    /// Microseconds of CPU for each operation, of the target's machine and of the initiator's: of all of their QEMU, and of
    /// its devices.
    pub(crate) target_us: [f64; 2],
    pub(crate) initiator_us: [f64; 2],
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median, the least and the most.
pub(crate) fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values: Vec<f64> = values.collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.digits$} ({least:.digits$}-{most:.digits$})", median(values.into_iter()))
}
