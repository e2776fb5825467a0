//! The store's folder: whether it is there, who may write it, on what file system it lies, and how much room that has.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use runner_store::dir::StoreDir;
use runner_store::disk::{self, Room};
use rustix::fs::{Access, access, statfs};

use super::Finding;
use crate::cli::output::bytes;

/// Bits of a mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// Whether there is a store to be asked.
pub(super) fn has_store(data: &Path) -> bool {
    StoreDir::new(data).exists()
}

/// Looks at the folder, or at what it would be made in.
pub(super) fn check(data: &Path) -> Vec<Finding> {
    let shown = data.display();
    let mut found = Vec::new();
    let folder = if data.is_dir() {
        let what = if has_store(data) { "has a store" } else { "has no store yet: `runner serve --init` makes one" };
        found.push(Finding::good("data", format!("{shown} {what}")));
        data
    } else if data.exists() {
        let mend = "choose another folder with --data, or remove what is in its place";
        return vec![Finding::wrong("data", format!("{shown} is not a folder"), mend)];
    } else {
        found.push(Finding::good("data", format!("{shown} does not exist yet: `runner serve` makes it")));
        // Relative to where it would be made.
        let above = data.ancestors().skip(1).find(|path| path.is_dir());
        above.unwrap_or(Path::new("."))
    };
    found.extend(rights(folder));
    found.extend(file_system(folder));
    found.extend(room(folder));
    found
}

fn rights(folder: &Path) -> Option<Finding> {
    let shown = folder.display();
    if access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let mend = format!("let this user write it: chown or chmod u+rwx {shown}, or run as its owner");
        return Some(Finding::wrong("rights", format!("{shown} cannot be written by this user"), mend));
    }
    let mode = std::fs::metadata(folder).ok()?.mode();
    // A folder for everyone's files, where nobody may take away another's.
    let sticky = mode & 0o1000 != 0;
    if mode & OTHERS_WRITE != 0 && !sticky {
        let mend = format!("take that from them: chmod go-w {shown}");
        return Some(Finding::wrong("rights", format!("{shown} can be written by other users"), mend));
    }
    Some(Finding::good("rights", format!("{shown} is this user's to write")))
}

/// What a kind of file system means for a store.
fn file_system(folder: &Path) -> Option<Finding> {
    let kind = statfs(folder).ok()?.f_type;
    Some(judge(u64::try_from(kind).unwrap_or_default() & 0xffff_ffff))
}

fn judge(kind: u64) -> Finding {
    let network = "put the store on a local disk: with --data, or a mount";
    match kind {
        0x6969 => Finding::wrong("file_system", "NFS: locks and fsync cannot be relied on", network),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => {
            Finding::wrong("file_system", "SMB: locks and fsync cannot be relied on", network)
        }
        0x0102_1997 => Finding::wrong("file_system", "9p: fsync cannot be relied on", network),
        0x6573_5546 => {
            Finding::look("file_system", "FUSE: whether fsync can be relied on is up to what is behind it", network)
        }
        0x0102_1994 | 0x8584_58f6 => Finding::look(
            "file_system",
            "memory (tmpfs): gone with the next restart",
            "choose a folder on a disk with --data",
        ),
        0x794c_7630 => Finding::look(
            "file_system",
            "the layer of a container (overlayfs): gone with the container",
            "mount a volume at the store's folder",
        ),
        _ => Finding::good("file_system", "a local one"),
    }
}

fn room(folder: &Path) -> Option<Finding> {
    let space = disk::space(folder).ok()?;
    let reserve = disk::reserve(space.total_bytes);
    let what = format!("{} are free, {} are kept in reserve", bytes(space.free_bytes), bytes(reserve));
    let mend = "make room on the disk: `runner store set` keeps jobs for less long, `runner store compact` gives back";
    Some(match disk::room(space.free_bytes, space.total_bytes) {
        Room::Plenty => Finding::good("disk", what),
        Room::Low => Finding::wrong("disk", format!("{what}, so no job is taken"), mend),
        Room::Critical => Finding::wrong("disk", format!("{what}, so no job is taken and none is started"), mend),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_store_does_not_belong_on_every_file_system() {
        let levels = [0xef53, 0x6969, 0x0102_1994, 0x794c_7630].map(|kind| judge(kind).level);
        assert_eq!(levels, [Level::Good, Level::Wrong, Level::Look, Level::Look]);
    }

    #[test]
    fn a_folder_that_others_may_write_is_wrong() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let level = |mode| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            rights(dir.path()).unwrap().level
        };
        assert_eq!(
            [level(0o700), level(0o755), level(0o777), level(0o1777)].map(|l| l == Level::Good),
            [true, true, false, true]
        );
        let nowhere = check(&dir.path().join("a/b"));
        assert!(nowhere[0].what.contains("does not exist yet"), "{nowhere:?}");
        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert_eq!(check(&dir.path().join("file"))[0].level, Level::Wrong);
    }
}
