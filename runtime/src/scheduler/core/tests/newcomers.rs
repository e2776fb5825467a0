//! Where a tenant, or a queue of one, begins that comes while another one works.

use super::ahead::Flood;
use super::*;

const SLOTS: u32 = 32;
const NEWCOMER: u64 = 900_000;
const QUICK: Duration = Duration::from_micros(50);
/// How long the machine stands still, in milliseconds.
const STALL: u64 = 200;

/// A flood of quick jobs that has gone on for a second, and then stood still as its machine did: what was in its sandbox has
/// taken long, what only waited for a thread has not. `stuck` of the runs go on for ever.
fn after_a_stall(in_sandbox: u32, stuck: u32) -> (Flood, u64) {
    let mut flood = Flood::new(SLOTS);
    (0..stuck).for_each(|_| _ = flood.running.pop_front());
    flood.goes_on(0..1_000, 20, QUICK);
    let ms = 1_000 + STALL;
    flood.goes_on(ms..ms + 1, u64::from(in_sandbox), Duration::from_millis(STALL));
    flood.goes_on(ms..ms + 1, u64::from(SLOTS - in_sandbox - stuck), QUICK);
    (flood, ms + 1)
}

/// For how many milliseconds of the flood a job of `lane` waits that comes and is claimed now.
fn wait(flood: &mut Flood, lane: Lane, now: u64) -> u64 {
    flood.core.handle_all([Event::Available { lane, difference: 1 }, served(lane)], at(now));
    flood.answer(vec![claimed(NEWCOMER, 0, lane)], now);
    flood.core.handle(Event::Available { lane, difference: -1 }, at(now));
    let until = (now..now + 10_000).find(|ms| {
        flood.goes_on(*ms..*ms + 1, 20, QUICK);
        flood.running.contains(&NEWCOMER)
    });
    until.map_or(u64::MAX, |ms| ms - now)
}

fn others() -> [Lane; 2] {
    [Lane { tenant: TenantId(2), ..Flood::lane() }, Lane { queue: QueueId(2), ..Flood::lane() }]
}

/// The story: the disk stood still for a fifth of a second, and so did all that ran. What started next counted as just as
/// long until it had ended, so that the tenant seemed to have had seconds more than it had; who came then, and for seconds
/// after, began behind them, and waited for as long, though it had ten jobs a second beside a million.
///
/// And it went on: runs that had waited for a thread, or one that had gone on for ever, had lasted longer than they counted
/// as, and that was taken for what the others were short of.
#[test]
fn who_comes_after_the_machine_stood_still_begins_where_the_others_are() {
    for (in_sandbox, stuck) in [(32, 0), (31, 0), (16, 0), (4, 0), (31, 1)] {
        for lane in others() {
            let (mut flood, now) = after_a_stall(in_sandbox, stuck);
            let waited = wait(&mut flood, lane, now);
            assert!(waited <= 2, "{in_sandbox} {stuck}, at once: {waited} ms");
            for later in [1, 5, 100] {
                let (mut flood, now) = after_a_stall(in_sandbox, stuck);
                flood.goes_on(now..now + later, 20, QUICK);
                let waited = wait(&mut flood, lane, now + later);
                // For a moment what waits for a thread counts as if it ran: two milliseconds of each slot.
                assert!(waited <= 2 * u64::from(SLOTS), "{in_sandbox} {stuck}, {later} ms later: {waited} ms");
            }
        }
    }
}
