//! Every code that a refusal may have, with its status and what it means. Codes are stable: programs go by them.

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// For programs.
    pub code: &'static str,
    /// The status that it comes with.
    pub status: u16,
    /// What it means, in general; the answer's `detail` says what, where, and how to mend it.
    pub meaning: &'static str,
}

const fn code(status: u16, code: &'static str, meaning: &'static str) -> Code {
    Code { code, status, meaning }
}

/// All of them, by status.
pub const CODES: &[Code] = &[
    code(400, "malformed", "the request cannot be read"),
    code(401, "bad_token", "the token is wrong, or was revoked"),
    code(401, "expired_token", "the token has expired"),
    code(401, "no_token", "this needs a token"),
    code(401, "session_over", "the session has ended"),
    code(401, "unconfirmed_token", "the token came with a backup, and nobody has confirmed it"),
    code(403, "all_tenants", "this is about all tenants, and the token is one tenant's"),
    code(403, "not_allowed", "whoever asks may not do this"),
    code(403, "proxied", "the request came through a proxy, and there are no tokens"),
    code(403, "scope", "the token is for other things"),
    code(403, "wrong_host", "the Host of the request is none of this server's"),
    code(403, "wrong_origin", "the page that asks is not ours"),
    code(404, "not_found", "there is no such thing"),
    code(404, "no_output", "the job has no output"),
    code(404, "no_route", "there is nothing at this path"),
    code(404, "no_run", "the job has no such run"),
    code(404, "no_tenant", "there is no such tenant"),
    code(405, "method_not_allowed", "not possible at this path; `Allow` has what is"),
    code(406, "not_acceptable", "`Accept` admits no media type in which this is answered; `detail` has those"),
    code(408, "body_timeout", "the body took too long"),
    code(408, "head_timeout", "the head of the request took too long; nothing happened"),
    code(409, "changed", "somebody else changed it meanwhile, again and again"),
    code(409, "draining", "the node starts nothing more"),
    code(409, "exists", "there is one already"),
    code(409, "external", "external workers take the jobs of its kind"),
    code(409, "from_configuration", "it stands in the server's configuration"),
    code(409, "from_environment", "the server was started with it"),
    code(409, "from_manifest", "it is changed in the plugin's manifest"),
    code(409, "idempotency_key_reused", "the key was used for another request"),
    code(409, "in_memory", "the store has no file"),
    code(409, "in_use", "somebody else does the same there"),
    code(409, "no_budget", "it could not start for long, or ever"),
    code(409, "no_middleware", "a middleware of its kind is not there"),
    code(409, "no_node", "no node runs jobs on this store"),
    code(409, "no_plugin", "no plugin provides its kind"),
    code(409, "no_slot", "as many as may wait for a slot"),
    code(409, "overlapping", "the job of the slot before has not ended"),
    code(409, "plugins_folder", "the folder of plugins cannot be read"),
    code(409, "plugins_read_only", "the folder of plugins cannot be written"),
    code(409, "queue_drains", "the queue takes no new jobs"),
    code(409, "queue_not_empty", "the queue has jobs that have not ended"),
    code(409, "settling", "those who waited for it are being told"),
    code(409, "stale_run", "the run does not hold the job any more"),
    code(409, "state", "not possible in the state that it is in"),
    code(409, "stopping", "the node stops"),
    code(409, "suspect", "the process died under it, and another such job is about to run"),
    code(409, "tenant_not_empty", "the tenant still has something"),
    code(409, "unique_busy", "the job that holds the key changed again and again"),
    code(409, "unique_held", "another job holds the unique key"),
    code(409, "waited_for", "other jobs wait for it"),
    code(410, "log_restored", "the events are of before a restore"),
    code(410, "log_trimmed", "the log does not reach back so far"),
    code(413, "too_large", "the body is too large"),
    code(415, "media_type", "the body is of another type"),
    code(417, "expectation", "nothing can be expected but `100-continue`"),
    code(422, "invalid", "understood, and its meaning is wrong; `field` says where"),
    code(422, "merge_failed", "the plugin that merges args broke"),
    code(422, "merge_refused", "the plugin that merges args said no"),
    code(422, "not_granted", "the plugin asks for what the operator does not grant; nothing was changed"),
    code(422, "plugin_refused", "the plugin is none, or cannot be compiled; nothing was changed"),
    code(429, "compile_share", "the tenant has compiled for as long as it may in an hour; nothing happened"),
    code(429, "full", "as much as may is there; nothing happened"),
    code(429, "tenant_storage", "the tenant has stored as much as it may; nothing happened"),
    code(431, "head_too_large", "the head of the request is too large; nothing happened"),
    code(500, "backup_failed", "the backup was not made"),
    code(500, "bug", "a bug of the runner"),
    code(500, "internal", "a bug of the runner"),
    code(500, "no_row", "a bug of the runner"),
    code(500, "outcome_unknown", "the store failed meanwhile: it may or may not have happened"),
    code(500, "store_failed", "the store cannot be read"),
    code(503, "overloaded", "too many ask at once; nothing happened"),
    code(503, "stopped", "the store has stopped; nothing happened"),
    code(507, "disk_full", "the disk is full"),
    code(507, "disk_reserve", "the disk is nearly full; nothing happened"),
];

/// What is known of a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}
