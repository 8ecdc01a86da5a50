//! Single cases, and the table that a test run ends with.

use std::fmt::Write as _;
use std::time::Duration;

/// Lines of a failing case's output that are printed; the log file has the rest.
const SHOWN_LINES: usize = 300;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// With what it printed.
    Failed(String),
    /// With the reason.
    Skipped(String),
}

/// One case that was run.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) tier: &'static str,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

/// How many cases ended in which way.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Count {
    pub(crate) fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut count = Self::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Passed => count.passed += 1,
                Outcome::Failed(_) => count.failed += 1,
                Outcome::Skipped(_) => count.skipped += 1,
            }
        }
        count
    }

    pub(crate) const fn all(self) -> usize {
        self.passed + self.failed + self.skipped
    }
}

/// A tier's name and how long it took.
pub(crate) type Timing = (&'static str, Duration);

/// Everything that failed with its output, everything skipped with its reason, the table, and the
/// last line.
pub(crate) fn render(cases: &[Case], timings: &[Timing]) -> String {
    let mut text = String::new();
    for case in cases {
        match &case.outcome {
            Outcome::Passed => {}
            Outcome::Failed(output) => {
                let _ = writeln!(text, "\nfailed: {}: {}", case.tier, case.name);
                text.push_str(&shown(output));
            }
            Outcome::Skipped(reason) => {
                let _ = writeln!(text, "\nskipped: {}: {}: {reason}", case.tier, case.name);
            }
        }
    }
    text.push('\n');
    text.push_str(&table(cases, timings));
    let count = Count::of(cases.iter().map(|case| &case.outcome));
    let Count { passed, failed, skipped } = count;
    let _ = writeln!(text, "\n{passed} passed, {failed} failed, {skipped} skipped");
    text
}

/// The end of `output`, indented.
fn shown(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let hidden = lines.len().saturating_sub(SHOWN_LINES);
    let mut text = String::new();
    if hidden > 0 {
        let _ = writeln!(text, "    ({hidden} lines before these)");
    }
    for line in lines.iter().skip(hidden) {
        let _ = writeln!(text, "    {line}");
    }
    text
}

fn table(cases: &[Case], timings: &[Timing]) -> String {
    let header = ["tier", "cases", "passed", "failed", "skipped", "seconds"].map(str::to_owned);
    let mut rows = vec![header];
    for (tier, elapsed) in timings {
        let of_tier = cases.iter().filter(|case| case.tier == *tier).map(|case| &case.outcome);
        let count = Count::of(of_tier);
        rows.push([
            (*tier).to_owned(),
            count.all().to_string(),
            count.passed.to_string(),
            count.failed.to_string(),
            count.skipped.to_string(),
            format!("{:.1}", elapsed.as_secs_f64()),
        ]);
    }
    align(&rows)
}

/// Columns as wide as their widest cell: the first to the left, the others to the right.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, outcome: Outcome) -> Case {
        Case { tier: "host", name: name.to_owned(), outcome }
    }

    #[test]
    fn the_report_ends_with_the_counts_of_single_cases() {
        let cases = [
            case("format", Outcome::Passed),
            case("clippy", Outcome::Failed("warning: x\n".to_owned())),
            case("thumb", Outcome::Skipped("no rust-src".to_owned())),
        ];
        let text = render(&cases, &[("host", Duration::from_millis(1500))]);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
        assert!(text.contains("failed: host: clippy\n    warning: x\n"));
        assert!(text.contains("skipped: host: thumb: no rust-src\n"));
    }

    #[test]
    fn the_table_is_aligned() {
        let cases = [case("a", Outcome::Passed), case("b", Outcome::Passed)];
        let timings = [("host", Duration::from_millis(12_340)), ("qtest", Duration::ZERO)];
        assert_eq!(
            table(&cases, &timings),
            "tier   cases  passed  failed  skipped  seconds\n\
             host       2       2       0        0     12.3\n\
             qtest      0       0       0        0      0.0\n"
        );
    }

    #[test]
    fn long_output_keeps_its_end() {
        let output: String = (0..SHOWN_LINES + 5).map(|n| format!("line {n}\n")).collect();
        let text = shown(&output);
        assert!(text.starts_with("    (5 lines before these)\n    line 5\n"));
        assert!(text.ends_with("line 304\n"));
    }
}
