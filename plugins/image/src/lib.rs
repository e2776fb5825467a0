//! `image.resize`: makes a JPEG, PNG or GIF smaller.
//!
//! Args are a JSON object with options that says where the picture is and where the new one goes: blobs, named as
//! `CONTAINER/NAME`. Or they have the picture in them, in `image_base64` or `file_base64`, or are the picture itself; without
//! a place to go to, the new one is in the output. The picture is turned upright by its EXIF orientation, made to fit, never enlarged, and written without any metadata. Of an animated GIF
//! the first frame is taken.
//!
//! Pictures come from strangers, so sizes are bounded before anything is decoded, and every picture that cannot be read is
//! discarded with a sentence that says why: it would not get better by retrying.

mod jpeg;
mod place;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use runner_plugin::{Base64, CallError, Context, Failure, WithFile, blobs, handler, info};
use serde::{Deserialize, Serialize};
use std::io::Cursor;

use place::{Place, place, target};

/// Width and height, in pixels, of what is read.
const SIDE_MAX: u32 = 16_384;
/// Width times height of what is read: with it, the worst picture needs less than the manifest's memory.
const PIXELS_MAX: u64 = 16 << 20;
/// What the picture may take when decoded, in bytes: 4 for each pixel.
const DECODED_BYTES_MAX: u64 = PIXELS_MAX * 4;
/// A picture that is read from a container: with what it is decoded to, it needs less than the manifest's memory.
const PICTURE_BYTES_MAX: u32 = 32 << 20;
/// Width and height, in pixels, of what is written.
const FIT_MAX: u32 = 2048;
const FIT_DEFAULT: u32 = 1024;
const QUALITY_DEFAULT: u8 = 80;
/// An output has 1 MiB at most; Base64 makes 4 bytes of 3, and the other fields need less than 512.
const ENCODED_BYTES_MAX: usize = ((1 << 20) - 512) / 4 * 3;
/// GIF palettes: 1 is the best and slowest, 30 the quickest.
const GIF_SPEED: i32 = 10;

/// How to resize; all of it optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The picture, a blob: `photos/a.jpg`.
    from: Option<String>,
    /// Where the new one goes: a blob, or a container, in which it keeps its name.
    to: Option<String>,
    max_width: Option<u32>,
    max_height: Option<u32>,
    format: Option<Format>,
    /// Of a JPEG, 1 to 100.
    quality: Option<u8>,
    image_base64: Option<Base64>,
}

/// What is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lossy, without transparency.
    #[serde(alias = "jpg")]
    Jpeg,
    /// Lossless.
    Png,
    /// 256 colours.
    Gif,
}

/// The new picture.
#[derive(Debug, Serialize)]
pub struct Output {
    format: Format,
    width: u32,
    height: u32,
    /// As stored, before turning.
    original_width: u32,
    original_height: u32,
    /// As EXIF numbers them: 1 is upright, 3 upside down, 6 and 8 on a side, the even ones of 2, 4, 5, 7 mirrored.
    orientation: u8,
    bytes: usize,
    /// Where it went, …
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// … or else the picture itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_base64: Option<Base64>,
}

/// Decodes, turns, resizes and encodes one picture.
#[handler("image.resize")]
pub fn resize(args: WithFile<Options>, cx: &Context) -> Result<Output, Failure> {
    let (max_width, max_height) =
        (fit("max_width", args.options.max_width)?, fit("max_height", args.options.max_height)?);
    let quality = args.options.quality.unwrap_or(QUALITY_DEFAULT);
    if !(1..=100).contains(&quality) {
        return Err(Failure::discard("`quality` is 1 to 100"));
    }
    let to = args.options.to.as_deref().map(|to| target(to, &args)).transpose()?;
    let format = args.options.format;
    let (data, name) = source(args, cx)?;
    let picture = decode(&data)?;
    let (original_width, original_height) = (picture.image.width(), picture.image.height());
    info!(cx, "{}{original_width}×{original_height}", name.map(|name| name + ": ").unwrap_or_default());
    let image = shrink(picture.image, picture.orientation, max_width, max_height);
    let format = format.unwrap_or(picture.format);
    let encoded = encode(&image, format, quality)?;
    let (width, height, bytes) = (image.width(), image.height(), encoded.len());
    let orientation = picture.orientation.to_exif();
    let (to, image_base64) = match to {
        Some(place) => {
            blobs::write(cx, &place.container, &place.name, &encoded).map_err(CallError::failure)?;
            (Some(place.to_string()), None)
        }
        None if bytes > ENCODED_BYTES_MAX => {
            return Err(Failure::discard(format_args!(
                "the result has {bytes} bytes, more than the {ENCODED_BYTES_MAX} that fit into an output: say with `to` \
                 where it goes, or ask for a smaller size or for JPEG"
            )));
        }
        None => (None, Some(Base64(encoded))),
    };
    Ok(Output { format, width, height, original_width, original_height, orientation, bytes, to, image_base64 })
}

/// The picture's bytes, and its name if it has one.
fn source(args: WithFile<Options>, cx: &Context) -> Result<(Vec<u8>, Option<String>), Failure> {
    let WithFile { file, name, options } = args;
    match (options.from, options.image_base64.map(|data| data.0).or(file)) {
        (Some(from), None) => {
            let Place { container, name } = place("from", &from)?;
            let read = blobs::read_all(cx, &container, &name, PICTURE_BYTES_MAX).map_err(CallError::failure)?;
            let data = read.ok_or_else(|| Failure::discard(format_args!("there is no picture `{from}`")))?;
            Ok((data, Some(from)))
        }
        (None, Some(data)) => Ok((data, name)),
        (Some(_), Some(_)) => Err(Failure::discard("there are two pictures: the one in the args and `from`")),
        (None, None) => Err(Failure::discard(
            "there is no picture: say where it is with `from`, as \"CONTAINER/NAME\"; or args are its bytes, or an object with \
             `image_base64` or `file_base64`",
        )),
    }
}

struct Picture {
    image: DynamicImage,
    format: Format,
    orientation: Orientation,
}

fn decode(data: &[u8]) -> Result<Picture, Failure> {
    let mut reader = ImageReader::new(Cursor::new(data)).with_guessed_format()?;
    let format = match reader.format() {
        Some(ImageFormat::Jpeg) => Format::Jpeg,
        Some(ImageFormat::Png) => Format::Png,
        Some(ImageFormat::Gif) => Format::Gif,
        _ => return Err(Failure::discard("this is no JPEG, PNG or GIF")),
    };
    if format == Format::Jpeg && !jpeg::is_complete(data) {
        return Err(Failure::discard("the picture is truncated: the JPEG has no end"));
    }
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Failure::discard(format_args!("the picture is empty: {width}×{height}")));
    }
    if u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODED_BYTES_MAX {
        return Err(Failure::discard(format_args!(
            "the picture is too large: {width}×{height}, {} bytes decoded; at most {PIXELS_MAX} pixels and {DECODED_BYTES_MAX} bytes",
            decoder.total_bytes()
        )));
    }
    // An EXIF block that cannot be read says nothing about the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    Ok(Picture { image: eight_bits(image), format, orientation })
}

fn unreadable(error: ImageError) -> Failure {
    match error {
        ImageError::Limits(_) => Failure::discard(format_args!(
            "the picture is too large: a side has at most {SIDE_MAX} pixels, all of it {DECODED_BYTES_MAX} bytes decoded"
        )),
        error => Failure::discard(format_args!("the picture cannot be read: {error}")),
    }
}

/// What all three formats can be made of.
fn eight_bits(image: DynamicImage) -> DynamicImage {
    match (image.color().has_alpha(), image.color().has_color()) {
        (true, _) => DynamicImage::ImageRgba8(image.into_rgba8()),
        (false, true) => DynamicImage::ImageRgb8(image.into_rgb8()),
        (false, false) => DynamicImage::ImageLuma8(image.into_luma8()),
    }
}

/// Makes it fit and turns it then, which is less work than the other way round.
fn shrink(image: DynamicImage, orientation: Orientation, max_width: u32, max_height: u32) -> DynamicImage {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let is_on_side = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    let (max_width, max_height) = if is_on_side { (max_height, max_width) } else { (max_width, max_height) };
    let (width, height) = fitting(image.width(), image.height(), max_width, max_height);
    let mut image = image;
    // Averaging to twice the size first is quick and in whole numbers; the good filter then has little left to do.
    if image.width() / 2 > width && image.height() / 2 > height {
        image = image.thumbnail_exact(width * 2, height * 2);
    }
    if (image.width(), image.height()) != (width, height) {
        image = image.resize_exact(width, height, FilterType::CatmullRom);
    }
    image.apply_orientation(orientation);
    image
}

/// The largest size of the same shape that fits, never larger than it is, at least one pixel.
fn fitting(width: u32, height: u32, max_width: u32, max_height: u32) -> (u32, u32) {
    let factor = (f64::from(max_width) / f64::from(width)).min(f64::from(max_height) / f64::from(height)).min(1.0);
    let scaled = |side: u32, max: u32| ((f64::from(side) * factor).round() as u32).clamp(1, max);
    (scaled(width, max_width), scaled(height, max_height))
}

fn encode(image: &DynamicImage, format: Format, quality: u8) -> Result<Vec<u8>, Failure> {
    let mut encoded = Cursor::new(Vec::new());
    match format {
        Format::Jpeg => on_white(image).write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, quality))?,
        Format::Png => image.write_to(&mut encoded, ImageFormat::Png)?,
        Format::Gif => {
            let frame = image::Frame::new(image.to_rgba8());
            GifEncoder::new_with_speed(&mut encoded, GIF_SPEED).encode_frame(frame)?;
        }
    }
    Ok(encoded.into_inner())
}

/// A JPEG has no transparency: what shines through is white.
fn on_white(image: &DynamicImage) -> DynamicImage {
    let DynamicImage::ImageRgba8(pixels) = image else { return image.clone() };
    DynamicImage::ImageRgb8(RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        let [red, green, blue, alpha] = pixels.get_pixel(x, y).0.map(u32::from);
        let over = |colour: u32| ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        Rgb([over(red), over(green), over(blue)])
    }))
}

fn fit(field: &str, asked: Option<u32>) -> Result<u32, Failure> {
    let side = asked.unwrap_or(FIT_DEFAULT);
    if !(1..=FIT_MAX).contains(&side) {
        return Err(Failure::discard(format_args!("`{field}` is 1 to {FIT_MAX}")));
    }
    Ok(side)
}

#[cfg(test)]
mod tests;
