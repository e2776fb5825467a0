//! Whether a JPEG is whole. Decoders fill what is missing with grey and say nothing; a picture that lost its lower half on
//! the way is better reported. Only the structure is looked at: marker segments up to the end marker.

/// Restart markers and stuffed zeros stand within the data of a scan; every other marker ends it.
const STUFFED: u8 = 0x00;
const RESTART_FIRST: u8 = 0xD0;
const RESTART_LAST: u8 = 0xD7;
const START: u8 = 0xD8;
const END: u8 = 0xD9;
/// Stands alone, like a restart: it has no length.
const TEMPORARY: u8 = 0x01;
const FILL: u8 = 0xFF;

/// Whether the end marker follows where the markers lead.
pub(crate) fn is_complete(data: &[u8]) -> bool {
    let mut rest = data;
    loop {
        // Between segments, and in the data of a scan, the next marker is the next 0xFF that is followed by one.
        let Some(at) = rest.iter().position(|byte| *byte == FILL) else { return false };
        let Some(marker) = rest.get(at + 1).copied() else { return false };
        match marker {
            END => return true,
            FILL => rest = &rest[at + 1..],
            STUFFED | TEMPORARY | START | RESTART_FIRST..=RESTART_LAST => rest = &rest[at + 2..],
            _ => {
                let Some(&[high, low]) = rest.get(at + 2..at + 4) else { return false };
                let after = at + 2 + usize::from(u16::from_be_bytes([high, low]));
                let Some(next) = rest.get(after..) else { return false };
                rest = next;
            }
        }
    }
}
