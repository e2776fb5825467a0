//! Who may ask, for what, about whose jobs: every route with every kind of caller, and every way to come as somebody else.

mod doors;
mod matrix;
mod middleware;
mod series;
mod sessions;
mod tenants;
mod tokens;
mod workers;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use runner_runtime::api::access::Access;
use runner_runtime::api::access::door::{self, Door};
use runner_runtime::api::guard::{Guard, Origin};
use runner_store::command::{Command, Name, NewToken, Reply};
use runner_store::job::{TenantId, Time};
use runner_store::token::TokenScope;
use serde_json::Value;

use super::Api;

/// A request, as its headers and its body.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Bytes,
}

/// An answer, read to its end.
struct Told {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

fn ask<'a>(method: &str, path: &'a str) -> Ask<'a> {
    let headers = vec![("host", "localhost:7070".to_owned()), ("content-type", "application/json".to_owned())];
    Ask { method: method.parse().unwrap(), path, headers, body: Bytes::new() }
}

impl<'a> Ask<'a> {
    fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    fn bearer(self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn body(self, body: impl Into<String>) -> Self {
        self.bytes(body.into())
    }

    fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(self.body)).unwrap()
    }

    async fn of(self, router: &axum::Router) -> Told {
        let response = TowerToHyperService::new(router.clone()).call(self.request()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Told { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }
}

impl Told {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn code(&self) -> String {
        let problem: Value = serde_json::from_str(&self.text).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn check(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{}", self.text);
    }
}

impl Api {
    fn access(&self) -> &Arc<Access> {
        self.app.access()
    }

    /// The API behind the door of such a listener.
    fn behind(&self, guard: Guard) -> axum::Router {
        self.behind_door(Door::new(guard, Arc::clone(self.access())))
    }

    fn behind_door(&self, door: Door) -> axum::Router {
        self.router.clone().layer(axum::middleware::from_fn_with_state(door, door::check))
    }

    fn public(&self, url: &str) -> axum::Router {
        let door = Door::new(Guard::Network, Arc::clone(self.access()));
        self.behind_door(door.public(Some(Origin::parse(url).unwrap())))
    }

    pub(super) async fn tenant(&self, name: &str) -> TenantId {
        match self.store.call(Command::Name(Name::of_tenant(name))).await.unwrap() {
            Reply::Named(number) => TenantId(number),
            other => panic!("{other:?}"),
        }
    }

    async fn token(&self, tenant: Option<TenantId>, scopes: &[TokenScope]) -> String {
        self.token_until(tenant, scopes, None).await
    }

    async fn token_until(&self, tenant: Option<TenantId>, scopes: &[TokenScope], expires_at: Option<Time>) -> String {
        let new = NewToken { name: "test".to_owned(), tenant, scopes: scopes.to_vec(), expires_at };
        let made = self.access().tokens().create(&self.store, new).await;
        made.unwrap_or_else(|problem| panic!("{problem:?}")).1
    }
}
