//! Pictures as they come: upright and turned, with and without transparency, cut, empty, enormous, none at all.

use super::*;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbaImage};
use runner_plugin::test;
use serde_json::{Value, json};

/// Left half red, right half blue, in the format.
fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image =
        RgbImage::from_fn(width, height, |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    let mut data = Cursor::new(vec![]);
    image.write_to(&mut data, format).unwrap();
    data.into_inner()
}

/// The JPEG with an EXIF block that says how to turn it.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif =
        [&b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], b"\0\0\0\0\0\0"].concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

/// A PNG that says that it has this size, and one empty block of data.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let chunk = |name: &[u8], data: &[u8]| {
        let body = [name, data].concat();
        let crc = !body.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        });
        [&u32::try_from(data.len()).unwrap().to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", b""), &chunk(b"IEND", b"")].concat()
}

fn run(args: &[u8]) -> Result<Value, Failure> {
    test::run(resize, args, &test::job("image.resize").context()).map(|out| serde_json::from_slice(&out).unwrap())
}

/// Blobs, by name.
type Made = Vec<(String, Vec<u8>)>;

/// The same with this picture in the container `photos`; answers with the output and what `thumbnails` has then.
fn run_on_blob(name: &str, picture: &[u8], args: Value) -> Result<(Value, Made), Failure> {
    let cx = test::job("image.resize").blob("photos", name, picture).context();
    let output = test::run(resize, args.to_string().as_bytes(), &cx)?;
    let recorded = cx.recorded();
    let made = recorded.blobs.iter().filter(|((container, _), _)| container == "thumbnails");
    let made = made.map(|((_, name), data)| (name.clone(), data.clone())).collect();
    Ok((serde_json::from_slice(&output).unwrap(), made))
}

fn with(data: &[u8], mut options: Value) -> Vec<u8> {
    options["image_base64"] = serde_json::to_value(Base64(data.to_vec())).unwrap();
    options.to_string().into_bytes()
}

/// `expected`: format, width, height, orientation. Answers with the new picture.
#[track_caller]
fn check(args: &[u8], expected: (&str, u32, u32, u8)) -> RgbaImage {
    let output = run(args).unwrap();
    let format = output["format"].as_str().unwrap();
    let data: Base64 = serde_json::from_value(output["image_base64"].clone()).unwrap();
    let image = image::load_from_memory(&data.0).unwrap().to_rgba8();
    let orientation = output["orientation"].as_u64().unwrap() as u8;
    assert_eq!((format, image.width(), image.height(), orientation), expected);
    assert_eq!((&output["width"], &output["height"]), (&json!(image.width()), &json!(image.height())));
    assert_eq!(output["bytes"], data.0.len());
    image
}

/// `expected`: a part of the message of a discard.
#[track_caller]
fn check_discard(args: &[u8], expected: &str) {
    match run(args) {
        Err(Failure::Discard { message }) => assert!(message.contains(expected), "{message}"),
        other => panic!("not discarded: {other:?}"),
    }
}

#[test]
fn pictures_fit_and_are_never_enlarged() {
    check(&picture(2000, 1000, ImageFormat::Jpeg), ("jpeg", 1024, 512, 1));
    check(&picture(20, 10, ImageFormat::Png), ("png", 20, 10, 1));
    check(&picture(300, 200, ImageFormat::Gif), ("gif", 300, 200, 1));
    check(&with(&picture(300, 200, ImageFormat::Gif), json!({"max_width": 30, "format": "png"})), ("png", 30, 20, 1));
    check(&with(&picture(300, 200, ImageFormat::Png), json!({"max_height": 20, "format": "jpg"})), ("jpeg", 30, 20, 1));
    check(&with(&picture(16_000, 1, ImageFormat::Png), json!({"max_width": 100})), ("png", 100, 1, 1));
    check(&with(&picture(1, 1, ImageFormat::Jpeg), json!({"max_width": 1, "max_height": 1})), ("jpeg", 1, 1, 1));
}

#[test]
fn pictures_go_from_one_container_to_another() {
    let png = picture(300, 200, ImageFormat::Png);
    let check = |to: &str, expected: &str| {
        let args = json!({"from": "photos/sub/a.png", "to": to, "max_width": 30, "format": "jpeg"});
        let (output, made) = run_on_blob("sub/a.png", &png, args).unwrap();
        let [(name, data)] = &made[..] else { panic!("{made:?}") };
        assert_eq!((format!("thumbnails/{name}"), &output["to"]), (expected.to_owned(), &json!(expected)));
        let image = image::load_from_memory_with_format(data, ImageFormat::Jpeg).unwrap();
        assert_eq!((image.width(), image.height(), &output["bytes"]), (30, 20, &json!(data.len())));
        assert_eq!(output.get("image_base64"), None);
    };
    check("thumbnails/x/b.jpg", "thumbnails/x/b.jpg");
    check("thumbnails", "thumbnails/sub/a.png");
    check("thumbnails/", "thumbnails/sub/a.png");
    let (output, made) = run_on_blob("a.png", &png, json!({"from": "photos/a.png"})).unwrap();
    assert!(made.is_empty() && output.get("to").is_none());
    let data: Base64 = serde_json::from_value(output["image_base64"].clone()).unwrap();
    assert_eq!(data.0.len(), output["bytes"]);
}

#[test]
fn places_that_are_none_are_discarded() {
    let png = picture(3, 2, ImageFormat::Png);
    let check = |args: Value, expected: &str| match run_on_blob("a.png", &png, args) {
        Err(Failure::Discard { message }) => assert!(message.contains(expected), "{message}"),
        other => panic!("not discarded: {other:?}"),
    };
    check(json!({"from": "photos/b.png"}), "there is no picture `photos/b.png`");
    check(json!({"from": "photos"}), "`from` is \"CONTAINER/NAME\", not \"photos\"");
    check(json!({"from": "photos/../b.png"}), "is no name of a blob (invalid)");
    check(json!({"from": "photos/a.png", "to": "/b.png"}), "`to` is \"CONTAINER/NAME\"");
    check(json!({"from": "photos/a.png", "image_base64": "eA=="}), "there are two pictures");
    check(json!({"image_base64": "eA==", "to": "thumbnails"}), "`to` is \"thumbnails/NAME\"");
    let cx = test::job("image.resize").denied().context();
    let denied = test::run(resize, br#"{"from": "photos/a.png"}"#, &cx);
    assert!(matches!(denied, Err(Failure::Discard { message }) if message.contains("denied")));
}

#[test]
fn a_large_result_fits_into_a_container() {
    let (output, made) =
        run_on_blob("noise.png", &noise(), json!({"from": "photos/noise.png", "to": "thumbnails"})).unwrap();
    assert_eq!(output["bytes"], made[0].1.len());
    assert!(made[0].1.len() > ENCODED_BYTES_MAX);
}

#[test]
fn exif_orientation_is_honoured() {
    let jpeg = picture(80, 40, ImageFormat::Jpeg);
    let is_red = |image: &RgbaImage, x, y| image.get_pixel(x, y)[0] > 200;
    let upside_down = check(&turned(&jpeg, 3), ("jpeg", 80, 40, 3));
    assert!(!is_red(&upside_down, 5, 5) && is_red(&upside_down, 75, 5));
    let clockwise = check(&with(&turned(&jpeg, 6), json!({"max_width": 20})), ("jpeg", 20, 40, 6));
    assert!(is_red(&clockwise, 10, 3) && !is_red(&clockwise, 10, 36));
    let counter = check(&with(&turned(&jpeg, 8), json!({"max_height": 20})), ("jpeg", 10, 20, 8));
    assert!(!is_red(&counter, 5, 2) && is_red(&counter, 5, 17));
    check(&turned(&jpeg, 99), ("jpeg", 80, 40, 1));
}

#[test]
fn transparency_becomes_white_in_a_jpeg() {
    let mut data = vec![];
    PngEncoder::new(&mut data).write_image(&[9, 9, 9, 0].repeat(16), 4, 4, ExtendedColorType::Rgba8).unwrap();
    let image = check(&with(&data, json!({"format": "jpeg"})), ("jpeg", 4, 4, 1));
    assert!(image.get_pixel(1, 1).0.iter().all(|channel| *channel > 250));
    let image = check(&data, ("png", 4, 4, 1));
    assert_eq!(image.get_pixel(1, 1)[3], 0);
}

#[test]
fn sixteen_bits_become_eight() {
    let mut data = vec![];
    PngEncoder::new(&mut data).write_image(&[0xAA; 4 * 4 * 2], 4, 4, ExtendedColorType::L16).unwrap();
    check(&with(&data, json!({"format": "gif"})), ("gif", 4, 4, 1));
}

#[test]
fn truncated_pictures_are_discarded() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
        let whole = picture(200, 100, format);
        for part in [1, 2, 3] {
            let args = &whole[..whole.len() * part / 4];
            assert!(matches!(run(args), Err(Failure::Discard { .. })), "{part}/4 of a {format:?}");
        }
    }
    let jpeg = picture(200, 100, ImageFormat::Jpeg);
    check_discard(&jpeg[..jpeg.len() - 2], "the picture is truncated: the JPEG has no end");
    // Its own end marker is no end of the picture around it.
    let exif_only = turned(&jpeg, 6);
    check_discard(&exif_only[..60], "truncated");
}

#[test]
fn hostile_pictures_are_discarded() {
    check_discard(&png_of(100_000, 100_000), "the picture is too large: a side");
    check_discard(&png_of(16_384, 16_384), "the picture is too large: 16384×16384");
    check_discard(&png_of(0, 5), "cannot be read");
    check_discard(&png_of(5, 5), "cannot be read");
    check_discard(b"GIF89a\0\0\0\0\0\0\0;", "");
    check_discard(b"\xFF\xD8\xFF\xD9", "cannot be read");
    check_discard(b"BM garbage", "this is no JPEG, PNG or GIF");
    check_discard(b"", "this is no JPEG, PNG or GIF");
    let jpeg = picture(64, 64, ImageFormat::Jpeg);
    for at in 2..jpeg.len() - 2 {
        let mut broken = jpeg.clone();
        broken[at] ^= 0x55;
        // Whatever it is now: an answer, not a panic.
        let _ = run(&broken);
    }
}

#[test]
fn options_are_checked() {
    let png = picture(4, 4, ImageFormat::Png);
    check_discard(b"{}", "there is no picture");
    check_discard(&with(&png, json!({"max_width": 0})), "`max_width` is 1 to 2048");
    check_discard(&with(&png, json!({"max_height": 5000})), "`max_height` is 1 to 2048");
    check_discard(&with(&png, json!({"quality": 0})), "`quality` is 1 to 100");
    check_discard(&with(&png, json!({"format": "webp"})), "`format`: unknown variant `webp`");
    check_discard(&with(&png, json!({"max_widht": 1})), "unknown field `max_widht`");
    check_discard(br#"{"image_base64": "%"}"#, "`image_base64`: not Base64");
}

/// A PNG that does not get smaller by packing.
fn noise() -> Vec<u8> {
    let mut seed = 1_u32;
    let noise = RgbImage::from_fn(600, 600, |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(seed >> 24) as u8, (seed >> 16) as u8, (seed >> 8) as u8])
    });
    let mut data = Cursor::new(vec![]);
    noise.write_to(&mut data, ImageFormat::Png).unwrap();
    data.into_inner()
}

#[test]
fn results_that_do_not_fit_say_what_to_do() {
    let data = noise();
    check_discard(&data, "ask for a smaller size or for JPEG");
    check(&with(&data, json!({"format": "jpeg"})), ("jpeg", 600, 600, 1));
}
