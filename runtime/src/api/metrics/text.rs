//! The text format of Prometheus (0.0.4): families of samples, each with its help and its type once.
//!
//! It knows no metric. Names and help texts are literals of this program; values of labels are escaped.

use std::fmt::Write as _;

use runner_store::figures::Histogram;

/// What `Content-Type` says of it.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that grows.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// One family, which is written with its first sample: one without samples is not there.
pub(super) struct Family<'a> {
    page: &'a mut String,
    head: Option<[&'static str; 2]>,
    name: &'static str,
}

/// The unit in which a histogram's whole numbers are, as so many of them to one that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// They are shown as they are.
    Whole,
    /// Milliseconds, shown as seconds.
    Millis,
    /// Microseconds, shown as seconds.
    Micros,
}

impl Page {
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, ["counter", help])
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, ["gauge", help])
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, ["histogram", help])
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn family(&mut self, name: &'static str, head: [&'static str; 2]) -> Family<'_> {
        Family { page: &mut self.0, head: Some(head), name }
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.line("", labels, None, value);
    }

    /// A whole number of milliseconds or microseconds, as seconds.
    pub(super) fn scaled(&mut self, labels: &[(&str, &str)], value: u64, unit: Unit) {
        self.line("", labels, None, unit.shown(value));
    }

    /// The samples of one histogram.
    pub(super) fn ranges(&mut self, labels: &[(&str, &str)], histogram: &Histogram, unit: Unit) {
        for (bound, count) in histogram.ranges() {
            self.line("_bucket", labels, Some(&unit.shown(bound)), count);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count());
        self.line("_sum", labels, None, unit.shown(histogram.sum()));
        self.line("_count", labels, None, histogram.count());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], le: Option<&str>, value: impl std::fmt::Display) {
        if let Some([kind, help]) = self.head.take() {
            put(self.page, format_args!("# HELP {} {help}\n# TYPE {} {kind}\n", self.name, self.name));
        }
        put(self.page, format_args!("{}{suffix}", self.name));
        let mut open = '{';
        for (label, text) in labels.iter().copied().chain(le.map(|le| ("le", le))) {
            put(self.page, format_args!("{open}{label}=\""));
            escape(self.page, text);
            self.page.push('"');
            open = ',';
        }
        if open == ',' {
            self.page.push('}');
        }
        put(self.page, format_args!(" {value}\n"));
    }
}

impl Unit {
    fn shown(self, value: u64) -> String {
        let decimals: u32 = match self {
            Self::Whole => return value.to_string(),
            Self::Millis => 3,
            Self::Micros => 6,
        };
        let one = 10_u64.pow(decimals);
        match (value / one, value % one) {
            (whole, 0) => whole.to_string(),
            (whole, rest) => {
                let digits = format!("{rest:0width$}", width = decimals as usize);
                format!("{whole}.{}", digits.trim_end_matches('0'))
            }
        }
    }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_says_once_what_it_is_and_only_if_it_has_a_sample() {
        let mut page = Page::default();
        page.gauge("runner_nothing", "Is not there.");
        let mut family = page.counter("runner_things_total", "Things.");
        family.sample(&[], 3);
        family.sample(&[("of", "a \"b\"\\\n")], 4);
        assert_eq!(
            page.into_text(),
            "# HELP runner_things_total Things.\n# TYPE runner_things_total counter\nrunner_things_total 3\n\
             runner_things_total{of=\"a \\\"b\\\"\\\\\\n\"} 4\n"
        );
    }

    #[test]
    fn a_histogram_is_shown_in_its_base_unit() {
        let mut histogram = Histogram::new(&[250, 1_000_000]);
        [1, 250, 2_500_000].into_iter().for_each(|micros| histogram.record(micros));
        let mut page = Page::default();
        page.histogram("runner_x_seconds", "X.").ranges(&[("k", "v")], &histogram, Unit::Micros);
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            samples,
            [
                "runner_x_seconds_bucket{k=\"v\",le=\"0.00025\"} 2",
                "runner_x_seconds_bucket{k=\"v\",le=\"1\"} 2",
                "runner_x_seconds_bucket{k=\"v\",le=\"+Inf\"} 3",
                "runner_x_seconds_sum{k=\"v\"} 2.500251",
                "runner_x_seconds_count{k=\"v\"} 3",
            ]
        );
        assert_eq!([Unit::Millis.shown(1_050), Unit::Millis.shown(0), Unit::Whole.shown(7)], ["1.05", "0", "7"]);
    }
}
