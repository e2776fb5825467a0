//! What options say that is neither a text nor one of a few words: whole numbers, and addresses to listen at. What is wrong is
//! said in the same words for a flag, a variable of the environment and a line of the configuration.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// Reads a whole number of this range.
pub(super) fn whole<N>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: TryFrom<i128> + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let (first, last) = (range.start(), range.end());
        let said: i128 =
            text.parse().map_err(|_| format!("`{text}` is no whole number; write one from {first} to {last}"))?;
        let number = N::try_from(said).ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("{said} is not in {first}..={last}"))
    }
}

/// Reads an address to listen at, which has a port; whether its host can be found is seen when it is listened at.
pub(super) fn address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    if !host.is_empty() && port.parse::<u16>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no address with a port from 0 to 65535; write for example 127.0.0.1:7070"))
}
