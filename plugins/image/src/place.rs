//! Where a picture is, or goes: `CONTAINER/NAME`.

use crate::Options;
use runner_plugin::{Failure, WithFile};
use std::fmt;

/// A blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) container: String,
    pub(crate) name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.name)
    }
}

/// A whole place. Whether there is such a container and whether that is a name, the runner says.
pub(crate) fn place(field: &str, text: &str) -> Result<Place, Failure> {
    match text.split_once('/') {
        Some((container, name)) if !container.is_empty() && !name.is_empty() => {
            Ok(Place { container: container.to_owned(), name: name.to_owned() })
        }
        _ => Err(Failure::discard(format_args!("`{field}` is \"CONTAINER/NAME\", not {text:?}"))),
    }
}

/// A whole place, or a container, where the picture keeps the name that it has.
pub(crate) fn target(to: &str, args: &WithFile<Options>) -> Result<Place, Failure> {
    let container = to.strip_suffix('/').unwrap_or(to);
    if container.contains('/') {
        return place("to", to);
    }
    let from = args.options.from.as_deref().map(|from| place("from", from)).transpose()?;
    match from.map(|from| from.name).or_else(|| args.name.clone()) {
        Some(name) => place("to", &format!("{container}/{name}")),
        None => Err(Failure::discard(format_args!("the picture has no name to keep: `to` is \"{container}/NAME\""))),
    }
}
