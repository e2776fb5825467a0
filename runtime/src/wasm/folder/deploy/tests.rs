//! Whose turn it is: what is put and taken out goes one at a time, and each tenant has one place in the line.

use std::sync::mpsc;

use super::*;
use crate::wasm::HostSettings;

fn deploy() -> Deploy {
    let host = Host::new(&HostSettings::default()).expect("a host");
    Deploy::new(Arc::new(host), Path::new("."), Arc::default(), Stop::default())
}

/// Something that is being put: it says that it has begun, and goes on until the other end says so or is gone.
fn begun() -> (impl FnOnce(&Deploy) -> Result<(), NotDeployed> + Send, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (say, begins) = mpsc::channel();
    let (ends, wait) = mpsc::channel();
    let work = move |_: &Deploy| {
        _ = say.send(());
        _ = wait.recv();
        Ok(())
    };
    (work, begins, ends)
}

#[track_caller]
fn is_busy(result: Option<Result<(), NotDeployed>>) -> bool {
    match result {
        None => false,
        Some(Err(NotDeployed::Busy)) => true,
        Some(other) => panic!("neither waits nor is busy: {other:?}"),
    }
}

/// Lets it go as far as it can; none: it waits.
async fn polled<T>(of: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    tokio::select! {
        biased;
        ended = of => Some(ended),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn each_tenant_has_one_that_is_put_or_waits_and_one_is_put_at_a_time() {
    let deploy = deploy();
    let ((first, begins, ends), (second, second_begins, second_ends)) = (begun(), begun());
    let mut first = std::pin::pin!(deploy.alone("acme", first));
    assert!(!is_busy(polled(first.as_mut()).await));
    begins.recv().expect("it begins at once");
    let again = deploy.alone("acme", |_| Ok(()));
    assert!(is_busy(polled(std::pin::pin!(again)).await), "it has one already");
    let mut second = std::pin::pin!(deploy.alone("zeta", second));
    assert!(!is_busy(polled(second.as_mut()).await), "another one's waits");
    let waiting: Vec<String> = (2..LINE_MAX).map(|n| format!("t{n}")).collect();
    let mut waiting: Vec<_> = waiting.iter().map(|name| Box::pin(deploy.alone(name, |_| Ok(())))).collect();
    for one in &mut waiting {
        assert!(!is_busy(polled(one.as_mut()).await));
    }
    let late = || deploy.alone("late", |_| Ok(()));
    assert!(is_busy(polled(std::pin::pin!(late())).await), "as many wait as may");
    // Who goes away while it waits makes room.
    drop(waiting.pop());
    let mut late = Box::pin(late());
    assert!(!is_busy(polled(late.as_mut()).await));
    assert!(second_begins.try_recv().is_err(), "one at a time");
    ends.send(()).expect("it waits for that");
    first.await.expect("it was put");
    assert!(!is_busy(polled(second.as_mut()).await));
    second_begins.recv().expect("the next one has its turn");
    second_ends.send(()).expect("it waits for that");
    second.await.expect("it was put");
    for one in waiting {
        one.await.expect("it was put");
    }
    late.await.expect("it was put");
    deploy.alone("acme", |_| Ok(())).await.expect("its place is free again");
}

/// What has begun goes on when whoever asked is gone, and keeps its tenant's place until it has ended.
#[tokio::test]
async fn a_push_whose_caller_is_gone_keeps_its_place_until_it_has_ended() {
    let deploy = deploy();
    let (work, begins, ends) = begun();
    let mut gone = Box::pin(deploy.alone("acme", work));
    assert!(!is_busy(polled(gone.as_mut()).await));
    begins.recv().expect("it begins");
    drop(gone);
    let again = deploy.alone("acme", |_| Ok(()));
    assert!(is_busy(polled(std::pin::pin!(again)).await));
    let mut other = std::pin::pin!(deploy.alone("zeta", |_| Ok(())));
    assert!(!is_busy(polled(other.as_mut()).await));
    ends.send(()).expect("it goes on");
    other.await.expect("its turn comes");
    // The place was given back before the turn was.
    deploy.alone("acme", |_| Ok(())).await.expect("its place is free again");
}
