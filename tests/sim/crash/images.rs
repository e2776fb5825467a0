//! Power cuts at every operation of a run: whatever of the unsynced writes is kept, lost, torn or reordered, the store
//! opens, and holds every batch that was acknowledged, the one in flight wholly or not at all, and nothing else.
//!
//! Some images are recovered on a disk that is watched in turn, work goes on there, and the power is cut again at every
//! operation of that. It does not lie about syncs: what a disk does that breaks its word no store can make good.

use std::collections::HashMap;
use std::ops::{AddAssign, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use runner_store::engine::Dump;
use runner_store::engine::redb::{Commit, Redb};

use super::disk::{Disk, Image, Op};
use super::script::Script;
use crate::workload::Dice;

/// Images that a run in CI looks at, at least.
const IMAGES: u64 = 100_000;
/// What a seed yields, about; where that was too little, more seeds follow.
const IMAGES_OF_SEED: u64 = 14_000;
const BATCHES: usize = 30;
/// Random images at each operation, beside that with nothing of the unsynced and that with all of it.
const RANDOM_IMAGES: u64 = 10;
/// The same at the operations of a recovery, which are cut again.
const RANDOM_IMAGES_AGAIN: u64 = 3;
/// One of so many distinct images is recovered under watch.
const RECOVERED: u64 = 200;
/// Batches that it then works on.
const BATCHES_AGAIN: usize = 2;
/// One of so many distinct images gets the store's own check of everything, one of that many of these is verified page by
/// page as well: what it holds is compared with the ledger in any case.
const CHECKED: u64 = 4;
const SECTOR: usize = 512;
const THREADS: usize = 2;
/// Failures that are spelt out.
const SAID: u64 = 5;

/// What a store made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// The content after so many batches, as [`Script::find`] says it.
    Batches(usize),
    Unopenable(String),
    /// It holds what it never held.
    Strange(Box<Dump>),
    /// It holds what it should, and its own check does not think so.
    Unclean(Vec<String>),
}

/// The figures.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    images: u64,
    distinct: u64,
    /// Of the images.
    opened: u64,
    /// Of the images, by a second cut.
    again: u64,
    /// Of the distinct ones, checked in full.
    checked: u64,
    lost: u64,
    torn: u64,
    double: u64,
    unclean: u64,
    unopenable: u64,
    operations: u64,
}

/// A run on a watched disk.
struct Run {
    start: Image,
    trace: Vec<Op>,
    /// Batches that `start` has.
    first: usize,
    /// For each batch after them: changes of the disk before it began, and before it was acknowledged.
    marks: Vec<(usize, usize)>,
    again: bool,
}

struct Examiner<'a> {
    script: &'a Script,
    dice: Dice,
    found: HashMap<u64, Found>,
    tally: Tally,
    said: &'a AtomicU64,
}

#[test]
fn no_power_cut_loses_tears_or_doubles_anything() {
    let wanted: Option<u64> = std::env::var("RUNNER_SIM_IMAGES").ok().and_then(|n| n.parse().ok());
    let one: Option<u64> = std::env::var("RUNNER_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = one.unwrap_or(1);
    let wanted = wanted.unwrap_or(if one.is_some() { 1 } else { IMAGES });
    let (began, said) = (Instant::now(), AtomicU64::new(0));
    let mut t = Tally::default();
    let mut next = first;
    while t.images < wanted {
        let seeds = next..next + (wanted - t.images).div_ceil(IMAGES_OF_SEED);
        next = seeds.end;
        t += examine_seeds(seeds, &said);
    }
    println!(
        "{} images at {} operations, {} distinct ({} of them checked in full), {} after a second cut: {} opened, {} lost, {} torn, \
         {} double, {} unclean, {} unopenable; seeds {first} to {}, {:.0} s",
        t.images,
        t.operations,
        t.distinct,
        t.checked,
        t.again,
        t.opened,
        t.lost,
        t.torn,
        t.double,
        t.unclean,
        t.unopenable,
        next - 1,
        began.elapsed().as_secs_f64()
    );
    assert_eq!(t.lost + t.torn + t.double + t.unclean + t.unopenable, 0, "see above");
    assert_eq!(t.opened, t.images);
}

/// Each thread takes the next seed; a seed's figures do not depend on which thread that is.
fn examine_seeds(seeds: Range<u64>, said: &AtomicU64) -> Tally {
    let (next, sum) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end) {
                    let tally = examine_seed(seed, said);
                    *sum.lock().unwrap_or_else(PoisonError::into_inner) += tally;
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Both modes of commit, each by every other seed; the file grows in every fourth of either.
fn examine_seed(seed: u64, said: &AtomicU64) -> Tally {
    let commit = if seed.is_multiple_of(2) { Commit::OnePhase } else { Commit::TwoPhase };
    let script = Script::random(seed, commit, BATCHES, (seed / 2).is_multiple_of(4));
    let mut examiner =
        Examiner { script: &script, dice: Dice(seed), found: HashMap::new(), tally: Tally::default(), said };
    let run = examiner.run(script.image(0).clone(), 0, script.len(), false).expect("a new store can be opened");
    examiner.examine(&run);
    examiner.tally
}

impl Examiner<'_> {
    /// Opens a store on a watched disk, does some batches, and closes it.
    fn run(&self, start: Image, first: usize, batches: usize, again: bool) -> Option<Run> {
        let disk = Disk::of(start.clone());
        let (mut engine, clock) = self.script.open(disk.clone()).ok()?;
        let mut marks = Vec::new();
        for n in first..(first + batches).min(self.script.len()) {
            let begun = disk.changes();
            self.script.step(n, &mut engine, &clock).ok()?;
            marks.push((begun, disk.changes()));
        }
        drop(engine);
        Some(Run { start, trace: disk.trace(), first, marks, again })
    }

    /// Cuts the power before and after every change of the disk.
    fn examine(&mut self, run: &Run) {
        let mut durable = run.start.clone();
        let mut pending: Vec<&Op> = Vec::new();
        for done in 0..=run.trace.len() {
            match done.checked_sub(1).map(|last| &run.trace[last]) {
                Some(Op::Sync) => pending.drain(..).for_each(|op| durable.apply(op)),
                Some(op) => pending.push(op),
                None => {}
            }
            self.tally.operations += 1;
            self.cut(run, done, &durable, &pending);
        }
    }

    /// The images of one moment.
    fn cut(&mut self, run: &Run, done: usize, durable: &Image, pending: &[&Op]) {
        self.look(run, done, durable, "nothing of the unsynced");
        if pending.is_empty() {
            return;
        }
        self.look(run, done, &with(durable, pending), "all of the unsynced");
        let images = if run.again { RANDOM_IMAGES_AGAIN } else { RANDOM_IMAGES };
        for n in 0..images {
            let (image, what) = self.random_image(n, durable, pending);
            self.look(run, done, &image, what);
        }
    }

    fn random_image(&mut self, n: u64, durable: &Image, pending: &[&Op]) -> (Image, &'static str) {
        let d = &mut self.dice;
        let mut kept = match d.below(3) {
            0 => pending.to_vec(),
            _ => {
                let tenths = 1 + d.below(9);
                pending.iter().copied().filter(|_| d.below(10) < tenths).collect()
            }
        };
        match n % 5 {
            0 => (with(durable, &kept), "some of the unsynced"),
            1 => {
                for i in (1..kept.len()).rev() {
                    kept.swap(i, d.below(i as u64 + 1) as usize);
                }
                (with(durable, &kept), "some of the unsynced, reordered")
            }
            2 | 3 => {
                let mut image = with(durable, &pending[..pending.len() - 1]);
                tear(&mut image, pending[pending.len() - 1], d);
                (image, "the last write torn")
            }
            _ => {
                let torn = d.below(pending.len() as u64) as usize;
                let mut image = with(durable, &kept);
                tear(&mut image, pending[torn], d);
                (image, "some of the unsynced, a write torn")
            }
        }
    }

    /// Judges one image: against the batches that were acknowledged by then, and the one in flight.
    fn look(&mut self, run: &Run, done: usize, image: &Image, what: &str) {
        self.tally.images += 1;
        self.tally.again += u64::from(run.again);
        let found = match self.found.get(&image.hash()) {
            Some(found) => found.clone(),
            None => {
                self.tally.distinct += 1;
                let found = self.open(image);
                self.found.insert(image.hash(), found.clone());
                if let Found::Batches(n) = found
                    && !run.again
                    && self.dice.one_in(RECOVERED)
                {
                    self.recover(image, n);
                }
                found
            }
        };
        let acknowledged = run.first + run.marks.iter().filter(|(_, acked)| *acked <= done).count();
        let in_flight = run.marks.get(acknowledged - run.first).is_some_and(|(begun, _)| *begun < done);
        self.judge(&found, acknowledged, in_flight, &|| {
            let times = if run.again { "the second cut" } else { "the cut" };
            format!("{times} after {done} changes, {acknowledged} batches acknowledged, {what} kept")
        });
    }

    /// Recovers an image under watch, works on, and cuts the power again at every operation of that.
    fn recover(&mut self, image: &Image, batches: usize) {
        match self.run(image.clone(), batches, BATCHES_AGAIN, true) {
            Some(run) => self.examine(&run),
            None => {
                self.tally.unopenable += 1;
                self.say(&format!("an image with {batches} batches was opened and could not be worked on"));
            }
        }
    }

    fn open(&mut self, image: &Image) -> Found {
        let mut engine = match self.script.open(Disk::of(image.clone())) {
            Ok((engine, _)) => engine,
            Err(error) => return Found::Unopenable(error.to_string()),
        };
        let dump = match engine.dump() {
            Ok(dump) => dump,
            Err(error) => return Found::Unopenable(error.to_string()),
        };
        let Some(n) = self.script.find(&dump) else { return Found::Strange(Box::new(dump)) };
        if self.dice.one_in(CHECKED) {
            self.tally.checked += 1;
            let pages = self.dice.one_in(CHECKED);
            let findings = check(&mut engine, pages);
            if !findings.is_empty() {
                return Found::Unclean(findings);
            }
        }
        Found::Batches(n)
    }

    fn judge(&mut self, found: &Found, acknowledged: usize, in_flight: bool, when: &dyn Fn() -> String) {
        let t = &mut self.tally;
        t.opened += u64::from(!matches!(found, Found::Unopenable(_)));
        let why = match found {
            Found::Batches(n) if self.script.is_at(*n, acknowledged) => return,
            Found::Batches(n) if in_flight && self.script.is_at(*n, acknowledged + 1) => return,
            Found::Batches(n) if *n < acknowledged => {
                t.lost += 1;
                format!("lost: it has {n} batches")
            }
            Found::Batches(n) => {
                t.torn += 1;
                format!("it has {n} batches, of which some had not begun")
            }
            Found::Unopenable(error) => {
                t.unopenable += 1;
                format!("cannot be opened: {error}")
            }
            Found::Unclean(findings) => {
                t.unclean += 1;
                format!("unclean: {findings:?}")
            }
            Found::Strange(dump) => {
                let (kind, why) = self.name(dump, acknowledged, in_flight);
                match kind {
                    "lost" => self.tally.lost += 1,
                    "double" => self.tally.double += 1,
                    _ => self.tally.torn += 1,
                }
                format!("{kind}: {why}")
            }
        };
        self.say(&format!("{why}; {}", when()));
    }

    /// What is wrong with content that was never there.
    fn name(&self, dump: &Dump, acknowledged: usize, in_flight: bool) -> (&'static str, String) {
        let before = self.script.expected(acknowledged);
        let after = self.script.expected((acknowledged + usize::from(in_flight)).min(self.script.len()));
        let is_in = |dump: &Dump, job: &runner_store::job::Job| dump.jobs.iter().any(|other| other.at() == job.at());
        if let Some(job) = before.jobs.iter().find(|job| is_in(after, job) && !is_in(dump, job)) {
            return ("lost", format!("job {} is gone", job.id));
        }
        if let Some(job) = dump.jobs.iter().find(|job| !is_in(before, job) && !is_in(after, job)) {
            return ("double", format!("job {} was never accepted", job.id));
        }
        let (events, most) = (dump.log.len(), after.log.len());
        ("torn", format!("{} jobs and {events} events, of at most {most}", dump.jobs.len()))
    }

    fn say(&self, what: &str) {
        if self.said.fetch_add(1, Ordering::Relaxed) < SAID {
            let (seed, commit) = (self.script.seed, self.script.commit);
            eprintln!(
                "{what} ({commit:?})\nagain: RUNNER_SIM_SEED={seed} cargo test -p runner-store --test sim no_power_cut"
            );
        }
    }
}

fn with(durable: &Image, kept: &[&Op]) -> Image {
    let mut image = durable.clone();
    kept.iter().for_each(|op| image.apply(op));
    image
}

/// Applies a write of which only some sectors arrive: its first ones, or any. What is no write arrives or does not.
fn tear(image: &mut Image, op: &Op, dice: &mut Dice) {
    let Op::Write { offset, data } = op else {
        if dice.one_in(2) {
            image.apply(op);
        }
        return;
    };
    let sectors = data.len().div_ceil(SECTOR) as u64;
    let (in_order, cut) = (dice.one_in(2), dice.below(sectors));
    for (n, sector) in data.chunks(SECTOR).enumerate() {
        if if in_order { (n as u64) < cut } else { dice.one_in(2) } {
            image.write(offset + (n * SECTOR) as u64, sector);
        }
    }
}

/// What the store finds wrong with itself.
pub(super) fn check(engine: &mut Redb, pages: bool) -> Vec<String> {
    let mut findings = match engine.check() {
        Ok(report) => report.findings,
        Err(error) => vec![error.to_string()],
    };
    if pages {
        match engine.verify_pages() {
            Ok(true) => {}
            Ok(false) => findings.push("pages were made anew".to_owned()),
            Err(error) => findings.push(error.to_string()),
        }
    }
    findings
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { images, distinct, opened, again, checked, lost, torn, double, unclean, unopenable, operations } =
            other;
        self.images += images;
        self.distinct += distinct;
        self.opened += opened;
        self.again += again;
        self.checked += checked;
        self.lost += lost;
        self.torn += torn;
        self.double += double;
        self.unclean += unclean;
        self.unopenable += unopenable;
        self.operations += operations;
    }
}
