//! Metrics: collected from their owners when asked for, shown as Prometheus text and as `system.metrics`.
//!
//! Names are `hedgerow_<part>_<what>_<unit>`, counters end in `_total`. There is no registry to keep in step: each owner
//! keeps its own atomics and writes them into an [`Exposition`]. Must not know where they are shown.

mod owners;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

pub use owners::{collect_destinations, collect_lake, collect_queues};

/// Has metrics.
pub trait MetricsSource: Send + Sync {
    /// Writes them down as they are now.
    fn collect(&self, into: &mut Exposition);
}

/// One value, for `system.metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// `sink="farm_lake",kind="lake"`, or empty.
    pub labels: String,
    /// Now.
    pub value: f64,
    /// What it is, with its unit.
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
struct Family {
    kind: Type,
    help: &'static str,
    /// Suffix of the name, labels, value; in the order written.
    lines: Vec<(&'static str, String, f64)>,
}

/// Metrics being written down.
#[derive(Debug, Default)]
pub struct Exposition(BTreeMap<&'static str, Family>);

/// Labels and their values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Something that only grows. The name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: u64) {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.line(name, Type::Counter, help, "", render(labels), value as f64);
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: f64) {
        self.line(name, Type::Gauge, help, "", render(labels), value);
    }

    /// A distribution: for each bucket its upper bound and how many values were at most that, ascending; then the sum and
    /// the number of all values.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        buckets: &[(f64, u64)],
        (sum, count): (f64, u64),
    ) {
        for (bound, below) in buckets {
            let bound = number(*bound);
            let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line(name, Type::Histogram, help, "_bucket", render(&with_bound), *below as f64);
        }
        let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", "+Inf")]).collect();
        self.line(name, Type::Histogram, help, "_bucket", render(&with_bound), count as f64);
        self.line(name, Type::Histogram, help, "_sum", render(labels), sum);
        self.line(name, Type::Histogram, help, "_count", render(labels), count as f64);
    }

    fn line(
        &mut self,
        name: &'static str,
        kind: Type,
        help: &'static str,
        suffix: &'static str,
        labels: String,
        value: f64,
    ) {
        let family = self.0.entry(name).or_insert_with(|| Family { kind, help, lines: Vec::new() });
        debug_assert!(family.kind == kind, "{name} has two types");
        family.lines.push((suffix, labels, value));
    }

    /// All values, for `system.metrics`.
    pub fn samples(&self) -> Vec<Sample> {
        let families = self.0.iter();
        let samples = families.flat_map(|(name, family)| {
            family.lines.iter().map(move |(suffix, labels, value)| Sample {
                name: format!("{name}{suffix}"),
                labels: labels.clone(),
                value: *value,
                help: family.help.to_owned(),
            })
        });
        samples.collect()
    }

    /// The Prometheus text format, version 0.0.4.
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.0 {
            let kind = match family.kind {
                Type::Counter => "counter",
                Type::Gauge => "gauge",
                Type::Histogram => "histogram",
            };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (suffix, labels, value) in &family.lines {
                let braces = if labels.is_empty() { ("", "") } else { ("{", "}") };
                let _ = writeln!(out, "{name}{suffix}{}{labels}{} {}", braces.0, braces.1, number(*value));
            }
        }
        out
    }
}

fn render(labels: Labels<'_>) -> String {
    let parts = labels.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    });
    parts.collect::<Vec<_>>().join(",")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_groups_each_metric_and_escapes_labels() {
        let mut exposition = Exposition::default();
        exposition.counter("hedgerow_b_total", "B\nlines", &[("sink", "a\"b\\c")], 3);
        exposition.gauge("hedgerow_a", "A", &[], 0.5);
        exposition.counter("hedgerow_b_total", "B\nlines", &[("sink", "x")], 4);
        exposition.histogram("hedgerow_c_seconds", "C", &[("k", "v")], &[(0.1, 1), (1.0, 2)], (1.7, 3));
        let expect = "\
# HELP hedgerow_a A
# TYPE hedgerow_a gauge
hedgerow_a 0.5
# HELP hedgerow_b_total B\\nlines
# TYPE hedgerow_b_total counter
hedgerow_b_total{sink=\"a\\\"b\\\\c\"} 3
hedgerow_b_total{sink=\"x\"} 4
# HELP hedgerow_c_seconds C
# TYPE hedgerow_c_seconds histogram
hedgerow_c_seconds_bucket{k=\"v\",le=\"0.1\"} 1
hedgerow_c_seconds_bucket{k=\"v\",le=\"1\"} 2
hedgerow_c_seconds_bucket{k=\"v\",le=\"+Inf\"} 3
hedgerow_c_seconds_sum{k=\"v\"} 1.7
hedgerow_c_seconds_count{k=\"v\"} 3
";
        assert_eq!(exposition.text(), expect);
        let names: Vec<String> = exposition.samples().into_iter().map(|sample| sample.name).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[7], "hedgerow_c_seconds_count");
    }
}
