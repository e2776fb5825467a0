//! Plugins around everybody's jobs: who may put them, and take them out. Rows of the matrix that depend on a name.

use std::path::Path;

use runner_runtime::api::guard::Guard;
use runner_runtime::operator::Operator;
use runner_store::job::TenantId;
use runner_store::token::TokenScope;

use super::{Told, ask};
use crate::api::deploy::World;
use crate::sandbox::guests::says;

/// `audit` and `later` are around the jobs of all tenants, `check` around those of `acme` alone.
const AROUND: &str = "[[middleware]]\nplugin = \"audit\"\nkinds = [\"*\"]\n[[middleware]]\nplugin = \"later\"\nkinds = [\"none\"]\n\
    [tenants.acme]\n[[tenants.acme.middleware]]\nplugin = \"check\"\nkinds = [\"*\"]\n";

/// The story: a token that may deploy for `default` could put another `audit` into its folder, and read the jobs of all
/// tenants by it, or take it out, and let all of them wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_around_everybodys_jobs_is_changed_by_whoever_has_all_tenants() {
    let world = World::by(Operator::read(AROUND, Path::new(".")).unwrap()).await;
    let (api, acme) = (&world.api, world.api.tenant("acme").await);
    let router = api.behind(Guard::Network);
    let of_default = api.token(Some(TenantId::DEFAULT), &[TokenScope::Deploy]).await;
    let of_acme = api.token(Some(acme), &[TokenScope::Deploy]).await;
    let admin = api.token(None, &[TokenScope::Admin]).await;
    let code = says("1", "", 0);
    let send = async |method: &str, name: &str, token: &str, tenant: Option<&str>| -> Told {
        let path = format!("/v1/plugins/{name}");
        let asked = ask(method, &path).with("content-type", "application/wasm").bearer(token);
        let asked = if method == "PUT" { asked.bytes(code.clone()) } else { asked };
        match tenant {
            Some(tenant) => asked.with("runner-tenant", tenant).of(&router).await,
            None => asked.of(&router).await,
        }
    };
    for method in ["PUT", "DELETE"] {
        for name in ["audit", "later"] {
            for tenant in [None, Some("default")] {
                let told = send(method, name, &of_default, tenant).await;
                told.check(403, "all_tenants");
                assert!(told.text.contains("around the jobs of all tenants"), "{}", told.text);
            }
            send(method, name, &of_acme, Some("default")).await.check(403, "not_allowed");
        }
        for scope in TokenScope::ALL.into_iter().filter(|s| !matches!(s, TokenScope::Admin | TokenScope::Deploy)) {
            let token = api.token(Some(TenantId::DEFAULT), &[scope]).await;
            send(method, "audit", &token, None).await.check(403, "scope");
        }
    }
    assert_eq!(world.files(""), Vec::<String>::new(), "and nothing was put");
    // What is around nobody else's jobs is its tenant's: another plugin, one of another tenant with that name, and its own layer.
    for (name, token, below) in
        [("own", &of_default, ""), ("check", &of_default, ""), ("audit", &of_acme, "acme"), ("check", &of_acme, "acme")]
    {
        assert_eq!(send("PUT", name, token, None).await.status, 201, "{name}");
        assert!(world.files(below).contains(&format!("{name}.wasm")), "{name}");
        assert_eq!(send("DELETE", name, token, None).await.status, 204, "{name}");
    }
    assert_eq!(send("PUT", "audit", &admin, None).await.status, 201);
    send("DELETE", "audit", &of_default, None).await.check(403, "all_tenants");
    assert_eq!(send("GET", "audit", &of_default, None).await.status, 200, "to look at it is not to change it");
    assert_eq!(send("DELETE", "audit", &admin, Some("default")).await.status, 204);
    world.loader.stop().await;
}
