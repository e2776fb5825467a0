//! Granted HTTP: a guest reaches what it was granted and nothing else, and whatever a server does is bounded.
//!
//! Everything here stays on this machine: servers of the tests' own on loopback addresses, reached by `private`, and names
//! that a resolver of the tests' own knows. Guests are in [`fetchers`], servers in [`server`].

mod answers;
mod fetchers;
mod reach;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use runner_runtime::wasm::grants::{GrantBy, Max, Secret, TenantRules, UrlPattern};
use runner_runtime::wasm::{EgressSettings, Grants, Host, HostSettings, Manifest, Plugin, RunReport, RunRequest};
use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;
use rustls::RootCertStore;

use self::fetchers::{Fetch, fetcher};
use super::{block_on, job};

/// A host with a resolver and an authority of its own.
struct Web {
    host: Host,
    lookups: Arc<Mutex<Vec<String>>>,
}

/// A name and its addresses, each time it is asked for; the last ones for good.
type Names<'a> = &'a [(&'a str, &'a [&'a [&'a str]])];

impl Web {
    fn new(names: Names<'_>, roots: Option<Arc<RootCertStore>>) -> Self {
        let parse = |answers: &[&[&str]]| -> Vec<Vec<IpAddr>> {
            answers.iter().map(|all| all.iter().map(|text| text.parse().unwrap()).collect()).collect()
        };
        let known: HashMap<String, Vec<Vec<IpAddr>>> =
            names.iter().map(|(name, answers)| ((*name).to_owned(), parse(answers))).collect();
        let lookups = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&lookups);
        let resolve = move |name: &str| {
            let mut asked = asked.lock().unwrap();
            let before = asked.iter().filter(|earlier| *earlier == name).count();
            asked.push(name.to_owned());
            let answers = known.get(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(answers[before.min(answers.len() - 1)].clone())
        };
        let settings = HostSettings { slots: 4, threads: 2, pooled: false, ..HostSettings::default() };
        let roots = roots.or_else(|| Some(Arc::new(RootCertStore::empty())));
        let egress = EgressSettings { resolve: Arc::new(resolve), roots };
        Self { host: Host::with_egress(&settings, egress).unwrap(), lookups }
    }

    /// A guest whose manifest asks for these URLs, and whose operator grants them with these private addresses.
    fn plugin(&self, guest: &[u8], manifest: &str) -> Arc<Plugin> {
        let manifest = Manifest::parse(manifest).expect("the manifest is right");
        Arc::new(self.host.compile("guest", guest, manifest).expect("the guest is a plugin"))
    }

    fn run(&self, plugin: &Arc<Plugin>, request: RunRequest) -> RunReport {
        block_on(self.host.spawn(Arc::clone(plugin), request)).expect("the host never panics")
    }

    /// Sends one GET and says what the guest got of it, and the run's log.
    fn get(&self, url: &str, manifest: &str, rules: TenantRules) -> (String, String) {
        self.fetch(&Fetch::default(), url, manifest, rules)
    }

    fn fetch(&self, fetch: &Fetch<'_>, url: &str, manifest: &str, rules: TenantRules) -> (String, String) {
        let plugin = self.plugin(&fetcher(fetch), manifest);
        let report = self.run(&plugin, request(&plugin, url, rules));
        (output(&report), report.log.shown())
    }
}

fn request(plugin: &Plugin, url: &str, rules: TenantRules) -> RunRequest {
    let mut request = super::request(plugin);
    request.job = runner_runtime::wasm::JobView { args: url.as_bytes().to_vec(), ..job() };
    request.grants = Arc::new(Grants::new(plugin.manifest().allow.clone(), Arc::new(rules)));
    // Far beyond what a busy machine needs: what is tested for its time states its own.
    request.limits.timeout = Millis::secs(30);
    request
}

/// What an operator grants, with addresses that are private.
fn rules(private: &[String]) -> TenantRules {
    let max = Max { private: private.iter().map(|text| text.parse().unwrap()).collect(), ..Max::default() };
    TenantRules { max, ..TenantRules::of("default") }
}

/// The same with a secret `KEY`.
fn rules_with_key(private: &[String], key: &str) -> TenantRules {
    TenantRules { secrets: BTreeMap::from([("KEY".to_owned(), Secret::new(key))]), ..rules(private) }
}

/// The same for a tenant whose manifests need the operator.
fn rules_of_acme(http: &[&str], private: &[String]) -> TenantRules {
    let http = http.iter().map(|text| UrlPattern::parse(text).unwrap()).collect();
    let max = Max { http, ..rules(private).max };
    TenantRules { grant: GrantBy::Both, max, ..TenantRules::of("acme") }
}

/// A manifest that asks for GET, and a body of 64 KiB at most.
fn asks(url: &str) -> String {
    format!("[limits]\nhttp_body = \"64KiB\"\n[[allow.http]]\nurl = \"{url}\"\nmethods = [\"GET\", \"POST\", \"HEAD\"]")
}

#[track_caller]
fn output(report: &RunReport) -> String {
    let Outcome::Completed { output } = &report.outcome else {
        panic!("{:?}\n{}", report.outcome, report.log.shown());
    };
    String::from_utf8_lossy(output).into_owned()
}
