//! Browsers that signed in with a token: each has a cookie, which no script reads, no other site sends and 12 hours end.
//!
//! They live in memory, by the hashes of their cookies, and end with their token, with the process, or when the browser says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, HeaderValue, header};
use runner_store::job::{Millis, Time};
use tokio::sync::watch;

use super::tokens::{Held, random_text};

/// How long a session lasts: a day's work, and no night.
pub const LASTS: Millis = Millis::secs(12 * 3_600);
/// Sessions at once; the oldest make room.
const SESSIONS_MAX: usize = 10_000;
/// Sessions of one token: whoever has it cannot end those of others.
const OF_TOKEN_MAX: usize = 100;
/// The cookie where it is sent over TLS only: a browser takes one with this prefix from nobody but this very host …
const COOKIE_SECURE: &str = "__Host-runner";
/// … and where it is not, on a loopback address.
const COOKIE_PLAIN: &str = "runner";

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

/// A browser that signed in.
#[derive(Debug, Clone)]
pub struct Session {
    /// With what.
    pub held: Arc<Held>,
    /// Until when.
    pub until: Time,
    gone: watch::Sender<bool>,
}

impl Session {
    /// Becomes true when it ends before its time.
    #[must_use]
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }
}

impl Sessions {
    /// Begins one; answers what its cookie holds, and until when.
    #[must_use]
    pub fn begin(&self, held: Arc<Held>, now: Time) -> (String, Time) {
        let text = random_text();
        let until = now.after(LASTS);
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.until > now && session.held.check(now).is_ok());
        let same = |session: &Session| session.held.id() == held.id();
        if sessions.values().filter(|session| same(session)).count() >= OF_TOKEN_MAX {
            end_oldest(&mut sessions, same);
        } else if sessions.len() >= SESSIONS_MAX {
            end_oldest(&mut sessions, |_| true);
        }
        let session = Session { held, until, gone: watch::Sender::new(false) };
        sessions.insert(runner_store::sha256(text.as_bytes()), session);
        (text, until)
    }

    /// The session of a cookie, if it goes on.
    #[must_use]
    pub fn find(&self, text: &str, now: Time) -> Option<Session> {
        let session = self.lock().get(&runner_store::sha256(text.as_bytes())).cloned()?;
        (session.until > now && session.held.check(now).is_ok()).then_some(session)
    }

    /// Ends the session of a cookie, and what it had begun.
    pub fn end(&self, text: &str) {
        if let Some(session) = self.lock().remove(&runner_store::sha256(text.as_bytes())) {
            session.gone.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_oldest(sessions: &mut HashMap<[u8; 32], Session>, of: impl Fn(&Session) -> bool) {
    let oldest = sessions.iter().filter(|(_, session)| of(session)).min_by_key(|(_, session)| session.until);
    if let Some(key) = oldest.map(|(key, _)| *key)
        && let Some(session) = sessions.remove(&key)
    {
        session.gone.send_replace(true);
    }
}

/// What the session's cookie of a request holds. Two of one name are none: one of them is somebody else's.
#[must_use]
pub fn cookie(headers: &HeaderMap, secure: bool) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == name_of(secure)).map(|(_, value)| value.to_owned());
    ours.next().filter(|_| ours.next().is_none())
}

/// The header that gives a browser its cookie.
#[must_use]
pub fn set_cookie(text: &str, secure: bool) -> HeaderValue {
    header_of(text, LASTS.0 / 1_000, secure)
}

/// The header that takes it away.
#[must_use]
pub fn unset_cookie(secure: bool) -> HeaderValue {
    header_of("", 0, secure)
}

fn header_of(text: &str, seconds: u64, secure: bool) -> HeaderValue {
    let (name, only_tls) = (name_of(secure), if secure { "; Secure" } else { "" });
    let cookie = format!("{name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{only_tls}");
    let mut value = HeaderValue::from_str(&cookie).expect("letters, digits and what separates them");
    value.set_sensitive(true);
    value
}

fn name_of(secure: bool) -> &'static str {
    if secure { COOKIE_SECURE } else { COOKIE_PLAIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_once() {
        let check = |lines: &[&str], secure, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            lines
                .iter()
                .for_each(|line| _ = headers.append(header::COOKIE, HeaderValue::from_str(line).expect("ASCII")));
            assert_eq!(cookie(&headers, secure).as_deref(), expected, "{lines:?}");
        };
        check(&["a=b; runner=x; c=d"], false, Some("x"));
        check(&["a=b", "runner=x"], false, Some("x"));
        check(&["runner=x; runner=y"], false, None);
        check(&["runner=x", "runner=y"], false, None);
        check(&["xrunner=x; runner2=y; Runner=z"], false, None);
        check(&["runner=x"], true, None);
        check(&["__Host-runner=x"], true, Some("x"));
        check(&[], true, None);
    }

    #[test]
    fn what_a_browser_is_given_no_script_reads_and_no_other_site_sends() {
        let plain = set_cookie("abc", false);
        assert_eq!(plain.to_str().ok(), Some("runner=abc; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"));
        let secure = set_cookie("abc", true);
        assert!(secure.to_str().is_ok_and(|text| text.starts_with("__Host-runner=abc") && text.ends_with("; Secure")));
        assert!(unset_cookie(false).to_str().is_ok_and(|text| text.contains("Max-Age=0")));
        assert_eq!(format!("{secure:?}"), "Sensitive");
    }
}
