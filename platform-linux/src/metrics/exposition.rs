//! Prometheus' text format 0.0.4, as its textfile collector and its server read it.
//!
//! The crates for it (`prometheus`, `prometheus-client`) are registries that a program counts in; the
//! counters here are the driver's own, and the latter writes OpenMetrics, whose names of counters the
//! textfile collector does not know. What is left of them is this page.

use std::fmt::Write as _;

use serde::Serialize;

/// What every name begins with.
const PREFIX: &str = "fusion_mpt_";

/// What kind of number a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It only grows, or starts again at 0.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Names and values of labels.
pub type Labels<'l> = &'l [(&'l str, &'l str)];

/// One number of a family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Names and values of its labels.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: f64,
}

/// Numbers of one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Family {
    /// The name, without the prefix that all have; of a counter with `_total` at its end.
    pub name: String,
    /// What it is, in a sentence.
    pub help: String,
    /// What kind of number it has.
    pub kind: Kind,
    /// Its numbers.
    pub samples: Vec<Sample>,
}

impl Family {
    /// A family without numbers. The name has letters, digits and underscores only.
    #[must_use]
    pub fn new(name: &str, help: &str, kind: Kind) -> Self {
        Self { name: name.into(), help: help.into(), kind, samples: Vec::new() }
    }

    /// A family of counters.
    #[must_use]
    pub fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    /// A family of gauges.
    #[must_use]
    pub fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    /// Adds a number.
    pub fn push(&mut self, labels: Labels<'_>, value: f64) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.samples.push(Sample { labels: labels.collect(), value });
    }

    /// The same with a number more.
    #[must_use]
    pub fn with(mut self, labels: Labels<'_>, value: f64) -> Self {
        self.push(labels, value);
        self
    }
}

/// Families as text. Those without numbers are left out.
#[must_use]
pub fn families_as_text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let name = format!("{PREFIX}{}", family.name);
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in &family.samples {
            let labels: Vec<String> = sample
                .labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let labels = match labels.is_empty() {
                true => String::new(),
                false => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(text, "{name}{labels} {}", sample.value);
        }
    }
    text
}

/// A label's value, with what would end it escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_family_is_told_with_its_help_and_type() {
        let family = Family::counter("commands_total", "Commands.\nAll \\ of them.")
            .with(&[("bus", "qtest"), ("queue", "0")], 12.0)
            .with(&[], 0.5);
        assert_eq!(
            families_as_text(&[family, Family::gauge("nothing", "No numbers.")]),
            "# HELP fusion_mpt_commands_total Commands.\\nAll \\\\ of them.\n\
             # TYPE fusion_mpt_commands_total counter\n\
             fusion_mpt_commands_total{bus=\"qtest\",queue=\"0\"} 12\n\
             fusion_mpt_commands_total 0.5\n"
        );
    }

    #[test]
    fn large_counts_are_told_in_digits() {
        let family = Family::counter("bytes_total", "Bytes.").with(&[], (1u64 << 52) as f64);
        assert!(families_as_text(&[family]).ends_with(" 4503599627370496\n"));
    }

    proptest! {
        #[test]
        fn no_value_of_a_label_ends_its_line_or_its_quotes(value in any::<String>()) {
            let family = Family::gauge("x", "X.").with(&[("label", &value)], 1.0);
            let text = families_as_text(&[family]);
            let samples: Vec<&str> = text.split('\n').skip(2).collect();
            prop_assert_eq!(samples.len(), 2);
            let inside = samples[0].strip_prefix("fusion_mpt_x{label=\"").and_then(|rest| rest.strip_suffix("\"} 1"));
            let mut letters = inside.expect("quoted").chars();
            let mut read = String::new();
            while let Some(letter) = letters.next() {
                read.push(match letter {
                    '\\' => match letters.next() {
                        Some('n') => '\n',
                        Some(other) => other,
                        None => panic!("an escape of nothing"),
                    },
                    '"' => panic!("a quote inside"),
                    other => other,
                });
            }
            prop_assert_eq!(read, value);
        }
    }
}
