//! Figures: what a benchmark yields, the bounds they must keep, and how they are shown.
//!
//! A figure's name is for ever, so that a table or a check can rely on it.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::link_check::MPI2_TEXT_LIMIT;
use crate::report::align;

/// Figures by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The bound of each figure that has one; `*` stands for one part of a name.
const BOUNDS: &[(&str, Bound)] = &[
    ("core.mpi2.instructions_per_io", Bound::AtMost(150.0)),
    ("core.mpi2.instructions_per_io.*", Bound::AtMost(150.0)),
    ("core.mpi2.floor_ratio.*", Bound::AtMost(2.0)),
    // One post for each request and one host index write for each batch; 32 requests a batch.
    ("mmio.mpi2.writes_per_io", Bound::AtMost(1.0 + 1.0 / 32.0)),
    ("mmio.mpi2.writes_per_batch", Bound::AtMost(1.0)),
    ("mmio.mpi2.reads_per_io", Bound::AtMost(0.0)),
    ("mmio.mpi1.writes_per_io", Bound::AtMost(1.0)),
    ("mmio.mpi1.reads_per_io", Bound::AtMost(1.1)),
    // The controller must never be what a driver test measures: on one core, driver included.
    ("model.*.reads_per_second", Bound::AtLeast(1_000_000.0)),
    // A stock driver gets as much from our controller as another does from QEMU's.
    ("guests.sas3008.reads_ratio", Bound::AtLeast(1.0)),
    // Beside the kernel's own driver: past its block layer, and through it.
    ("peer.sas1068.raw_poll.*.qd32.iops_ratio", Bound::AtLeast(3.0)),
    ("peer.sas1068.raw_irq.*.qd32.iops_ratio", Bound::AtLeast(3.0)),
    ("peer.sas1068.raw_poll.*.qd1.iops_ratio", Bound::AtLeast(1.5)),
    ("peer.sas1068.raw_irq.*.qd1.iops_ratio", Bound::AtLeast(1.5)),
    ("peer.sas3008.raw_poll.*.qd32.iops_ratio", Bound::AtLeast(2.0)),
    ("peer.sas3008.raw_irq.*.qd32.iops_ratio", Bound::AtLeast(2.0)),
    ("peer.*.ublk.*.*.iops_ratio", Bound::AtLeast(1.0)),
    // With 32 commands at once one interrupt and one read of it serve several.
    ("peer.sas1068.ours.reads_per_io", Bound::AtMost(1.3)),
    ("peer.sas1068.ours.interrupts_per_io", Bound::AtMost(0.6)),
    ("peer.*.memory_mib.*", Bound::AtMost(64.0)),
    // Recovery costs nothing while nothing is wrong, and a removal is over at once.
    ("recovery.core_overhead_percent", Bound::AtMost(3.0)),
    ("recovery.tick_us.8192", Bound::AtMost(2.0)),
    ("recovery.removal_ms.1024", Bound::AtMost(50.0)),
    ("slots.two_threads_vs_arrayqueue", Bound::AtLeast(3.0)),
    ("size.text_bytes.*.mpi2", Bound::AtMost(MPI2_TEXT_LIMIT as f64)),
];

impl Bound {
    /// The bound of the figure called `name`.
    pub(crate) fn of(name: &str) -> Option<Self> {
        BOUNDS.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, bound)| *bound)
    }

    /// Whether `value` keeps to it; what is no number does not.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {}", number(limit)),
            Self::AtLeast(limit) => format!("at least {}", number(limit)),
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let (mut parts, mut names) = (pattern.split('.'), name.split('.'));
    loop {
        match (parts.next(), names.next()) {
            (None, None) => return true,
            (Some(part), Some(name)) if part == "*" || part == name => {}
            _ => return false,
        }
    }
}

/// Reads the lines `figure NAME VALUE` of a benchmark's output; the others are for people.
pub(crate) fn parse(output: &str) -> Result<Figures, String> {
    let mut figures = Figures::new();
    for line in output.lines() {
        let Some(figure) = line.strip_prefix("figure ") else {
            continue;
        };
        let mut words = figure.split_whitespace();
        let (Some(name), Some(value), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("not of the form \"figure NAME VALUE\": {line:?}"));
        };
        let value: f64 = value.parse().map_err(|_| format!("not a number: {line:?}"))?;
        if !value.is_finite() {
            return Err(format!("not a finite number: {line:?}"));
        }
        if figures.insert(name.to_owned(), value).is_some() {
            return Err(format!("the figure {name} is given twice"));
        }
    }
    Ok(figures)
}

/// Names of the figures that miss their bound.
pub(crate) fn missed(figures: &Figures) -> Vec<&str> {
    let misses = |name: &str, value| Bound::of(name).is_some_and(|bound| !bound.holds(value));
    figures
        .iter()
        .filter(|(name, value)| misses(name, **value))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// A table for people: figure, value, bound, and whether it is met.
pub(crate) fn table(figures: &Figures) -> String {
    let mut rows = vec![["figure", "value", "bound", ""].map(str::to_owned)];
    for (name, value) in figures {
        let bound = Bound::of(name);
        let verdict = match bound {
            Some(bound) if bound.holds(*value) => "met",
            Some(_) => "MISSED",
            None => "",
        };
        rows.push([
            name.clone(),
            number(*value),
            bound.map(Bound::words).unwrap_or_default(),
            verdict.to_owned(),
        ]);
    }
    align(&rows)
}

/// One flat JSON object of name to number.
pub(crate) fn json(figures: &Figures) -> String {
    let object: Map<String, Value> = figures
        .iter()
        .map(|(name, value)| (name.clone(), Number::from_f64(*value).into()))
        .collect();
    format!("{:#}\n", Value::Object(object))
}

/// Whole numbers as such, others with three digits.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_between_other_lines() {
        let figures = parse("warming up\nfigure a.b 1.5\nfigure c 3\n").unwrap();
        assert_eq!(figures, Figures::from([("a.b".to_owned(), 1.5), ("c".to_owned(), 3.0)]));
    }

    #[test]
    fn a_broken_figure_is_an_error() {
        for output in
            ["figure a", "figure a b", "figure a 1 2", "figure a NaN", "figure a 1\nfigure a 2"]
        {
            assert!(parse(output).is_err(), "{output:?}");
        }
    }

    #[test]
    fn bounds_are_found_by_name_and_by_pattern() {
        let instructions = Bound::of("core.mpi2.instructions_per_io.qd1");
        assert_eq!(instructions, Some(Bound::AtMost(150.0)));
        assert_eq!(Bound::of("core.mpi1.instructions_per_io.qd1"), None);
        assert_eq!(Bound::of("core.mpi2.floor_ratio.qd64"), Some(Bound::AtMost(2.0)));
        let text = Bound::of("size.text_bytes.thumbv7em-none-eabihf.mpi2");
        assert_eq!(text, Some(Bound::AtMost(49152.0)));
        assert_eq!(Bound::of("size.text_bytes.thumbv7em-none-eabihf.mpi1"), None);
        assert_eq!(Bound::of("size.text_bytes.mpi2"), None);
        let reads = Bound::of("model.sas3008.reads_per_second");
        assert_eq!(reads, Some(Bound::AtLeast(1e6)));
        assert_eq!(Bound::of("model.sas3008.reads_per_second_two_cores"), None);
        assert_eq!(Bound::of("recovery.tick_us.8192"), Some(Bound::AtMost(2.0)));
        assert_eq!(Bound::of("recovery.removal_ms.1024"), Some(Bound::AtMost(50.0)));
    }

    #[test]
    fn a_bound_includes_its_limit() {
        assert!(Bound::AtMost(2.0).holds(2.0) && !Bound::AtMost(2.0).holds(2.001));
        assert!(Bound::AtLeast(3.0).holds(3.0) && !Bound::AtLeast(3.0).holds(2.999));
        assert!(!Bound::AtMost(2.0).holds(f64::NAN));
    }

    #[test]
    fn the_table_says_what_is_missed() {
        let figures = parse(
            "figure core.mpi2.instructions_per_io.qd1 151.25\nfigure core.mpi1.ns_per_io.qd1 9\n\
             figure slots.two_threads_vs_arrayqueue 4",
        )
        .unwrap();
        assert_eq!(missed(&figures), ["core.mpi2.instructions_per_io.qd1"]);
        let table = table(&figures);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].ends_with('9'), "{table}");
        assert!(lines[2].ends_with("151.250  at most 150  MISSED"), "{table}");
        assert!(lines[3].ends_with("4   at least 3     met"), "{table}");
    }

    #[test]
    fn json_is_one_flat_object() {
        let figures = Figures::from([("a.b".to_owned(), 1.5), ("a.c".to_owned(), 49152.0)]);
        let value: Value = serde_json::from_str(&json(&figures)).unwrap();
        assert_eq!(value["a.b"], 1.5);
        assert_eq!(value["a.c"], 49152.0);
    }
}
