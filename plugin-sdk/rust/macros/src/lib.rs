//! `#[handler]`, re-exported by `runner_plugin`: leaves the function as it is, so that tests call it, and adds the
//! plugin's export for it. It reads no types: whether the function can be a handler is said by the trait
//! `runner_plugin::Handler`, in the compiler's own words.

use proc_macro::{TokenStream, TokenTree};

/// Makes one function the plugin's handler: `#[handler]` for every kind that the manifest names, `#[handler("a.b")]`
/// for that kind only. A plugin has one; several kinds with a function each are `runner_plugin::kinds!`.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let Some(name) = function_name(item.clone()) else {
        return error("#[handler] belongs on a function: `#[handler] fn resize(args: Args, cx: &Context) -> …`");
    };
    let attribute = attribute.to_string();
    let kind = match attribute.trim() {
        "" => "_",
        kind if kind.len() > 2 && kind.starts_with('"') && kind.ends_with('"') => kind,
        _ => return error("#[handler] takes nothing or the kind as a string: #[handler(\"image.resize\")]"),
    };
    let Ok(export) = format!("::runner_plugin::kinds! {{ {kind} => {name} }}").parse::<TokenStream>() else {
        return error("#[handler]: the kind is not a plain string");
    };
    [item, export].into_iter().collect()
}

/// The identifier after `fn`, at the top level of the item (attributes and visibility are groups or other words).
fn function_name(item: TokenStream) -> Option<String> {
    let mut tokens = item.into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    tokens.next().map(|name| name.to_string())
}

fn error(message: &str) -> TokenStream {
    format!("::core::compile_error! {{ {message:?} }}").parse().unwrap_or_default()
}
