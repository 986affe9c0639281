//! The table of figures.

use std::fmt;

use serde::Serialize;

/// How many rounds of each measurement are interleaved. Many short ones, as a shared machine changes
/// its pace within seconds.
pub(crate) const ROUNDS: usize = 11;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    target: Option<Target>,
    met: Option<bool>,
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    /// The median of several rounds, with the smallest and the largest.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |index: usize| rounds.get(index).copied().unwrap_or(f64::NAN);
        let last = rounds.len().saturating_sub(1);
        let (median, min, max) = (at(last / 2), at(0), at(last));
        Self { name: name.into(), unit, median, min, max, target: None, met: None }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.met = Some(match target {
            Target::AtLeast(least) => self.median >= least,
            Target::AtMost(most) => self.median <= most,
        });
        self.target = Some(target);
        self
    }
}

impl Table {
    pub(crate) fn is_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | median | min | max | | target | met |")?;
        writeln!(f, "|---|---:|---:|---:|---|---|---|")?;
        for row in &self.rows {
            let target = match row.target {
                Some(Target::AtLeast(least)) => format!("≥ {least}"),
                Some(Target::AtMost(most)) => format!("≤ {most}"),
                None => String::new(),
            };
            let met = row.met.map_or("", |met| if met { "yes" } else { "NO" });
            let Row { name, unit, median, min, max, .. } = row;
            writeln!(
                f,
                "| {name} | {median:.2} | {min:.2} | {max:.2} | {unit} | {target} | {met} |"
            )?;
        }
        Ok(())
    }
}
