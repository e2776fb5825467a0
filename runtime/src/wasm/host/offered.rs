//! Which functions of the contract are offered: read from the contract itself, so that the two cannot differ.

/// The contract that this host serves.
const CONTRACT: &str = include_str!("../../../../plugin-sdk/wit/plugin.wit");

/// Whether the interface of the contract has a function of this name.
pub(in crate::wasm) fn offers(interface: &str, function: &str) -> bool {
    let opens =
        |line: &str| line.strip_prefix("interface ").and_then(|rest| rest.strip_suffix(" {")) == Some(interface);
    let mut lines = CONTRACT.lines().skip_while(|line| !opens(line)).skip(1).take_while(|line| *line != "}");
    lines.any(|line| line.trim_start().strip_prefix(function).is_some_and(|rest| rest.starts_with(": func(")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_says_what_is_offered() {
        for (interface, function) in
            [("host", "log"), ("host", "pause-schedule"), ("kv", "compare-and-set"), ("http", "send")]
        {
            assert!(offers(interface, function), "{interface}#{function}");
        }
        for (interface, function) in [("host", "send"), ("host", "lo"), ("hos", "log"), ("host", "level"), ("kv", "")] {
            assert!(!offers(interface, function), "{interface}#{function}");
        }
    }
}
