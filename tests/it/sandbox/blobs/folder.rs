//! What only folders have: links, pipes, folders in them, and files that were left there.

use std::path::Path;

use super::{Place, files};

#[test]
fn nothing_leads_out_of_a_folder() {
    let place = Place::of_folder();
    let (inside, outside) = (place.blobs(), place.folder.path().join("outside"));
    std::fs::create_dir_all(inside.join("sub")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    std::fs::write(inside.join("sub/file"), "file").unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, inside.join(name)).unwrap();
    link(&outside.join("secret"), "absolute");
    link(Path::new("../outside/secret"), "relative");
    link(&outside, "folder");
    link(Path::new("sub/file"), "within");
    link(Path::new("nowhere"), "dangling");
    link(Path::new("loop"), "loop");
    link(Path::new("../sub"), "sub/circle");
    let script = "
        read c absolute 0 9
        size c relative
        read c relative 0 9
        read c folder/secret 0 9
        remove c folder/secret
        begin c folder/new
        write 1 x
        finish 1
        read c within 0 9
        read c sub/circle/file 0 9
        read c dangling 0 9
        names c _ _ 99
        begin c absolute
        write 2 mine
        finish 2
        read c absolute 0 9
        remove c relative";
    let expected = [
        "!invalid",
        "!invalid",
        "!invalid",
        "!invalid",
        "!invalid",
        "1",
        "ok",
        "!invalid",
        "file",
        "file",
        "!not_found",
        "sub/file within",
        "2",
        "ok",
        "ok",
        "mine",
        "ok",
    ];
    place.check(script, &expected);
    assert_eq!(files(&outside), ["secret"]);
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
}

#[test]
fn a_container_that_is_itself_a_link_out_is_not_opened() {
    let place = Place::of_folder();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), place.blobs()).unwrap();
    place.check("size c a\nbegin c a", &["!unavailable: the container cannot be used now: its folder is a link"; 2]);
    assert_eq!(files(outside.path()), [""; 0]);
}

#[test]
fn what_is_no_plain_file_is_no_blob() {
    let place = Place::of_folder();
    std::fs::create_dir_all(place.blobs().join("a/b")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(place.blobs().join("pipe")).status().unwrap();
    assert!(pipe.success());
    let script = "
        size c a
        read c a 0 1
        remove c a
        size c pipe
        read c pipe 0 1
        names c _ _ 9
        begin c a/b
        finish 1
        begin c a/b/c
        finish 2
        begin c a/b/c/d
        finish 3
        size c a/b/c/d
        read c a/b/c/d 0 1
        remove c a/b/c/d";
    let expected = [
        "none",
        "!not_found",
        "ok",
        "none",
        "!not_found",
        "",
        "1",
        "!invalid",
        "2",
        "ok",
        "3",
        "!invalid",
        "none",
        "!not_found",
        "ok",
    ];
    place.check(script, &expected);
    assert_eq!(files(&place.blobs()), ["a", "pipe"], "refused writes leave nothing");
}

#[test]
fn a_folder_to_read_must_be_there_and_one_to_write_is_made() {
    let place =
        Place::new("c = { url = \"file:made/here\", mode = \"write\" }\nr = { url = \"file:gone\", mode = \"read\" }");
    place.check(
        "begin c a\nfinish 1\nsize r a",
        &["1", "ok", "!unavailable: the container cannot be used now: its folder is not"],
    );
    assert_eq!(files(&place.folder.path().join("made/here")), ["a"]);
    let message = &place.answers("size r a")[0];
    assert!(!message.contains(place.folder.path().to_str().unwrap()), "a guest learns no path: {message}");
    std::fs::create_dir(place.folder.path().join("gone")).unwrap();
    place.check("size r a", &["none"]);
}

#[test]
fn what_a_killed_process_left_is_removed_when_the_container_is_opened() {
    let place = Place::of_folder();
    std::fs::create_dir(place.blobs()).unwrap();
    let (left, written) = (".runner-partial-0000000000000001", ".runner-partial-0000000000000002");
    std::fs::write(place.blobs().join(left), "half").unwrap();
    let file = std::fs::File::create(place.blobs().join(written)).unwrap();
    file.lock().unwrap();
    place.check("names c _ _ 9\nsize c a", &["", "none"]);
    assert_eq!(files(&place.blobs()), [written], "another process still writes the other");
}

#[test]
fn blobs_of_4_gib_are_named_as_too_large_and_still_read() {
    let place = Place::of_folder();
    std::fs::create_dir(place.blobs()).unwrap();
    std::fs::File::create(place.blobs().join("huge")).unwrap().set_len(1 << 32).unwrap();
    place.check("size c huge\nsum c huge 4294967290 100\nnames c _ _ 9", &["!limit", "6 0", "huge"]);
}

#[test]
fn a_folder_with_more_than_a_page_of_empty_folders_still_lists_what_comes_behind_them() {
    let place = Place::of_folder();
    for n in 0..30 {
        std::fs::create_dir_all(place.blobs().join(format!("{n:03}"))).unwrap();
    }
    std::fs::write(place.blobs().join("last"), "").unwrap();
    std::fs::write(place.blobs().join("last2"), "").unwrap();
    place.check("names c _ _ 2\nnames c _ last 2", &["last last2", "last2"]);
}
