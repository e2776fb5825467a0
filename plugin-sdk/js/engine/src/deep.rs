//! Whether a value is nested deeper than the engine can write as JSON, which goes by recursion: it would overflow the stack, and
//! the run would end as a trap in which nobody finds their script.
//!
//! It follows one way into the value, where it finds one soon, so that an ordinary output costs next to nothing: a list of a
//! list, a chain of records. What is nested on a way that it does not take is still stopped, by the sandbox.

use boa_engine::object::JsObject;
use boa_engine::{Context, JsResult, JsValue, js_string};

/// Within each other: half of what the stack holds.
pub(crate) const DEPTH_MAX: usize = 500;
/// Where a way further in is looked for.
const WIDTH: usize = 16;

/// See the module.
pub(crate) fn is_too_deep(value: &JsValue, context: &mut Context) -> JsResult<bool> {
    let mut way = Vec::new();
    let mut next = value.as_object();
    while let Some(object) = next {
        if way.len() == DEPTH_MAX {
            // A value within itself has no end; that is said by who writes it.
            return Ok(!way.iter().any(|seen| JsObject::equals(seen, &object)));
        }
        next = within(&object, context)?;
        way.push(object);
    }
    Ok(false)
}

/// An object within a list or a record; nothing that the script would notice is called.
fn within(object: &JsObject, context: &mut Context) -> JsResult<Option<JsObject>> {
    if object.is_array() {
        let object = object.borrow();
        let mut values = object.properties().index_property_values().take(WIDTH);
        return Ok(values.find_map(|value| value.value().and_then(JsValue::as_object)));
    }
    // Others write themselves in their own way.
    if !object.is_ordinary() || object.has_property(js_string!("toJSON"), context)? {
        return Ok(None);
    }
    let keys = object.own_property_keys(context)?;
    let object = object.borrow();
    let mut values = keys.iter().take(WIDTH).filter_map(|key| object.properties().get(key));
    Ok(values.find_map(|value| value.value().and_then(JsValue::as_object)))
}
