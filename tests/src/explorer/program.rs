//! What the CPUs of one exploration are to do, as text: `n3 s4: 0,1 | 2+2,d | 1`.
//!
//! `n` is the number of free blocks, `s` that of sectors, `w` means that the medium is a block window that keeps no
//! order within a line, `i` that opening it has writes to finish. Then for each CPU what it does: `3` writes sector 3,
//! `3+2` writes two sectors from 3 on as one run, `3&0&5` writes these three with as few commits as they take, `z3+2`
//! makes two sectors read zeroes, `e3` marks sector 3 as lost, `d` drains its lane, `r3` reads sector 3.

use std::fmt;
use std::str::FromStr;

use btt::sim::Persistence;

use super::small::Small;

/// One thing that a CPU does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes so many sectors from this one on.
    Write {
        /// The first sector.
        lba: u32,
        /// How many.
        count: u32,
    },
    /// Writes these sectors, in this order, with as few commits as they take.
    Scatter {
        /// Which.
        lbas: Vec<u32>,
    },
    /// Makes so many sectors from this one on read zeroes, by their map entries.
    Zero {
        /// The first sector.
        lba: u32,
        /// How many.
        count: u32,
    },
    /// Marks one sector as lost.
    Mark {
        /// Which.
        lba: u32,
    },
    /// Reads one sector.
    Read {
        /// Which.
        lba: u32,
    },
    /// Makes the map entries of the lane durable.
    Drain,
}

/// A BTT, and what its CPUs do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The BTT.
    pub small: Small,
    /// For each CPU.
    pub cpus: Vec<Vec<Op>>,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { lba, count: 1 } => write!(f, "{lba}"),
            Self::Write { lba, count } => write!(f, "{lba}+{count}"),
            Self::Scatter { lbas } => {
                let lbas: Vec<String> = lbas.iter().map(u32::to_string).collect();
                f.write_str(&lbas.join("&"))
            }
            Self::Zero { lba, count: 1 } => write!(f, "z{lba}"),
            Self::Zero { lba, count } => write!(f, "z{lba}+{count}"),
            Self::Mark { lba } => write!(f, "e{lba}"),
            Self::Read { lba } => write!(f, "r{lba}"),
            Self::Drain => f.write_str("d"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.small.persistence {
            Persistence::Lines => "",
            Persistence::Pieces => "w ",
            Persistence::Flushes => "f ",
        };
        let cut = if self.small.interrupted { "i " } else { "" };
        write!(f, "{kind}{cut}n{} s{}:", self.small.nfree, self.small.sectors)?;
        for (cpu, ops) in self.cpus.iter().enumerate() {
            let ops: Vec<String> = ops.iter().map(Op::to_string).collect();
            write!(f, "{}{}", if cpu == 0 { " " } else { " | " }, ops.join(","))?;
        }
        Ok(())
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().map_err(|_| format!("'{text}' is not an operation"));
        if text == "d" {
            return Ok(Self::Drain);
        }
        if let Some(lba) = text.strip_prefix('r') {
            return Ok(Self::Read { lba: number(lba)? });
        }
        if let Some(lba) = text.strip_prefix('e') {
            return Ok(Self::Mark { lba: number(lba)? });
        }
        if text.contains('&') {
            let lbas = text.split('&').map(|lba| lba.parse().map_err(|_| format!("'{text}' is not an operation")));
            return Ok(Self::Scatter { lbas: lbas.collect::<Result<_, _>>()? });
        }
        let (zero, rest) = text.strip_prefix('z').map_or((false, text), |rest| (true, rest));
        let (lba, count) = rest.split_once('+').unwrap_or((rest, "1"));
        let (lba, count) = (number(lba)?, number(count)?);
        Ok(if zero { Self::Zero { lba, count } } else { Self::Write { lba, count } })
    }
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, body) = text.split_once(':').ok_or("a program is 'n3 s4: 0,1 | 2'")?;
        let (mut sectors, mut nfree, mut persistence, mut interrupted) = (None, None, Persistence::Lines, false);
        for word in head.split_whitespace() {
            match word.split_at_checked(1) {
                Some(("n", digits)) => nfree = digits.parse().ok(),
                Some(("s", digits)) => sectors = digits.parse().ok(),
                Some(("w", "")) => persistence = Persistence::Pieces,
                Some(("f", "")) => persistence = Persistence::Flushes,
                Some(("i", "")) => interrupted = true,
                _ => return Err(format!("'{word}' is none of n3, s4, w, f and i")),
            }
        }
        let cpus = body
            .split('|')
            .map(|ops| ops.split(',').map(str::trim).filter(|op| !op.is_empty()).map(Op::from_str).collect())
            .collect::<Result<_, _>>()?;
        let (sectors, nfree) = (sectors.ok_or("s is missing")?, nfree.ok_or("n is missing")?);
        Ok(Self { small: Small { sectors, nfree, persistence, interrupted }, cpus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_as_they_are_written() {
        for text in [
            "n3 s4: 0,1 | 2+2,d | r1",
            "n3 s4: z0,z1+2 | e3",
            "w n2 s4: 0 | 0",
            "f i n2 s4: 0",
            "n1 s2: 1,1,1",
            "n2 s3: 2&0&2,1",
        ] {
            assert_eq!(text.parse::<Program>().expect("a program").to_string(), text);
        }
        for text in ["", "n3 s4", "n3: 0", "n3 s4: x", "q s4 n3: 1"] {
            assert!(text.parse::<Program>().is_err(), "{text}");
        }
    }
}
