//! From `OpenMetrics` text, which the library writes, to Prometheus' own text format (0.0.4), which kube-proxy answers with.
//!
//! The two differ in what the header of a counter is named, in how whole numbers are written (`1.0`, `1`), which matters for a
//! bucket's limit as that is a label, and in that the library ends each help with a full stop. See
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The content type of what [`prometheus`] makes.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Default)]
struct Metric<'a> {
    help: &'a str,
    kind: &'a str,
    samples: Vec<&'a str>,
}

/// Rewrites it, in order of name.
pub(crate) fn prometheus(open_metrics: &str) -> String {
    let mut metrics: BTreeMap<&str, Metric<'_>> = BTreeMap::new();
    let mut current = "";
    for line in open_metrics.lines() {
        if let Some((name, help)) = header(line, "# HELP ") {
            current = name;
            metrics.entry(name).or_default().help = help.strip_suffix('.').unwrap_or(help);
        } else if let Some((name, kind)) = header(line, "# TYPE ") {
            metrics.entry(name).or_default().kind = kind;
        } else if !line.starts_with('#') {
            metrics.entry(current).or_default().samples.push(line);
        }
    }
    let mut text = String::new();
    for (name, metric) in metrics {
        metric.write(&mut text, name);
    }
    text
}

fn header<'a>(line: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(kind)?.split_once(' ')
}

impl Metric<'_> {
    fn write(&self, text: &mut String, name: &str) {
        let suffix = if self.kind == "counter" { "_total" } else { "" };
        // writing to a string does not fail
        let _ = writeln!(text, "# HELP {name}{suffix} {}", self.help);
        let _ = writeln!(text, "# TYPE {name}{suffix} {}", self.kind);
        let mut samples: Vec<_> = self.samples.iter().map(|sample| as_in_go(sample)).collect();
        // the library's order is that of a hash map; buckets of a series stay in theirs
        samples.sort_by_cached_key(|sample| series(sample));
        for sample in samples {
            text.push_str(&sample);
            text.push('\n');
        }
    }
}

/// The labels of a sample but for its bucket's limit.
fn series(sample: &str) -> String {
    let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
    let labels = labels.map_or("", |(labels, _)| labels);
    labels.split(',').filter(|label| !label.starts_with("le=")).collect()
}

/// Whole numbers, as values and as limits of buckets, are written without decimals.
fn as_in_go(sample: &str) -> String {
    let sample = sample.strip_suffix(".0").unwrap_or(sample);
    match sample.split_once("le=\"") {
        Some((before, rest)) if before.contains("_bucket{") => {
            let (limit, after) = rest.split_once('"').unwrap_or((rest, ""));
            let limit = limit.strip_suffix(".0").unwrap_or(limit);
            format!("{before}le=\"{limit}\"{after}")
        }
        _ => sample.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_buckets_and_help_are_written_as_in_go() {
        let open = "# HELP b_seconds [ALPHA] Latency.\n# TYPE b_seconds histogram\nb_seconds_sum{ip=\"IPv4\"} 1.5\n\
                    b_seconds_bucket{le=\"0.25\",ip=\"IPv4\"} 1\nb_seconds_bucket{le=\"1.0\",ip=\"IPv4\"} 2\n\
                    b_seconds_bucket{le=\"+Inf\",ip=\"IPv4\"} 2\n\
                    # HELP a Things e.g. 1.0.\n# TYPE a counter\na_total{code=\"200\"} 7\n\
                    # HELP c A gauge.\n# TYPE c gauge\nc{le=\"1.0\"} 3.0\n# EOF\n";
        let want = "# HELP a_total Things e.g. 1.0\n# TYPE a_total counter\na_total{code=\"200\"} 7\n\
                    # HELP b_seconds [ALPHA] Latency\n# TYPE b_seconds histogram\nb_seconds_sum{ip=\"IPv4\"} 1.5\n\
                    b_seconds_bucket{le=\"0.25\",ip=\"IPv4\"} 1\nb_seconds_bucket{le=\"1\",ip=\"IPv4\"} 2\n\
                    b_seconds_bucket{le=\"+Inf\",ip=\"IPv4\"} 2\n\
                    # HELP c A gauge\n# TYPE c gauge\nc{le=\"1.0\"} 3\n";
        assert_eq!(prometheus(open), want);
    }

    #[test]
    fn series_are_in_order_and_buckets_in_theirs() {
        let open = "# HELP a A.\n# TYPE a histogram\na_sum{ip=\"6\"} 1.0\na_bucket{le=\"2.0\",ip=\"6\"} 1\n\
                    a_bucket{le=\"10.0\",ip=\"6\"} 1\na_sum{ip=\"4\"} 1.0\na_bucket{le=\"+Inf\",ip=\"4\"} 1\n";
        let want = "# HELP a A\n# TYPE a histogram\na_sum{ip=\"4\"} 1\na_bucket{le=\"+Inf\",ip=\"4\"} 1\n\
                    a_sum{ip=\"6\"} 1\na_bucket{le=\"2\",ip=\"6\"} 1\na_bucket{le=\"10\",ip=\"6\"} 1\n";
        assert_eq!(prometheus(open), want);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(prometheus("# EOF\n"), "");
    }
}
