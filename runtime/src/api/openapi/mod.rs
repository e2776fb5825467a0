//! The API as an OpenAPI 3.1 document: made of the routes ([`routes`]), of the types that are answered, and of the fields
//! that bodies have ([`bodies`]). `GET /v1/openapi.json` and `runner openapi` give it; it is kept as `runtime/openapi.json`.
//!
//! Tests hold it to the code: every route of the router is in it and the reverse, every code and every field that is known.

mod access;
pub mod bodies;
pub mod codes;
mod jobs;
mod leases;
mod node;
mod places;
mod route;
pub mod words;

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use self::route::Route;
use super::error::Problem;
use super::params::Params;

/// The document does not change while a process lives.
static TEXT: LazyLock<String> = LazyLock::new(text);

/// `GET /v1/openapi.json`.
pub async fn get(params: Params) -> Result<Response, Problem> {
    params.finish()?;
    Ok(([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response())
}

/// The document as text, as it is served and kept.
#[must_use]
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).expect("keys are texts");
    text.push('\n');
    text
}

/// Every route of the API.
#[must_use]
pub fn routes() -> Vec<Route> {
    [jobs::routes(), leases::routes(), places::routes(), access::routes(), node::routes()].concat()
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut shown: SchemaGenerator = settings().for_serialize().into_generator();
    let mut asked: SchemaGenerator = settings().for_deserialize().into_generator();
    let (mut paths, mut refusals) = (Map::new(), Map::new());
    for route in routes() {
        let operation = route.operation((&mut shown, &mut asked), &mut refusals);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    let mut schemas = asked.take_definitions(true);
    for (name, schema) in shown.take_definitions(true) {
        if let Some(other) = schemas.insert(name.clone(), schema.clone()) {
            assert_eq!(other, schema, "{name} is the name of two types");
        }
    }
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "runner",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs background jobs in sandboxed WebAssembly handlers. Every refusal is a problem+json with a \
                            stable `code`; 429, 503 and 507 always mean that nothing happened.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas, "responses": refusals },
    })
}

/// A refusal; it is written by hand, so this is, too.
fn problem() -> Value {
    json!({
        "description": "Why something was refused (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string", "description": "`urn:runner:problem:` and the code." },
            "title": { "type": "string", "description": "The status in words." },
            "status": { "type": "integer", "description": "The status." },
            "code": { "type": "string", "description": "Stable; for programs." },
            "detail": { "type": "string", "description": "What, where, and how to mend it; for people." },
            "field": { "type": "string", "description": "The field that it is about, as the request spells it." },
            "job": { "type": "string", "description": "The job that is in the way." },
            "oldest": { "type": "integer", "description": "The first number of the log that can still be read." },
        },
    })
}
