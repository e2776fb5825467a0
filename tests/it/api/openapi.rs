//! The OpenAPI document is held to the code: to the routes, to the fields and parameters that each knows, to the codes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use runner_runtime::api::access::table;
use runner_runtime::api::openapi::{self, Route, codes};

use super::*;

/// Methods that the API has.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// No name of a field or parameter is like it, so that whoever refuses it says all that are known.
const UNKNOWN: &str = "~";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The document as it is kept beside the code. Made anew by
/// `cargo run -p runner -- openapi > runtime/openapi.json`.
#[test]
fn the_document_that_is_kept_is_the_one_that_is_made() {
    let kept = std::fs::read_to_string(source("openapi.json")).unwrap_or_default();
    let made = openapi::text();
    let line = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    let how = "make it anew: cargo run -p runner -- openapi > runtime/openapi.json";
    assert!(kept == made, "runtime/openapi.json differs from line {:?}; {how}", line.map(|line| line + 1));
}

#[tokio::test]
async fn the_document_is_served_and_every_reference_leads_somewhere() {
    let answer = Api::new().get("/v1/openapi.json").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, openapi::text()));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let text = answer.text();
    let mut references = 0;
    for reference in text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
        references += 1;
    }
    assert!(references > 200, "{references}");
    let ids: BTreeSet<&str> = openapi::routes().iter().map(|route| route.id).collect();
    assert_eq!(ids.len(), openapi::routes().len(), "each has an id of its own");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{name} is used by nobody");
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "two types have the name of {name}");
    }
}

/// The router as its source has it: paths, and what may be done at each.
fn routed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(source("src/api/mod.rs")).unwrap();
    let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for part in text.split(".route(").skip(1) {
        let route = part.split("\n        .").next().unwrap();
        let path = route.split('"').nth(1).unwrap();
        let methods = METHODS.iter().filter(|method| route.contains(&format!("{method}(")));
        routes.entry(path.to_owned()).or_default().extend(methods.map(|method| (*method).to_owned()));
    }
    routes
}

/// Whether a path of the document is one of the router's, where one parameter may stand for several verbs.
fn fits(documented: &str, routed: &str) -> bool {
    let (documented, routed): (Vec<&str>, Vec<&str>) = (documented.split('/').collect(), routed.split('/').collect());
    let fits = |(documented, routed): (&&str, &&str)| routed.starts_with('{') || documented == routed;
    documented.len() == routed.len() && documented.iter().zip(&routed).all(fits)
}

#[test]
fn every_route_is_in_the_document_and_the_reverse() {
    let documented = openapi::routes();
    let routed = routed();
    assert!(routed.len() > 40, "the source of the router is not read as it was");
    for (path, methods) in &routed {
        for method in methods {
            // What is spelt out elsewhere does not stand for the one with a parameter.
            let own = |route: &&Route| {
                route.method == method
                    && fits(route.path, path)
                    && (route.path == path || !routed.get(route.path).is_some_and(|m| m.contains(method)))
            };
            assert!(documented.iter().any(|route| own(&route)), "{method} {path} is not in the document");
        }
    }
    for route in &documented {
        let found = routed.iter().any(|(path, methods)| fits(route.path, path) && methods.contains(route.method));
        assert!(found, "{} {} is no route", route.method, route.path);
    }
}

/// Who says in `Accept` what it reads is refused by the table of rows, and the document says what that table should.
#[test]
fn every_route_answers_in_the_forms_that_the_document_has() {
    let (routed, documented) = (routed(), openapi::routes());
    let mut unchecked = BTreeSet::new();
    for row in table::ROWS {
        let of_row = documented.iter().filter(|route| {
            route.method.eq_ignore_ascii_case(row.method)
                && fits(route.path, row.path)
                && (route.path == row.path || !routed.get(route.path).is_some_and(|m| m.contains(route.method)))
        });
        let of_row: Vec<_> = of_row.collect();
        assert!(!of_row.is_empty(), "{} {}", row.method, row.path);
        let media: BTreeSet<&str> = of_row.iter().flat_map(|route| route.media()).collect();
        let says_no = of_row.iter().any(|route| route.codes().contains(&"not_acceptable"));
        assert_eq!(says_no, !row.answers.is_empty(), "{} {}", row.method, row.path);
        if says_no {
            assert_eq!(media, row.answers.iter().copied().collect(), "{} {}", row.method, row.path);
        } else if !media.is_empty() {
            unchecked.insert(row.path);
        }
    }
    assert_eq!(unchecked.into_iter().collect::<Vec<_>>(), ["/healthz", "/readyz", "/v1/jobs/{id}/output"]);
}

/// The story: whoever asked for a picture was sent JSON, and whoever asked for nothing that there is had its job enqueued.
#[tokio::test]
async fn who_could_not_read_the_answer_is_told_so_before_anything_is_done() {
    let api = Api::new();
    let body = json!({"kind": "a"}).to_string();
    let send = async |method: Method, path: &str, accept: &str| {
        let headers = [("content-type", "application/json"), ("accept", accept)];
        let body = if method == Method::POST { body.clone() } else { String::new() };
        api.send(method, path, &headers, body).await
    };
    let refused = async |method: Method, path: &str, accept: &str, instead: &str| {
        let answer = send(method, path, accept).await;
        answer.check_refused(406, "not_acceptable", Some("Accept"), &format!("is answered as {instead}:"));
    };
    refused(Method::POST, "/v1/jobs", "image/png", "application/json or application/x-ndjson").await;
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 0);
    assert_eq!(send(Method::POST, "/v1/jobs", "application/*").await.status, 201);
    refused(Method::GET, "/v1/jobs/1", "text/html", "application/json").await;
    refused(Method::GET, "/v1/events", "application/json", "text/event-stream").await;
    refused(Method::GET, "/v1/jobs/1/logs", "application/json", "application/x-ndjson").await;
    refused(Method::GET, "/metrics", "application/json", "text/plain").await;
    refused(Method::GET, "/v1/openapi.json", "application/yaml", "application/json").await;
    assert_eq!(send(Method::HEAD, "/v1/jobs", "image/png").await.status, 406);
    // What a handler made may be a picture; a probe goes by the status; what is gone is not shown.
    send(Method::GET, "/v1/jobs/1/output", "image/png").await.check_refused(404, "no_output", None, "");
    assert_eq!(send(Method::GET, "/healthz", "text/html").await.status, 200);
    assert_eq!(send(Method::DELETE, "/v1/jobs/1", "image/png").await.status, 204);
    // A refusal is what it is, whatever is admitted.
    send(Method::GET, "/v1/jobs/1", "application/json").await.check_refused(404, "not_found", None, "");
}

/// A path with something in it for each parameter.
fn filled(path: &str) -> String {
    path.replace("{id}", "1")
        .replace("{n}", "1")
        .replace("{run}", "1")
        .replace("{q}", "q")
        .replace("{k}", "k")
        .replace("{name}", "s")
        .replace("{t}", "default")
}

#[tokio::test]
async fn the_router_knows_every_route_of_the_document() {
    let api = Api::new();
    for route in openapi::routes() {
        let method = Method::from_bytes(route.method.to_uppercase().as_bytes()).unwrap();
        let answer = api.send(method, &format!("{}?{UNKNOWN}=1", filled(route.path)), &[], "").await;
        let code = serde_json::from_slice::<Value>(&answer.bytes).unwrap_or_default()["code"].clone();
        assert!(code != "no_route" && code != "method_not_allowed", "{} {}: {code}", route.method, route.path);
        if let Some(code) = code.as_str() {
            assert!(route.codes().contains(&code), "{} {}: {code} is not in the document", route.method, route.path);
        }
    }
}

/// What a refusal says is known.
fn known(problem: &Value) -> BTreeSet<String> {
    let detail = problem["detail"].as_str().unwrap_or_default();
    let list = detail.split("known are ").nth(1).unwrap_or_default();
    list.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_parameter_that_is_known_is_in_the_document() {
    let (api, document) = (Api::new(), openapi::document());
    api.enqueue(&json!({"kind": "a"})).await;
    let mut checked = 0;
    for route in openapi::routes() {
        let operation = &document["paths"][route.path][route.method];
        let list = operation["parameters"].as_array().cloned().unwrap_or_default();
        let documented: BTreeSet<String> = list
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let method = Method::from_bytes(route.method.to_uppercase().as_bytes()).unwrap();
        let answer = api.send(method, &format!("{}?{UNKNOWN}=1", filled(route.path)), &[], "").await;
        // Those that look at no parameter answer as ever.
        let Ok(problem) = serde_json::from_slice::<Value>(&answer.bytes) else { continue };
        if problem["field"] == UNKNOWN {
            assert_eq!(known(&problem), documented, "{} {}", route.method, route.path);
            checked += 1;
        }
    }
    assert!(checked >= 45, "{checked}");
}

#[tokio::test]
async fn every_field_that_is_known_is_in_the_document() {
    let (api, document) = (Api::new(), openapi::document());
    api.enqueue(&json!({"kind": "a", "queue": "q"})).await;
    let mut checked = 0;
    for route in openapi::routes() {
        let operation = &document["paths"][route.path][route.method];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(reference) = schema["$ref"].as_str() else { continue };
        let whole = document.pointer_of(reference);
        let mut schema = &whole;
        let either;
        if let Some(first) = schema["anyOf"][0]["$ref"].as_str() {
            either = document.pointer_of(first);
            schema = &either;
        }
        let documented: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let mut body: serde_json::Map<String, Value> =
            required.iter().map(|name| filling(name.as_str().unwrap(), schema)).collect();
        body.insert(UNKNOWN.to_owned(), json!(1));
        let method = Method::from_bytes(route.method.to_uppercase().as_bytes()).unwrap();
        let headers = [("content-type", "application/json")];
        let answer = api.send(method, &filled(route.path), &headers, Value::from(body).to_string()).await;
        let problem = answer.json();
        assert_eq!(problem["field"], UNKNOWN, "{} {}: {problem}", route.method, route.path);
        assert_eq!(known(&problem), documented, "{} {}", route.method, route.path);
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
}

/// Something that a required field may be.
fn filling(name: &str, schema: &Value) -> (String, Value) {
    let is_list = schema["properties"][name]["type"] == "array";
    (name.to_owned(), if is_list { json!([]) } else { json!("a") })
}

trait Refers {
    fn pointer_of(&self, reference: &str) -> Value;
}

impl Refers for Value {
    fn pointer_of(&self, reference: &str) -> Value {
        self.pointer(reference.trim_start_matches('#')).cloned().unwrap_or_default()
    }
}

/// The codes of refusals, as the sources have them: behind a status, or as what an error is called.
#[test]
fn every_code_is_in_the_document() {
    let mut found = BTreeSet::new();
    let mut open = vec![source("src/api")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            for part in text.split("StatusCode::").skip(1) {
                let mut words =
                    part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
                let (status, rest) = (words.next().unwrap_or_default(), part.split_once(',').map(|(_, rest)| rest));
                let quoted = rest.map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
                if let (Some(quoted), true) = (quoted, status.chars().all(|c| c.is_ascii_uppercase() || c == '_')) {
                    found.insert(quoted.split('"').next().unwrap().to_owned());
                }
            }
            if path.ends_with("error.rs") {
                let arms = text.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
                found.extend(arms);
            }
            for maker in ["conflict(\"", "gone(\"", "refused(\""] {
                found.extend(text.split(maker).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    assert!(found.len() >= 45, "the sources are not read as they were: {found:?}");
    let unknown: Vec<&String> = found.iter().filter(|code| codes::find(code).is_none()).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "add them to runtime/src/api/openapi/codes.rs, and to their routes");
    let documented: BTreeSet<&str> = openapi::routes().iter().flat_map(|route| route.codes().to_vec()).collect();
    let never = codes::CODES.iter().filter(|code| !documented.contains(code.code)).map(|code| code.code);
    assert_eq!(never.collect::<Vec<_>>(), ["no_route", "no_row"], "codes that no route says it has");
}
