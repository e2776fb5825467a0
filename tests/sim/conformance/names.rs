//! Names and their numbers: of tenants and plugins by a command, for ever.

use runner_store::Handle;
use runner_store::command::{Command, Name, NameClass, Reply};
use runner_store::engine::Engine;
use runner_store::engine::memory::Memory;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::job::{Invalid, PluginId, Rejection, TenantId};

use crate::world::*;

fn named(reply: &Reply) -> u32 {
    match reply {
        Reply::Named(number) => *number,
        other => panic!("not named: {other:?}"),
    }
}

fn tenant(name: &str) -> Command {
    Command::Name(Name::of_tenant(name))
}

fn plugin(tenant: TenantId, name: &str) -> Command {
    Command::Name(Name::of_plugin(tenant, name))
}

/// Also where it is the first name of all, whose number would be the default tenant's.
#[test]
fn no_tenant_gets_the_number_of_the_default_tenant() {
    case(|w| {
        let acme = named(&w.call(tenant("acme")));
        assert_ne!(acme, TenantId::DEFAULT.0);
        assert_eq!(named(&w.call(tenant("default"))), TenantId::DEFAULT.0);
        assert_eq!(w.check().names.len(), 1, "the default tenant needs no name");
    });
}

#[test]
fn a_name_keeps_its_number_for_ever() {
    case(|w| {
        let numbers = [tenant("acme"), plugin(TENANT, "thumbs"), plugin(TenantId(9), "thumbs")];
        let numbers = numbers.map(|name| named(&w.call(name)));
        w.enqueue(work());
        w.reopen();
        let again = [tenant("acme"), plugin(TENANT, "thumbs"), plugin(TenantId(9), "thumbs"), tenant("other")];
        let again = again.map(|name| named(&w.call(name)));
        assert_eq!(again[..3], numbers);
        let mut all: Vec<u32> = w.check().names.iter().map(|(_, number)| *number).collect();
        assert_eq!(all.len(), 6, "two tenants, two plugins, a queue and a kind");
        all.dedup();
        assert_eq!(all.len(), 6, "no number twice");
    });
}

#[test]
fn two_calls_of_one_batch_give_a_name_one_number() {
    case(|w| {
        let replies = w.batch(&[tenant("acme"), plugin(TENANT, "a"), tenant("acme"), plugin(TENANT, "a")]);
        assert_eq!(replies[..2], replies[2..]);
        assert_ne!(replies[0], replies[1]);
    });
}

#[track_caller]
fn check_refused(name: Name, field: &str) {
    case(|w| {
        let reply = w.call(Command::Name(name.clone()));
        let Reply::Rejected(Rejection::Invalid(Invalid { field: refused, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!((refused.as_str(), w.check().names.len()), (field, 0));
    });
}

#[test]
fn a_name_that_breaks_the_rules_gets_no_number() {
    for word in ["", "Acme", "..", "a/b", &"a".repeat(64)] {
        check_refused(Name::of_tenant(word), "tenant");
    }
    check_refused(Name { tenant: TENANT, ..Name::of_tenant("acme") }, "tenant");
    check_refused(Name::of_plugin(TENANT, "a b"), "plugin");
    check_refused(Name::of_plugin(TenantId::NONE, "thumbs"), "plugin");
    check_refused(Name { tenant: TENANT, class: NameClass::Queue, name: "a".repeat(129) }, "queue");
}

#[test]
fn a_handle_knows_names_both_ways() {
    let dir = quick_dir();
    let path = dir.path().join("jobs");
    let clock = runner_store::clock::Clock::manual(START);
    let file = Redb::create(&path, clock.clone(), Commit::OnePhase).unwrap();
    for engine in [Box::new(Memory::new(clock.clone())) as Box<dyn Engine>, Box::new(file)] {
        let (handle, writer) = Handle::start(engine).unwrap();
        assert_eq!((handle.tenant_id("default"), handle.tenant_id("acme")), (Some(TENANT), None));
        let acme = TenantId(named(&handle.call_blocking(tenant("acme")).unwrap()));
        let thumbs = named(&handle.call_blocking(plugin(acme, "thumbs")).unwrap());
        assert_eq!(handle.tenant_id("acme"), Some(acme));
        assert_eq!(handle.plugin_id(acme, "thumbs"), Some(PluginId(thumbs)));
        assert_eq!(handle.plugin_id(TENANT, "thumbs"), None, "another tenant's");
        assert_eq!((&*handle.tenant_name(TENANT), &*handle.tenant_name(acme)), ("default", "acme"));
        assert_eq!(&*handle.tenant_name(TenantId(thumbs)), format!("#{thumbs}"), "a plugin is no tenant");
        drop(handle);
        writer.join();
    }
    let (handle, writer) = Handle::start(Box::new(Redb::open(&path, clock, Commit::OnePhase).unwrap())).unwrap();
    assert!(handle.tenant_id("acme").is_some_and(|acme| handle.plugin_id(acme, "thumbs").is_some()), "after a restart");
    drop(handle);
    writer.join();
}
