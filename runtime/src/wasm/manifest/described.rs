//! What a plugin's policy says of its kinds when it is loaded: JSON with the keys of a manifest's `[[kind]]`, read by the
//! same reader.

use super::{KINDS_MAX, KindSettings, keys};
use crate::table::{self, Table};

/// The options of one kind: a dozen keys.
const OPTIONS_BYTES_MAX: usize = 64 << 10;

/// Reads what was described, each kind for itself; answers with what is wrong beside what is right.
pub(in crate::wasm) fn described<'a>(
    kinds: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    offered: &[String],
    batches: bool,
) -> (Vec<(String, KindSettings)>, Vec<String>) {
    let (mut right, mut wrong) = (Vec::<(String, KindSettings)>::new(), Vec::new());
    if kinds.len() > KINDS_MAX {
        wrong.push(format!("describe answered {} kinds, at most {KINDS_MAX} are read", kinds.len()));
    }
    for (kind, options) in kinds.take(KINDS_MAX) {
        let known = offered.iter().any(|offered| offered == kind);
        let settings = match known {
            false => Err("the plugin does not offer this kind".to_owned()),
            true if right.iter().any(|(name, _)| name == kind) => {
                Err("it is described twice; the first counts".to_owned())
            }
            true => settings(options),
        };
        match settings {
            Ok(settings) if settings.batch.is_some() && !batches => {
                wrong.push(format!("kind `{}`: `batch` needs the export batch", kind.escape_debug()));
            }
            Ok(settings) => right.push((kind.to_owned(), settings)),
            Err(why) => wrong.push(format!("kind `{}`: {why}", kind.escape_debug())),
        }
    }
    (right, wrong)
}

fn settings(options: &str) -> Result<KindSettings, String> {
    if options.is_empty() {
        return Ok(KindSettings::default());
    }
    if options.len() > OPTIONS_BYTES_MAX {
        return Err(format!("options of {} bytes, at most {OPTIONS_BYTES_MAX} are read", options.len()));
    }
    let object: toml::Table =
        serde_json::from_str(options).map_err(|error| format!("options are no JSON object: {error}"))?;
    let text = toml::to_string(&object).map_err(|error| format!("options cannot be read: {error}"))?;
    let parsed = table::parse(&text).map_err(|error| error.message)?;
    let mut table = Table::new(&text, "", parsed.get_ref());
    // The line is one of a text that nobody wrote.
    let settings = keys::settings(&mut table).map_err(|error| error.message)?;
    table.done().map_err(|error| error.message)?;
    Ok(settings)
}
