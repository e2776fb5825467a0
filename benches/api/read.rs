//! Pages: of one job, and of lists that are filtered in every way.

use std::time::Instant;

use crate::client::{Connection, get};
use crate::load::{CUSTOMERS, KINDS, QUEUES};
use crate::server::Server;
use crate::spread;

/// Pages of jobs, and of lists by each filter.
const PAGES: usize = 10_000;
const LISTS: usize = 500;

/// One job, any of them, with its args and runs.
pub(crate) async fn page(server: &Server, jobs: usize) {
    let mut connection = Connection::open(server).await;
    let mut times = Vec::with_capacity(PAGES);
    for n in 0..PAGES {
        let request = get(&format!("/v1/jobs/{}", any(n, jobs) + 1));
        let begun = Instant::now();
        connection.ask_for(200, &request).await;
        times.push(begun.elapsed());
    }
    spread(&format!("page of a job, {jobs} stored"), times, "p99 <= 2 ms");
}

/// Lists: by what an index knows, and by what is looked for in rows.
pub(crate) async fn list(server: &Server, jobs: usize) {
    let mut connection = Connection::open(server).await;
    for filter in [
        "",
        "state=available",
        "state=scheduled&queue=q{queue}",
        "kind=bench.k{kind}&state=held&limit=200",
        "queue=q{queue}&order=oldest",
        "tag=customer={customer}",
        "tag=customer={customer}&state=held",
        "q=bench.k{kind}",
        "q=nothing+has+this",
        "since=2000-01-01T00:00:00Z&until=2001-01-01T00:00:00Z",
        "unique_key=none",
        "outcome=failed&state=available",
    ] {
        let mut times = Vec::with_capacity(LISTS);
        for n in 0..LISTS {
            let place = any(n, jobs);
            let filter = filter
                .replace("{queue}", &(place % QUEUES).to_string())
                .replace("{kind}", &(place % KINDS).to_string())
                .replace("{customer}", &(place % CUSTOMERS).to_string());
            let request = get(&format!("/v1/jobs?{filter}"));
            let begun = Instant::now();
            connection.ask_for(200, &request).await;
            times.push(begun.elapsed());
        }
        spread(&format!("list, {jobs} stored, {filter:?}"), times, "p99 <= 20 ms");
    }
}

/// Numbers that are spread over all there are, the same each time.
fn any(n: usize, of: usize) -> usize {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % of
}
