//! What the machine, or the part of it that this process may use, has.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a machine does not say what it has: what every machine of today has.
const MEMORY_BYTES_UNKNOWN: u64 = 4 << 30;

/// What the machine calls its processor.
pub(crate) fn cpu() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = |line: &str| line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model.to_owned());
    cpus.lines().find_map(model).unwrap_or_else(|| format!("unknown ({})", std::env::consts::ARCH))
}

/// The default of a node's budget: half of the memory that this process may use, as the store, the compiler and the page
/// cache need some, too.
pub(crate) fn memory_for_runs() -> u64 {
    memory_bytes() / 2
}

/// The memory that this process may use: the machine's, or less, where its control group, or one around it, has a limit.
pub(crate) fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    let least = limits.filter_map(|text| text.trim().parse().ok()).min();
    least.into_iter().chain(machine).min().unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// The machine's memory, from `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The files that may hold a limit, from `/proc/self/cgroup`: of the process's group and of each around it. Where the groups
/// are those of a container, what is mounted is the container's own, so the root is looked at, too.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            some if some.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(group).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(total("MemTotal:       24736408 kB\nMemFree:  1 kB\n"), Some(24_736_408 << 10));
        assert_eq!(total("MemFree: 1 kB"), None);
        assert!(memory_for_runs() > 0);
    }

    #[test]
    fn every_group_around_the_process_may_have_a_limit() {
        let files = |groups| limit_files(groups).iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        let all = ["a/b/memory.max", "a/memory.max", "memory.max"].map(|file| format!("/sys/fs/cgroup/{file}"));
        assert_eq!(files("0::/a/b\n"), all);
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        let old = ["x/memory.limit_in_bytes", "memory.limit_in_bytes"];
        let old = old.map(|file| format!("/sys/fs/cgroup/memory/{file}"));
        assert_eq!(files("5:cpu:/y\n4:memory,hugetlb:/x\n"), old);
        assert_eq!(files("nonsense"), Vec::<String>::new());
    }
}
