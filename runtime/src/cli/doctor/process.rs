//! What a process may use here: open files, memory, an address.

use std::net::{TcpListener, ToSocketAddrs};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::api::serve::is_loopback;
use crate::cli::doors::{FILES_BESIDE, RAISE_FILES};
use crate::cli::output::bytes;
use crate::machine;
use crate::operator::Operator;

/// With fewer, a server of the usual size does not work well.
const OPEN_FILES_MIN: u64 = 4_096;
/// Of the memory that the process may use, in hundredths: beside the runs there are the store, the compiler, the page cache.
const RUNS_PERCENT_MAX: u64 = 80;
/// A budget below this holds not even four runs of the default limit.
const MEMORY_MIN: u64 = 256 << 20;

/// Whether as many files may be open as there are to be connections, and the rest beside them.
pub(super) fn limits(connections: usize) -> Finding {
    judge_files(getrlimit(Resource::Nofile).maximum, connections)
}

fn judge_files(most: Option<u64>, connections: usize) -> Finding {
    let needed = (connections + FILES_BESIDE) as u64;
    let Some(most) = most else { return Finding::good("open_files", "any number") };
    if most < OPEN_FILES_MIN.min(needed) {
        let what = format!("this process may open {most} files at once");
        return Finding::wrong("open_files", what, format!("{RAISE_FILES}: {needed} or more"));
    }
    if most < needed {
        let what = format!("{most} at once are too few for {connections} connections: fewer are taken");
        return Finding::look("open_files", what, format!("{RAISE_FILES}: {needed} or more; or lower --connections"));
    }
    Finding::good("open_files", format!("up to {most}"))
}

/// The budget of runs against what the machine, or the control group around the process, has.
pub(super) fn memory(operator: &Operator) -> Finding {
    judge(operator.memory_bytes.unwrap_or_else(machine::memory_for_runs), machine::memory_bytes())
}

fn judge(budget: u64, there: u64) -> Finding {
    let what = format!("{} for all runs together, of {} that this process may use", bytes(budget), bytes(there));
    if budget / RUNS_PERCENT_MAX > there / 100 {
        let mend = "lower `memory` of [node] or [serve] in the configuration, or raise the limit of the control group (memory.max)";
        return Finding::wrong("memory", what, mend);
    }
    if budget < MEMORY_MIN {
        let mend = "raise `memory` of [node] or [serve] in the configuration, or the limit of the control group";
        return Finding::look("memory", format!("{what}: few runs fit"), mend);
    }
    Finding::good("memory", what)
}

/// Whether the address can be listened on; if a server has it, it can.
pub(super) fn address(text: &str, served: bool) -> Finding {
    let mend = "choose another one with --listen, for example 127.0.0.1:7070";
    let address = match text.to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return Finding::wrong("address", format!("{text} names no address"), mend),
        Err(error) => return Finding::wrong("address", format!("{text}: {error}"), mend),
    };
    if !served && let Err(error) = TcpListener::bind(address) {
        return Finding::wrong("address", format!("{address} cannot be listened on: {error}"), mend);
    }
    if is_loopback(&address) {
        return Finding::good("address", format!("{address}: this machine only"));
    }
    Finding::look(
        "address",
        format!("{address} can be reached from other machines"),
        "see to it that whoever asks is known (tokens, TLS), or listen on 127.0.0.1",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn runs_may_not_take_all_the_memory() {
        let level = |budget, there| judge(budget, there).level;
        assert_eq!(level(4 << 30, 8 << 30), Level::Good);
        assert_eq!(level(8 << 30, 8 << 30), Level::Wrong);
        assert_eq!(level(128 << 20, 256 << 20), Level::Look);
    }

    #[test]
    fn there_must_be_a_file_for_each_connection() {
        let level = |most, connections| judge_files(most, connections).level;
        assert_eq!(level(None, 16_384), Level::Good);
        assert_eq!(level(Some(17_408), 16_384), Level::Good);
        assert_eq!(level(Some(17_407), 16_384), Level::Look);
        assert_eq!(level(Some(4_095), 16_384), Level::Wrong);
        assert_eq!(level(Some(2_048), 1_000), Level::Good, "whoever asks for few needs few");
    }

    #[test]
    fn an_address_that_is_taken_is_found_before_the_start() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = taken.local_addr().unwrap().to_string();
        assert_eq!(address(&text, false).level, Level::Wrong);
        assert_eq!(address(&text, true).level, Level::Good);
        assert_eq!(address("nonsense", true).level, Level::Wrong);
        assert_eq!(address("0.0.0.0:0", false).level, Level::Look);
    }
}
