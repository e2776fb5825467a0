//! The marker of a store's folder: a small text that says that this is a store, which one, and of which schema. It is
//! written when everything else is in place.

/// The first line.
const HEADING: &str = "runner store";

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The schema of the store. The file itself says it as well, and is right where they differ.
    pub schema: u32,
    /// The store's id: the same for its backups and for what is restored of them.
    pub id: u64,
}

impl Marker {
    /// The text of a marker.
    pub(super) fn text(self) -> String {
        format!("{HEADING}\nschema {}\nid {:016x}\n", self.schema, self.id)
    }

    /// Reads a marker; none: it is no marker of ours. What further lines say is left to newer programs.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADING) {
            return None;
        }
        let schema = lines.next()?.strip_prefix("schema ")?.parse().ok()?;
        let id = lines.next().and_then(|line| u64::from_str_radix(line.strip_prefix("id ")?, 16).ok());
        Some(Self { schema, id: id.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back() {
        let marker = Marker { schema: 7, id: 0xfeed };
        assert_eq!(Marker::read(&marker.text()), Some(marker));
        assert_eq!(Marker::read("runner store\nschema 3\nid zz\nmore\n"), Some(Marker { schema: 3, id: 0 }));
        for text in ["", "runner store", "runner store\nschema x\n", "another\nschema 1\nid 1\n"] {
            assert_eq!(Marker::read(text), None, "{text:?}");
        }
    }
}
