//! Seeded mutations: an input of the corpus, changed a little, or two of them joined. The same seed makes the same ones.

use btt::sim::{Choose as _, Seeded};

/// Numbers that lie at an edge.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Makes inputs out of a corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    random: Seeded,
    bytes_max: usize,
}

impl<'a> Mutator<'a> {
    /// The inputs that `seed` makes out of `corpus`, none longer than `bytes_max`.
    ///
    /// # Panics
    /// If the corpus is empty.
    #[must_use]
    pub fn new(corpus: &'a [Vec<u8>], bytes_max: usize, seed: u64) -> Self {
        assert!(!corpus.is_empty(), "mutations are of something");
        // Seeds that are alike make sequences that are not.
        let mut random = Seeded::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.next();
        Self { corpus, random, bytes_max }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound.max(1) as u64)).unwrap_or(0)
    }

    fn any(&mut self) -> &'a [u8] {
        &self.corpus[self.below(self.corpus.len())]
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.any().to_vec();
        for _ in 0..1 << self.below(4) {
            self.change(&mut input);
        }
        input.truncate(self.bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let up_to = 1 << self.below(7);
        let count = 1 + self.below(up_to);
        let end = input.len().min(at + count);
        match self.below(10) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => input[at] = self.random.next().to_le_bytes()[7],
            3 if at < input.len() => input[at] = input[at].wrapping_add([1, 255][self.below(2)]),
            4 | 5 => {
                let (width, number) = (1 << self.below(4), EDGES[self.below(EDGES.len())].to_le_bytes());
                // Fields are aligned, mostly.
                let at = if self.below(4) == 0 { at } else { at / width * width };
                for (byte, edge) in input.iter_mut().skip(at).take(width).zip(number) {
                    *byte = edge;
                }
            }
            6 => drop(input.drain(at..end)),
            7 => {
                let copy = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                drop(input.splice(to..to, copy));
            }
            8 => {
                let other = self.any();
                let from = self.below(other.len() + 1);
                let part = &other[from..other.len().min(from + count)];
                let end = if self.below(2) == 0 { at } else { input.len().min(at + part.len()) };
                drop(input.splice(at..end, part.iter().copied()));
            }
            _ => {
                let (from, over) = (self.below(input.len() + 1), self.any());
                input.truncate(from);
                input.extend(over.iter().skip(from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_its_inputs_again_and_another_one_makes_others() {
        let corpus = [vec![1; 40], b"some words".to_vec(), vec![]];
        let inputs = |seed| {
            let mut mutator = Mutator::new(&corpus, 50, seed);
            (0..200).map(|_| mutator.next_input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let distinct: std::collections::BTreeSet<_> = inputs(1).into_iter().collect();
        assert!(distinct.len() > 150 && distinct.iter().all(|input| input.len() <= 50), "{}", distinct.len());
    }
}
