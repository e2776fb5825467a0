//! Files that were changed behind the store's back: flipped bits, holes, missing ends, pages that lie where others should,
//! pages as they once were. Each is refused, or what is wrong is found, or nothing that is kept has changed. Never a panic
//! that escapes, never a hang, never other data that passes for the store's.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use runner_store::engine::redb::Commit;

use super::disk::{Disk, Image};
use super::images::check;
use super::script::Script;
use crate::workload::Dice;

const SEED: u64 = 1;
const MUTATIONS: u64 = 4_000;
const BATCHES: usize = 30;
/// The batches that the damaged files have.
const DONE: usize = BATCHES - 2;
const THREADS: u64 = 2;
/// Where redb keeps what it finds everything else by.
const HEADER: u64 = 320;
const PAGE: u64 = 4_096;
/// What a mutation takes at most: a hundred times what it takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// What became of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Opening says what is wrong.
    Refused,
    /// It opens; the check or the pages' checksums say what is wrong.
    Found,
    /// All that is kept is there, and work goes on.
    Unharmed,
    /// The header was made to name the state before the last commit, which is whole: nothing within a file says that
    /// there was a later one.
    Before,
}

/// A store's files to be damaged: as a killed process leaves one, and closed in order.
struct Originals {
    script: Script,
    files: [Image; 2],
}

#[test]
fn no_damage_is_taken_for_data() {
    let variable = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let seed = variable("RUNNER_SIM_SEED").unwrap_or(SEED);
    let mutations = variable("RUNNER_SIM_MUTATIONS").unwrap_or(MUTATIONS);
    let originals = Arc::new(originals(seed));
    let fates = mutate_all(&originals, mutations);
    let mut sums: BTreeMap<(&str, Fate), u64> = BTreeMap::new();
    for _ in 0..mutations {
        let (n, what, fate) = fates.recv_timeout(DEADLINE).expect("a mutation hangs");
        let Ok(fate) = fate else {
            eprintln!(
                "again: RUNNER_SIM_SEED={seed} RUNNER_SIM_MUTATIONS={mutations} cargo test -p runner-store --test sim no_damage"
            );
            panic!("mutation {n}, {what}: {}", fate.unwrap_err());
        };
        *sums.entry((what, fate)).or_default() += 1;
    }
    for ((what, fate), n) in &sums {
        println!("{what}: {n} {fate:?}");
    }
    let of = |fate| sums.iter().filter(|((_, other), _)| *other == fate).map(|(_, n)| n).sum::<u64>();
    let (refused, found) = (of(Fate::Refused), of(Fate::Found));
    println!(
        "{mutations} mutations: {refused} refused, {found} found, {} unharmed, {} as before the last commit; seed {seed}",
        of(Fate::Unharmed),
        of(Fate::Before)
    );
    // Most pages that are not empty are old ones, whose loss nobody notices; enough are not.
    assert!(refused > mutations / 20 && found > mutations / 40);
}

fn originals(seed: u64) -> Originals {
    let script = Script::random(seed, Commit::TwoPhase, BATCHES, false);
    let killed = script.image(DONE).clone();
    let disk = Disk::of(killed.clone());
    drop(script.open(disk.clone()).unwrap());
    Originals { script, files: [killed, disk.durable()] }
}

/// Threads of their own: one that hangs is left behind.
fn mutate_all(originals: &Arc<Originals>, mutations: u64) -> Receiver<(u64, &'static str, Result<Fate, String>)> {
    let (tell, told) = channel();
    for thread in 0..THREADS {
        let (originals, tell) = (Arc::clone(originals), tell.clone());
        std::thread::spawn(move || {
            for n in (thread..mutations).step_by(THREADS as usize) {
                let (image, what) = mutate(&originals, n);
                let fate = catch_unwind(AssertUnwindSafe(|| look(&originals.script, &image)));
                let fate = fate.unwrap_or_else(|_| Err("a panic".to_owned()));
                if tell.send((n, what, fate)).is_err() {
                    // The test has failed by now.
                    return;
                }
            }
        });
    }
    told
}

fn mutate(originals: &Originals, n: u64) -> (Image, &'static str) {
    let mut d = Dice(originals.script.seed.wrapping_mul(1 << 32).wrapping_add(n));
    let mut image = originals.files[n as usize % 2].clone();
    let what = match n / 2 % 10 {
        0 => change(&mut image, &mut d, HEADER, 1, "a byte of the header"),
        1 => change(&mut image, &mut d, HEADER, 16, "bytes of the header"),
        2 | 3 => change(&mut image, &mut d, u64::MAX, 1, "a byte"),
        4 => change(&mut image, &mut d, u64::MAX, 64, "bytes"),
        5 => {
            let page = used_page(&image, &mut d);
            let noise: Vec<u8> = (0..PAGE).map(|_| d.next() as u8).collect();
            let zeros = vec![0; PAGE as usize];
            image.write(page, if d.one_in(2) { &zeros } else { &noise });
            "a page without what it had"
        }
        6 => {
            let (a, b) = (used_page(&image, &mut d), used_page(&image, &mut d));
            let (first, second) = (page_at(&image, a), page_at(&image, b));
            image.write(a, &second);
            image.write(b, &first);
            "two pages swapped"
        }
        7 => {
            let (from, to) = (used_page(&image, &mut d), used_page(&image, &mut d));
            let page = page_at(&image, from);
            image.write(to, &page);
            "a page written to where another was"
        }
        8 => {
            let then = originals.script.image(d.below(DONE as u64) as usize);
            let page = used_page(then, &mut d);
            image.write(page, &page_at(then, page));
            "a page as it once was"
        }
        _ => {
            let len = image.len();
            image.set_len(if d.one_in(4) { len + d.below(3 * PAGE) } else { 1 + d.below(len) });
            "another length"
        }
    };
    (image, what)
}

/// Changes so many bytes somewhere before `end`, where something is.
fn change(image: &mut Image, d: &mut Dice, end: u64, bytes: usize, what: &'static str) -> &'static str {
    let page = if end < PAGE { 0 } else { used_page(image, d) };
    let old = page_at(image, page);
    let within = d.below(end.min(PAGE));
    // Most of a page may be empty.
    let start = old[..=within as usize].iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let mut new = old;
    for byte in new.iter_mut().skip(start).take(bytes) {
        *byte = if bytes == 1 && d.one_in(2) { *byte ^ (1 << d.below(8)) } else { d.next() as u8 };
    }
    image.write(page, &new);
    what
}

/// Where a page begins that is not empty.
fn used_page(image: &Image, d: &mut Dice) -> u64 {
    let start = d.below(image.len() / PAGE);
    let pages = (start..image.len() / PAGE).chain(0..start);
    pages.map(|page| page * PAGE).find(|at| page_at(image, *at).iter().any(|byte| *byte != 0)).unwrap_or(0)
}

fn page_at(image: &Image, at: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE as usize];
    image.read(at, &mut page).expect("the page is within the file");
    page
}

/// Opens the file, compares everything with what was there, and works on.
fn look(script: &Script, image: &Image) -> Result<Fate, String> {
    let (mut engine, clock) = match script.open(Disk::of(image.clone())) {
        Ok(open) => open,
        Err(error) if error.to_string().is_empty() => return Err("refused without a word".to_owned()),
        Err(_) => return Ok(Fate::Refused),
    };
    let findings = check(&mut engine, true);
    let found = engine.dump().ok().map(|dump| script.find(&dump));
    match found {
        Some(Some(n)) if findings.is_empty() && script.is_at(n, DONE) => {}
        Some(Some(n)) if findings.is_empty() && script.is_before_last_change(n, DONE) => return Ok(Fate::Before),
        Some(state) if findings.is_empty() => {
            return Err(format!("it holds {state:?}, and nobody finds anything wrong"));
        }
        // Found by a check, or it cannot be read.
        _ => return Ok(Fate::Found),
    }
    script.step(DONE, &mut engine, &clock).map_err(|error| format!("unharmed, and then: {error}"))?;
    let after = engine.dump().map_err(|error| error.to_string())?;
    match script.find(&after) {
        Some(n) if script.is_at(n, DONE + 1) => Ok(Fate::Unharmed),
        other => Err(format!("unharmed, and then it holds {other:?}")),
    }
}
