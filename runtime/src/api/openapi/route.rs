//! One route of the API as the document describes it: what it takes, what it answers, how it says no.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::codes;

/// A schema, once there is somebody who collects what it refers to.
type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// See the module.
#[derive(Debug, Clone)]
pub struct Route {
    /// In lower case.
    pub method: &'static str,
    /// With `{parameters}`.
    pub path: &'static str,
    /// Stable; generated clients call it so.
    pub id: &'static str,
    summary: &'static str,
    params: Vec<Param>,
    body: Option<(bool, MakeSchema)>,
    /// Media types of a body that is not JSON; a form has a schema.
    other: Vec<(&'static str, Option<MakeSchema>)>,
    answers: Vec<Answer>,
    codes: Vec<&'static str>,
}

/// A parameter of the URL, or a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) form: Form,
    pub(super) place: &'static str,
}

/// How a caller is not let in, wherever it asks.
const ACCESS: [&str; 10] = [
    "no_token",
    "bad_token",
    "expired_token",
    "unconfirmed_token",
    "session_over",
    "wrong_host",
    "wrong_origin",
    "proxied",
    "scope",
    "all_tenants",
];

/// How a request is refused of which no route is asked: it cannot be read.
const UNREAD: [&str; 4] = ["malformed", "head_timeout", "head_too_large", "expectation"];

/// What a parameter may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Text,
    Flag,
    Number { min: u64, max: u64 },
    Word(MakeSchema),
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    about: &'static str,
    media: &'static str,
    schema: Option<MakeSchema>,
}

/// A schema of this type.
pub(super) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A parameter behind the question mark.
pub(super) const fn query(name: &'static str, form: Form, about: &'static str) -> Param {
    Param { name, about, form, place: "query" }
}

impl Route {
    pub(super) fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let codes = ACCESS.into_iter().chain(UNREAD).chain(["not_allowed", "invalid"]).collect();
        let (params, answers) = (Vec::new(), Vec::new());
        Self { method, path, id, summary, params, body: None, other: Vec::new(), answers, codes }
    }

    /// Takes these parameters.
    pub(super) fn takes(mut self, params: &[Param]) -> Self {
        self.params.extend_from_slice(params);
        self
    }

    /// Needs a body.
    pub(super) fn body<T: JsonSchema>(self) -> Self {
        let route = Self { body: Some((true, of::<T>)), ..self };
        route.no(&["malformed", "body_timeout", "too_large", "media_type", "overloaded"])
    }

    /// May have a body.
    pub(super) fn may_have<T: JsonSchema>(self) -> Self {
        let route = self.body::<T>();
        Self { body: Some((false, of::<T>)), ..route }
    }

    /// Takes a body of one of these types, which is not JSON.
    pub(super) fn takes_other(mut self, media: &[(&'static str, Option<MakeSchema>)]) -> Self {
        self.other.extend_from_slice(media);
        self.no(&["malformed", "body_timeout", "too_large", "media_type", "overloaded"])
    }

    /// Answers with JSON.
    pub(super) fn json<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        self.answers_in(status, about, "application/json", Some(of::<T>))
    }

    /// Answers in a form that the caller must admit.
    pub(super) fn answers_in(
        self,
        status: u16,
        about: &'static str,
        media: &'static str,
        schema: Option<MakeSchema>,
    ) -> Self {
        self.answers(status, about, media, schema).no(&["not_acceptable"])
    }

    /// Answers with nothing, or in a form that is nobody's to choose.
    pub(super) fn answers(
        mut self,
        status: u16,
        about: &'static str,
        media: &'static str,
        schema: Option<MakeSchema>,
    ) -> Self {
        self.answers.push(Answer { status, about, media, schema });
        self
    }

    /// Says no with these codes.
    pub(super) fn no(mut self, codes: &[&'static str]) -> Self {
        self.codes.extend_from_slice(codes);
        self
    }

    /// Reads the store for a tenant.
    pub(super) fn reads(self) -> Self {
        let tenant = "Whose; `default` if absent.";
        let header = Param { name: "Runner-Tenant", about: tenant, form: Form::Text, place: "header" };
        self.takes(&[header]).no(&["no_tenant", "store_failed"])
    }

    /// Changes the store for a tenant.
    pub(super) fn writes(self) -> Self {
        self.reads().no(&["outcome_unknown", "overloaded", "stopped"])
    }

    /// The same call with the same key is done once.
    pub(super) fn repeatable(self) -> Self {
        let about = "Makes the call safe to repeat: it is done once, and answered the same for 24 h.";
        let header = Param { name: "Idempotency-Key", about, form: Form::Text, place: "header" };
        self.takes(&[header]).no(&["idempotency_key_reused"])
    }

    /// Looks at no parameter, so that it says no to none.
    pub(super) fn plain(self) -> Self {
        Self { codes: UNREAD.into_iter().chain(["not_allowed"]).collect(), ..self }
    }

    /// The media types in which it answers, but for refusals.
    pub fn media(&self) -> impl Iterator<Item = &'static str> {
        self.answers.iter().map(|answer| answer.media).filter(|media| !media.is_empty())
    }

    /// The codes with which it says no.
    #[must_use]
    pub fn codes(&self) -> &[&'static str] {
        &self.codes
    }

    /// The operation; `shown` collects what answers refer to, `asked` what bodies do, `refusals` how routes say no.
    pub(super) fn operation(
        &self,
        (shown, asked): (&mut SchemaGenerator, &mut SchemaGenerator),
        refusals: &mut Map<String, Value>,
    ) -> Value {
        let mut operation = Map::new();
        operation.insert("operationId".to_owned(), self.id.into());
        operation.insert("summary".to_owned(), self.summary.into());
        operation.insert("tags".to_owned(), json!([self.tag()]));
        let params: Vec<Value> = self.path_params().chain(self.params.iter().map(|p| p.shown(asked))).collect();
        if !params.is_empty() {
            operation.insert("parameters".to_owned(), params.into());
        }
        let mut content = Map::new();
        if let Some((_, schema)) = self.body {
            content.insert("application/json".to_owned(), json!({ "schema": schema(asked) }));
        }
        for (media, schema) in &self.other {
            let form = schema.map_or_else(|| json!({}), |schema| json!({ "schema": schema(asked) }));
            content.insert((*media).to_owned(), form);
        }
        if !content.is_empty() {
            let required = self.body.is_none_or(|(required, _)| required);
            operation.insert("requestBody".to_owned(), json!({ "required": required, "content": content }));
        }
        operation.insert("responses".to_owned(), self.responses(shown, refusals));
        operation.into()
    }

    fn tag(&self) -> &'static str {
        let noun = self.path.strip_prefix("/v1/").unwrap_or("node").split('/').next().unwrap_or("node");
        match noun {
            "operations" | "flush" => "jobs",
            "stats" | "openapi.json" => "node",
            other => other,
        }
    }

    fn path_params(&self) -> impl Iterator<Item = Value> {
        let names = self.path.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'));
        names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
    }

    fn responses(&self, shown: &mut SchemaGenerator, refusals: &mut Map<String, Value>) -> Value {
        let mut responses = Map::new();
        for Answer { status, about, media, schema } in &self.answers {
            // One status may come in two forms, of which the first says what it is.
            let response = responses.entry(status.to_string()).or_insert_with(|| json!({ "description": about }));
            if let Some(schema) = schema {
                response["content"][*media] = json!({ "schema": schema(shown) });
            } else if !media.is_empty() {
                response["content"][*media] = json!({});
            }
        }
        let mut known: Vec<&codes::Code> =
            self.codes.iter().map(|code| codes::find(code).expect("a route has only codes that are known")).collect();
        known.sort_by_key(|code| (code.status, code.code));
        known.dedup();
        for group in known.chunk_by(|a, b| a.status == b.status) {
            let meanings: Vec<String> = group.iter().map(|code| format!("`{}`: {}", code.code, code.meaning)).collect();
            let names: Vec<&str> = group.iter().map(|code| code.code).collect();
            let schema = json!({
                "allOf": [
                    { "$ref": "#/components/schemas/Problem" },
                    { "properties": { "code": { "enum": names } } },
                ],
            });
            let content = json!({ "application/problem+json": { "schema": schema } });
            // Many routes say no in the same words.
            let name = names.join("-");
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            refusals.insert(name, json!({ "description": meanings.join("; "), "content": content }));
            responses.insert(group[0].status.to_string(), reference);
        }
        responses.into()
    }
}

impl Param {
    fn shown(&self, asked: &mut SchemaGenerator) -> Value {
        let schema = match self.form {
            Form::Text => json!({ "type": "string" }),
            Form::Flag => json!({ "type": "boolean" }),
            Form::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Form::Word(schema) => schema(asked).into(),
        };
        json!({ "name": self.name, "in": self.place, "description": self.about, "schema": schema })
    }
}
