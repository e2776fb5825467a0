//! Enqueueing inside a caller's own write transaction, in the same file.

use std::sync::Arc;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{
    Answer, Command, Enqueue, Listener, Part, Query, QueueSettings, Reply, Settings, Subscribe, Subscription,
};
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::embed::redb::{Database, ReadableDatabase, TableDefinition};
use runner_store::engine::redb::{Commit, Redb, embed};
use runner_store::handle::Writer;
use runner_store::job::{EventName, JobId, JobSpec, Priority, Rejection, StateName};
use tempfile::TempDir;

use crate::world::*;

const ORDERS: TableDefinition<'_, u64, &str> = TableDefinition::new("shop_orders");

struct Program {
    clock: Clock,
    file: Arc<Database>,
    store: Handle,
    writer: Writer,
    dir: TempDir,
}

fn program() -> Program {
    let dir = quick_dir();
    let clock = Clock::manual(START);
    let engine =
        StoreDir::new(dir.path().join("data")).open(Create::NewFolder, clock.clone(), Commit::OnePhase).unwrap();
    let file = engine.database();
    let (store, writer) = Handle::start(Box::new(engine)).unwrap();
    Program { clock, file, store, writer, dir }
}

impl Program {
    /// Writes an order and its job in one transaction, and ends it so.
    fn order(&self, number: u64, spec: JobSpec, commit: bool) -> Reply {
        let transaction = self.file.begin_write().unwrap();
        transaction.open_table(ORDERS).unwrap().insert(number, "paid").unwrap();
        let call = Enqueue::new(TENANT, vec![spec]);
        let enqueued = embed::enqueue(&transaction, &self.clock, &call).unwrap();
        if commit {
            transaction.commit().unwrap();
            self.store.wake_blocking(enqueued.wake).unwrap();
        } else {
            transaction.abort().unwrap();
        }
        enqueued.reply
    }

    fn has_order(&self, number: u64) -> bool {
        let view = self.file.begin_read().unwrap();
        view.open_table(ORDERS).is_ok_and(|orders| orders.get(number).unwrap().is_some())
    }

    /// Ends everything; the file passes its check.
    fn end(self) {
        drop((self.store, self.file));
        self.writer.join();
        let store = StoreDir::new(self.dir.path().join("data"));
        let engine: Redb = store.open(Create::No, self.clock, Commit::OnePhase).unwrap();
        let report = engine.check().unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }
}

#[test]
fn g_04_a_transaction_that_is_given_up_leaves_neither_job_nor_name() {
    let p = program();
    assert!(matches!(p.order(1, JobSpec::new("mail", "{}"), false), Reply::Enqueued(_)));
    assert!(!p.has_order(1));
    assert_eq!(p.store.kind_id(TENANT, "mail"), None);
    assert_eq!(ids(&p.store.call_blocking(enqueue(vec![work()])).unwrap())[0].0, 1, "its id is free");
    p.end();
}

#[test]
fn a_job_is_there_exactly_if_what_it_belongs_to_is() {
    let p = program();
    _ = p.store.board().take();
    let enqueued = ids(&p.order(1, JobSpec::new("mail", "{}"), true));
    assert!(p.has_order(1));
    let kind = p.store.kind_id(TENANT, "mail").expect("the store has learnt the name");
    let notices = p.store.board().take();
    let available = |key: &runner_store::command::CountKey| key.state == StateName::Available && key.lane.kind == kind;
    assert_eq!(notices.counts.iter().find(|(key, _)| available(key)).map(|(_, n)| *n), Some(1), "and of the job");
    let reply = p.store.call_blocking(Command::Cancel { job: at(enqueued[0]), reason: None }).unwrap();
    assert_eq!(job_of(&reply).state.name(), StateName::Cancelled);
    p.end();
}

#[test]
fn names_from_both_sides_never_get_one_number() {
    let p = program();
    for i in 0..20 {
        p.order(i, JobSpec::new(format!("theirs-{i}"), "{}"), true);
        p.store.call_blocking(enqueue(vec![JobSpec::new(format!("ours-{i}"), "{}")])).unwrap();
    }
    let mut numbers: Vec<u32> = (0..20)
        .flat_map(|i| [format!("theirs-{i}"), format!("ours-{i}")])
        .map(|k| p.store.kind_id(TENANT, &k).unwrap().0)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 40);
    p.end();
}

#[test]
fn the_rules_are_the_same_inside_a_transaction() {
    let p = program();
    let full = QueueSettings { capacity: Some(1), ..QueueSettings::default() };
    let set = Command::Set(Box::new(Settings::Queue(TENANT, "default".to_owned(), full)));
    p.store.call_blocking(set).unwrap();
    p.order(1, work(), true);
    assert!(matches!(p.order(2, work(), true), Reply::Rejected(Rejection::Full { .. })));
    assert!(p.has_order(2), "what a rejected call leaves is the caller's to decide");
    p.end();
}

/// The kind is the caller's too: nobody else has heard of it before.
#[test]
fn who_listens_hears_of_a_job_of_a_callers_own_transaction() {
    let p = program();
    let on = |event| Subscription {
        event,
        of: vec!["mail".to_owned()],
        to: Listener { kind: "alert".to_owned(), queue: "default".to_owned(), priority: Priority(0), key: None },
        by: "alerts".to_owned(),
    };
    let subscriptions = vec![on(EventName::Enqueued), on(EventName::Started)];
    let subscribe = Command::Subscribe(Box::new(Subscribe { tenant: TENANT, subscriptions }));
    assert_eq!(p.store.call_blocking(subscribe), Ok(Reply::Done));
    let told = |id: u64| {
        wait_until_settled(&p.store);
        match p.store.snapshot().unwrap().read(&Query::Payload(at(JobId(id)), Part::Args)) {
            Ok(Answer::Payload(args)) => String::from_utf8(args.unwrap_or_default()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    p.order(1, JobSpec::new("mail", "{}"), false);
    assert_eq!(ids(&p.order(2, JobSpec::new("mail", "{}"), true)), [JobId(1)]);
    assert!(told(2).starts_with(r#"{"event":"enqueued","job":"1","kind":"mail""#), "{}", told(2));
    p.store.call_blocking(Command::Start { job: at(JobId(1)), holder: BOOT }).unwrap();
    assert!(told(3).starts_with(r#"{"event":"started","job":"1","kind":"mail""#), "{}", told(3));
    p.end();
}
