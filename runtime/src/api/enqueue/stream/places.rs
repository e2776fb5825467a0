//! Which job each earlier line became, so that later lines can name it by its place.
//!
//! The jobs of a group have ids that follow each other, as a rule, so that a thousand lines are one entry.

use std::collections::VecDeque;

use runner_store::job::JobId;

/// Entries that are kept: 24 MB. Where there are more, as where a stream repeats jobs that were there in no order, the
/// oldest lines cannot be named any more.
const RANGES_MAX: usize = 1_000_000;

/// Lines that follow each other and became jobs that do.
#[derive(Debug, Clone, Copy)]
struct Range {
    line: u64,
    job: JobId,
    lines: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    ranges: VecDeque<Range>,
    /// Lines before this one are forgotten.
    from: u64,
}

/// What a line became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Job(JobId),
    /// It was not accepted.
    Refused,
    /// Too much came since.
    Forgotten,
}

impl Places {
    /// A line became a job. Lines come in order.
    pub(super) fn add(&mut self, line: u64, job: JobId) {
        if let Some(last) = self.ranges.back_mut()
            && last.line + u64::from(last.lines) == line
            && last.job.0 + u64::from(last.lines) == job.0
            && last.lines < u32::MAX
        {
            last.lines += 1;
            return;
        }
        if self.ranges.len() == RANGES_MAX
            && let Some(oldest) = self.ranges.pop_front()
        {
            self.from = oldest.line + u64::from(oldest.lines);
        }
        self.ranges.push_back(Range { line, job, lines: 1 });
    }

    /// What an earlier line became.
    pub(super) fn get(&self, line: u64) -> Place {
        if line < self.from {
            return Place::Forgotten;
        }
        let at = self.ranges.partition_point(|range| range.line <= line);
        let range = at.checked_sub(1).and_then(|at| self.ranges.get(at));
        match range.filter(|range| line < range.line + u64::from(range.lines)) {
            Some(range) => Place::Job(JobId(range.job.0 + (line - range.line))),
            None => Place::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_place() {
        let mut places = Places::default();
        for (line, job) in [(0, 10), (1, 11), (3, 12), (4, 13), (5, 7)] {
            places.add(line, JobId(job));
        }
        let job = |job| Place::Job(JobId(job));
        let found: Vec<_> = (0..7).map(|line| places.get(line)).collect();
        assert_eq!(found, [job(10), job(11), Place::Refused, job(12), job(13), job(7), Place::Refused]);
        assert_eq!(places.ranges.len(), 3);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut places = Places::default();
        (0..=RANGES_MAX as u64).for_each(|line| places.add(line, JobId(line * 2)));
        assert_eq!((places.get(0), places.get(1)), (Place::Forgotten, Place::Job(JobId(2))));
        assert_eq!(places.ranges.len(), RANGES_MAX);
    }
}
