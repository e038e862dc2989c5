//! What was measured, round by round, and what that comes to.

use std::collections::BTreeMap;
use std::fmt;

/// What a figure is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// Who did it, such as `untorn-run1`.
    pub(crate) engine: String,
    /// Which operations, such as `randwrite`.
    pub(crate) mix: String,
    /// The bytes of a sector.
    pub(crate) sector: u32,
    /// Threads, or CPUs.
    pub(crate) cpus: u32,
}

impl Point {
    pub(crate) fn new(engine: &str, mix: &str, sector: u32, cpus: u32) -> Self {
        Self { engine: engine.into(), mix: mix.into(), sector, cpus }
    }
}

/// A value for each round of each point: thousands of sectors, on a host for each second of CPU time, in the image for each
/// second.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<Point, BTreeMap<usize, f64>>);

impl Results {
    pub(crate) fn add(&mut self, point: Point, round: usize, value: f64) {
        self.0.entry(point).or_default().insert(round, value);
    }

    pub(crate) fn of(&self, point: &Point) -> Option<Figure> {
        Figure::of(self.0.get(point)?.values().copied())
    }

    /// One over the other, round by round: what both have suffered cancels out.
    pub(crate) fn ratio(&self, over: &Point, under: &Point) -> Option<Figure> {
        let (over, under) = (self.0.get(over)?, self.0.get(under)?);
        Figure::of(over.iter().filter_map(|(round, value)| Some(value / under.get(round)?)))
    }

    /// Its engines, in order.
    pub(crate) fn engines(&self) -> Vec<&str> {
        let mut engines: Vec<_> = self.0.keys().map(|point| &*point.engine).collect();
        engines.dedup();
        engines
    }

    /// A line for each value, which is in this unit.
    pub(crate) fn csv(&self, place: &str, unit: &str) -> String {
        let mut text = format!("place,engine,mix,sector,cpus,round,{unit}\n");
        for (Point { engine, mix, sector, cpus }, rounds) in &self.0 {
            for (round, value) in rounds {
                text += &format!("{place},{engine},{mix},{sector},{cpus},{round},{value:.3}\n");
            }
        }
        text
    }
}

/// The median of some rounds, with their least and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// `None` of no value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, most })
    }

    /// By a factor.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, least: self.least * factor, most: self.most * factor }
    }
}

/// `1.32 (1.28-1.41)`; by default as many digits as three figures need.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(match self.median {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        });
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$}-{most:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_each_round_and_not_of_medians() {
        let (one, other) = (Point::new("one", "randread", 512, 1), Point::new("other", "randread", 512, 1));
        let mut results = Results::default();
        // The machine slows down from round to round, and both with it.
        for (round, slow) in [1.0, 2.0, 4.0, 8.0].into_iter().enumerate() {
            results.add(one.clone(), round, 300.0 / slow);
            results.add(other.clone(), round, 200.0 / slow);
        }
        results.add(one.clone(), 4, 1e6);
        let ratio = results.ratio(&one, &other).expect("four rounds of both");
        assert_eq!(ratio, Figure { median: 1.5, least: 1.5, most: 1.5 });
        assert_eq!(results.ratio(&one, &Point::new("other", "randread", 512, 2)), None);
        assert_eq!(results.engines(), ["one", "other"]);
        let csv = results.csv("host", "sectors");
        assert!(
            csv.starts_with("place,engine,mix,sector,cpus,round,sectors\nhost,one,randread,512,1,0,300.000\n"),
            "{csv}"
        );
    }

    #[test]
    fn a_figure_is_the_median_with_its_spread() {
        let figure = Figure::of([3.0, 1.0, 2.0, 10.0].into_iter()).expect("four values");
        assert_eq!(figure, Figure { median: 2.5, least: 1.0, most: 10.0 });
        assert_eq!(format!("{figure} {figure:.0}"), "2.50 (1.00-10.00) 2 (1-10)");
        assert_eq!(Figure::of(std::iter::empty()), None);
    }
}
