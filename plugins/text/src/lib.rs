//! `text.markdown`: CommonMark, with tables, strikethrough, task lists and footnotes, to HTML that is safe to show.
//!
//! Args are the text itself, or a JSON object with the text in `markdown` or `file_base64`. HTML within the text is kept as far
//! as it is harmless: what comes out of the renderer is parsed as a browser parses it, and only what is known to be safe is
//! written again (no scripts, handlers, styles, frames, forms; links only to `http`, `https`, `mailto` and relative ones, with
//! `rel="noopener noreferrer"`). It does not highlight code, and fetches nothing.

use ammonia::Builder;
use pulldown_cmark::{Event, HeadingLevel, Options as Extensions, Parser, Tag, TagEnd};
use runner_plugin::{Failure, WithFile, handler};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Links in text that is shown to others: the schemes that cannot run anything.
const SCHEMES: [&str; 3] = ["http", "https", "mailto"];
/// The HTML as JSON, in bytes: an output has 1 MiB at most; this leaves room for the other fields.
const HTML_BYTES_MAX: usize = 900 << 10;
/// How many headings are listed, and how much of each, in bytes; `headings_omitted` counts the rest.
const HEADINGS_MAX: usize = 200;
const HEADING_BYTES_MAX: usize = 200;
/// How deep quotes and lists may stand within each other; each level costs time for every line below it.
const DEPTH_MAX: usize = 100;
/// How many tags of HTML the text may have: each may open a level, and the time to clean grows with the square of the levels.
const TAGS_MAX: usize = 10_000;

/// The text, unless args are the text itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    markdown: Option<String>,
}

/// The page and what is in it.
#[derive(Debug, Default, Serialize)]
pub struct Output {
    html: String,
    /// The first heading.
    title: Option<String>,
    /// Words that are read: code counts, markup and URLs do not.
    words: usize,
    headings: Vec<Heading>,
    #[serde(skip_serializing_if = "is_zero")]
    headings_omitted: usize,
    links: usize,
    images: usize,
    code_blocks: usize,
}

/// One heading, as text.
#[derive(Debug, Serialize)]
pub struct Heading {
    level: u8,
    text: String,
}

/// Renders one text.
#[handler("text.markdown")]
pub fn markdown(args: WithFile<Options>) -> Result<Output, Failure> {
    let text = match (args.options.markdown, args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => String::from_utf8(file).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::discard(format_args!("the text is not UTF-8: byte {at} is wrong"))
        })?,
        (None, None) => {
            let message = "there is no text: args are the text, or an object with `markdown` or `file_base64`";
            return Err(Failure::discard(message));
        }
    };
    let extensions = Extensions::ENABLE_TABLES
        | Extensions::ENABLE_STRIKETHROUGH
        | Extensions::ENABLE_TASKLISTS
        | Extensions::ENABLE_FOOTNOTES;
    let mut summary = Summary::default();
    let mut events = Vec::new();
    // A byte order mark is no text.
    for event in Parser::new_ext(text.trim_start_matches('\u{feff}'), extensions) {
        summary.see(&event)?;
        events.push(event);
    }
    let mut rendered = String::with_capacity(text.len() * 3 / 2);
    pulldown_cmark::html::push_html(&mut rendered, events.into_iter());
    // Before cleaning too, whose time grows faster than the text.
    within_output(rendered.len())?;
    let html = cleaner().clean(&rendered).to_string();
    within_output(serde_json::to_string(&html)?.len())?;
    let Summary { output, .. } = summary;
    Ok(Output { html, title: output.headings.first().map(|first| first.text.clone()), ..output })
}

fn within_output(bytes: usize) -> Result<(), Failure> {
    if bytes > HTML_BYTES_MAX {
        return Err(Failure::discard(format_args!("the HTML has {bytes} bytes, more than {HTML_BYTES_MAX}")));
    }
    Ok(())
}

/// ammonia's own choice, with what the extensions write: task lists' boxes and footnotes' targets.
fn cleaner() -> Builder<'static> {
    let mut cleaner = Builder::default();
    cleaner
        .url_schemes(HashSet::from(SCHEMES))
        .add_tags(["input"])
        .add_tag_attribute_values("input", "type", ["checkbox"])
        .add_tag_attributes("input", ["checked", "disabled"])
        // An `input` of another type would lose only the type and become a text field: it is always a dead box.
        .set_tag_attribute_value("input", "type", "checkbox")
        .set_tag_attribute_value("input", "disabled", "");
    cleaner
}

/// What is counted while the text passes by.
#[derive(Default)]
struct Summary {
    output: Output,
    depth: usize,
    tags: usize,
    heading: Option<Heading>,
    /// Whether the last piece of text ended within a word, which the next one continues: `some*thing*` is one word.
    is_in_word: bool,
}

impl Summary {
    fn see(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        match event {
            Event::Start(tag) => return self.begin(tag),
            Event::End(tag) => self.end(*tag),
            Event::Text(text) | Event::Code(text) => self.text(text),
            Event::Html(html) | Event::InlineHtml(html) => return self.html(html),
            Event::SoftBreak | Event::HardBreak => self.text(" "),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, tag: &Tag<'_>) -> Result<(), Failure> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Failure::discard(format_args!("the text is nested more than {DEPTH_MAX} deep")));
        }
        match tag {
            Tag::Heading { level, .. } => self.heading = Some(Heading { level: number(*level), text: String::new() }),
            Tag::Link { .. } => self.output.links += 1,
            Tag::Image { .. } => self.output.images += 1,
            Tag::CodeBlock(_) => self.output.code_blocks += 1,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, tag: TagEnd) {
        self.depth -= 1;
        let is_within_line =
            matches!(tag, TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image);
        self.is_in_word &= is_within_line;
        if !matches!(tag, TagEnd::Heading(_)) {
            return;
        }
        match self.heading.take() {
            Some(heading) if self.output.headings.len() < HEADINGS_MAX => self.output.headings.push(heading),
            _ => self.output.headings_omitted += 1,
        }
    }

    fn html(&mut self, html: &str) -> Result<(), Failure> {
        self.tags += html.bytes().filter(|byte| *byte == b'<').count();
        if self.tags > TAGS_MAX {
            return Err(Failure::discard(format_args!("the text has more than {TAGS_MAX} tags of HTML")));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let continues = self.is_in_word && text.starts_with(|first: char| !first.is_whitespace());
        self.output.words += text.split_whitespace().count() - usize::from(continues);
        self.is_in_word = text.ends_with(|last: char| !last.is_whitespace()) || (self.is_in_word && text.is_empty());
        if let Some(heading) = &mut self.heading {
            let room = HEADING_BYTES_MAX.saturating_sub(heading.text.len());
            heading.text.push_str(&text[..text.floor_char_boundary(room)]);
        }
    }
}

fn number(level: HeadingLevel) -> u8 {
    level as u8
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
