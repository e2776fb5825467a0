//! Args in JSON as a value of the script language, read in one go.
//!
//! The language's own `JSON.parse` reads them twice and then compiles and runs them as if they were a script, which costs a small
//! job more than its handler does. What cannot be read here is for `JSON.parse` to accept or to refuse in its own words:
//! half a surrogate pair, say, or bytes that are no UTF-8.

use std::fmt;

use boa_engine::object::JsObject;
use boa_engine::object::builtins::JsArray;
use boa_engine::{Context, JsString, JsValue};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The value of a text, if it can be read here.
pub(crate) fn read(text: &[u8], context: &mut Context) -> Option<JsValue> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Within(context).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// A value within this context.
struct Within<'a>(&'a mut Context);

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = JsValue;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<JsValue, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = JsValue;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<JsValue, E> {
        Ok(JsValue::null())
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsValue, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsValue, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsValue, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsValue, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<JsValue, E> {
        Ok(JsString::from(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<JsValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(Within(self.0))? {
            items.push(item);
        }
        Ok(JsArray::from_iter(items, self.0).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<JsValue, A::Error> {
        let object = JsObject::with_object_proto(self.0.intrinsics());
        while let Some(key) = from.next_key::<std::borrow::Cow<'de, str>>()? {
            let key = JsString::from(key.as_ref());
            let value = from.next_value_seed(Within(self.0))?;
            object.create_data_property_or_throw(key, value, self.0).map_err(A::Error::custom)?;
        }
        Ok(object.into())
    }
}
