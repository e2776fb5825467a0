/* The plugin's side of the contract, runner:plugin@0.1.0, in the canonical ABI: the export that the runner calls, and the
 * imports that the functions of `runner.h` are. Records lie in memory as the contract orders their fields, strings and lists
 * as pointer and length; what is returned by an import lands in `area`. Whatever is not called is not imported. */
#include "runner.h"

#include <stdlib.h>
#include <string.h>

void runner_release(void);
runner_text runner_utf8(runner_text text);
bool runner_takes(const char *what, runner_text text, runner_result *refused);

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(interface, name) \
  __attribute__((import_module("runner:plugin/" interface "@0.1.0"), import_name(name)))

/* The runner's way to give memory: it never makes anything smaller, and asks for nothing larger than what it sends. */
EXPORT("cabi_realloc") void *runner_cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes);
void *runner_cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes) {
  (void)align; /* Blocks are aligned for everything. */
  void *made = runner_alloc(bytes);
  if (old_bytes > 0) memcpy(made, old, old_bytes < bytes ? old_bytes : bytes);
  return made;
}

/* There are no files. A C library that could open one asks, before each run, for the folders that it was given: it is what such a
 * run takes longest. With an answer of its own there is nothing to ask for. Weak, so that a library may still have its own. */
__attribute__((weak)) int __wasilibc_find_relpath(const char *path, const char **folder, char **rest, size_t rest_bytes);
int __wasilibc_find_relpath(const char *path, const char **folder, char **rest, size_t rest_bytes) {
  (void)path, (void)folder, (void)rest, (void)rest_bytes;
  return -1; /* ENOENT */
}

/* --- the export ----------------------------------------------------------------------------------------------------- */

typedef struct { const void *at; size_t len; } list;
typedef struct {
  runner_text id, kind, tenant, queue, args;
  uint32_t run, attempt, max_attempts;
  int16_t priority;
  runner_text enqueued_at, run_at;
  uint32_t timeout_ms;
  list tags;
  uint8_t has_checkpoint;
  runner_text checkpoint;
  list dependencies, meta;
} wire_job;
_Static_assert(sizeof(wire_job) == 112, "the record `job` of the contract has 112 bytes");

typedef struct {
  uint8_t is_failure;
  union {
    runner_text output;
    struct {
      uint8_t which;
      union {
        struct { runner_text message; uint8_t has_after; uint32_t after_ms; } retry;
        runner_text discard;
        struct { uint32_t after_ms; uint8_t has_reason; runner_text reason; } snooze;
      } u;
    } failure;
  } u;
} wire_answer;
_Static_assert(sizeof(wire_answer) == 24, "the result of `handle` has 24 bytes");

static wire_answer answered;

EXPORT("runner:plugin/handler@0.1.0#handle") wire_answer *runner_export_handle(wire_job *job);
wire_answer *runner_export_handle(wire_job *job) {
  runner_job seen = {
      .id = job->id, .kind = job->kind, .tenant = job->tenant, .queue = job->queue, .args = job->args,
      .run = job->run, .attempt = job->attempt, .max_attempts = job->max_attempts, .priority = job->priority,
      .enqueued_at = job->enqueued_at, .run_at = job->run_at, .timeout_ms = job->timeout_ms,
      .tags = job->tags.at, .tag_count = job->tags.len,
      .has_checkpoint = job->has_checkpoint != 0, .checkpoint = job->checkpoint,
      .dependencies = job->dependencies.at, .dependency_count = job->dependencies.len,
      .meta = job->meta.at, .meta_count = job->meta.len,
  };
  runner_answer answer = runner_handle(&seen);
  memset(&answered, 0, sizeof answered);
  answered.is_failure = answer.end != RUNNER_OK;
  if (answered.is_failure) answer.text = runner_utf8(answer.text);
  switch (answer.end) {
    case RUNNER_OK:
      answered.u.output = answer.text;
      break;
    case RUNNER_RETRY:
      answered.u.failure.which = 0;
      answered.u.failure.u.retry.message = answer.text;
      answered.u.failure.u.retry.has_after = answer.has_after;
      answered.u.failure.u.retry.after_ms = answer.after_ms;
      break;
    case RUNNER_DISCARD:
      answered.u.failure.which = 1;
      answered.u.failure.u.discard = answer.text;
      break;
    case RUNNER_SNOOZE:
      answered.u.failure.which = 2;
      answered.u.failure.u.snooze.after_ms = answer.after_ms;
      answered.u.failure.u.snooze.has_reason = answer.text.len > 0;
      answered.u.failure.u.snooze.reason = answer.text;
      break;
  }
  return &answered;
}

EXPORT("cabi_post_runner:plugin/handler@0.1.0#handle") void runner_export_post(wire_answer *answer);
void runner_export_post(wire_answer *answer) {
  (void)answer;
  runner_release();
}

/* --- results of imports ------------------------------------------------------------------------------------------------ */

/* The largest of them: result<response, call-error>. */
typedef union {
  uint8_t is_error;
  struct { uint8_t is_error; runner_text code, message; } error;
  struct { uint8_t is_error; runner_text text; } text;
  struct { uint8_t is_error; list list; } list;
  struct { uint8_t is_error; uint32_t number; } number;
  struct { uint8_t is_error; _Alignas(4) uint16_t status; list headers; runner_text body; } response;
} area;

/* The second word of an option within a result begins at its fourth byte. */
static bool found(const area *a) { return ((const uint8_t *)a)[4] != 0; }
static runner_text found_text(const area *a) {
  runner_text text;
  memcpy(&text, (const uint8_t *)a + 8, sizeof text);
  return text;
}

static runner_result result(const area *a) {
  if (a->is_error) return (runner_result){.ok = false, .code = a->error.code, .message = a->error.message};
  return (runner_result){.ok = true, .code = {"", 0}, .message = {"", 0}};
}

static runner_result maybe(const area *a, bool *is_there, runner_text *text) {
  *is_there = !a->is_error && found(a);
  *text = *is_there ? found_text(a) : (runner_text){"", 0};
  return result(a);
}

static runner_result texts(const area *a, const runner_text **all, size_t *count) {
  *all = a->is_error ? NULL : a->list.list.at;
  *count = a->is_error ? 0 : a->list.list.len;
  return result(a);
}

/* Whether the runner may be asked; if not, the answer is there already. */
static bool takes(area *a, const char *what, runner_text text) {
  runner_result refused;
  if (runner_takes(what, text, &refused)) return true;
  memset(a, 0, sizeof *a);
  a->error.is_error = 1;
  a->error.code = refused.code;
  a->error.message = refused.message;
  return false;
}

static bool takes_maybe(area *a, const char *what, const runner_text *text) { return text == NULL || takes(a, what, *text); }

#define OPTION(text) (text) != NULL, (text) ? (text)->at : NULL, (text) ? (text)->len : 0
#define TEXT(text) (text).at, (text).len

/* --- imports ----------------------------------------------------------------------------------------------------------- */

IMPORT("host", "log") void host_log(uint32_t level, const char *at, size_t len);
IMPORT("host", "progress") void host_progress(uint32_t percent, const char *at, size_t len);
IMPORT("host", "cancelled") uint32_t host_cancelled(void);
IMPORT("host", "enqueue")
void host_enqueue(const char *, size_t, const char *, size_t, const char *, size_t, area *);
IMPORT("host", "checkpoint") void host_checkpoint(const char *, size_t, area *);
IMPORT("host", "output-of") void host_output_of(const char *, size_t, area *);
IMPORT("host", "pause-schedule") void host_pause_schedule(area *);
IMPORT("kv", "get") void kv_get(const char *, size_t, area *);
IMPORT("kv", "set") void kv_set(const char *, size_t, const char *, size_t, area *);
IMPORT("kv", "remove") void kv_remove(const char *, size_t, area *);
IMPORT("kv", "compare-and-set")
void kv_compare_and_set(const char *, size_t, uint32_t, const char *, size_t, uint32_t, const char *, size_t, area *);
IMPORT("kv", "keys") void kv_keys(const char *, size_t, uint32_t, const char *, size_t, uint32_t, area *);
IMPORT("blobs", "size") void blobs_size(const char *, size_t, const char *, size_t, area *);
IMPORT("blobs", "read") void blobs_read(const char *, size_t, const char *, size_t, uint32_t, uint32_t, area *);
IMPORT("blobs", "begin") void blobs_begin(const char *, size_t, const char *, size_t, area *);
IMPORT("blobs", "write-part") void blobs_write_part(uint32_t, const char *, size_t, area *);
IMPORT("blobs", "finish") void blobs_finish(uint32_t, area *);
IMPORT("blobs", "remove") void blobs_remove(const char *, size_t, const char *, size_t, area *);
IMPORT("blobs", "names")
void blobs_names(const char *, size_t, const char *, size_t, uint32_t, const char *, size_t, uint32_t, area *);
IMPORT("http", "send")
void http_send(const char *, size_t, const char *, size_t, const runner_pair *, size_t, const char *, size_t, uint32_t,
               uint32_t, area *);
IMPORT("config", "get") void config_get(const char *, size_t, area *);
IMPORT("config", "secret") void config_secret(const char *, size_t, area *);

void runner_log(runner_level level, runner_text message) {
  message = runner_utf8(message);
  host_log((uint32_t)level, TEXT(message));
}

void runner_progress(uint8_t percent, runner_text message) {
  message = runner_utf8(message);
  host_progress(percent, TEXT(message));
}

bool runner_cancelled(void) { return host_cancelled() != 0; }

runner_result runner_enqueue(const char *kind, runner_text args, runner_text options, runner_text *id) {
  area a;
  if (takes(&a, "kind of the new job", runner_t(kind)) && takes(&a, "options of the new job", options)) {
    host_enqueue(kind, strlen(kind), TEXT(args), TEXT(options), &a);
  }
  if (id != NULL) *id = a.is_error ? (runner_text){"", 0} : a.text.text;
  return result(&a);
}

runner_result runner_checkpoint(runner_text data) {
  area a;
  host_checkpoint(TEXT(data), &a);
  return result(&a);
}

runner_result runner_output_of(runner_text job_id, bool *is_there, runner_text *output) {
  area a;
  if (takes(&a, "job's id", job_id)) host_output_of(TEXT(job_id), &a);
  return maybe(&a, is_there, output);
}

runner_result runner_pause_schedule(void) {
  area a;
  host_pause_schedule(&a);
  return result(&a);
}

runner_result runner_kv_get(runner_text key, bool *is_there, runner_text *value) {
  area a;
  if (takes(&a, "key", key)) kv_get(TEXT(key), &a);
  return maybe(&a, is_there, value);
}

runner_result runner_kv_set(runner_text key, runner_text value) {
  area a;
  if (takes(&a, "key", key)) kv_set(TEXT(key), TEXT(value), &a);
  return result(&a);
}

runner_result runner_kv_remove(runner_text key) {
  area a;
  if (takes(&a, "key", key)) kv_remove(TEXT(key), &a);
  return result(&a);
}

runner_result runner_kv_compare_and_set(runner_text key, const runner_text *expected, const runner_text *value) {
  area a;
  if (takes(&a, "key", key)) kv_compare_and_set(TEXT(key), OPTION(expected), OPTION(value), &a);
  return result(&a);
}

runner_result runner_kv_keys(runner_text prefix, const runner_text *after, uint32_t limit, const runner_text **keys,
                             size_t *count) {
  area a;
  if (takes(&a, "prefix", prefix) && takes_maybe(&a, "key", after)) kv_keys(TEXT(prefix), OPTION(after), limit, &a);
  return texts(&a, keys, count);
}

static bool takes_blob(area *a, runner_text container, runner_text name) {
  return takes(a, "container", container) && takes(a, "blob's name", name);
}

runner_result runner_blob_size(runner_text container, runner_text name, bool *is_there, uint32_t *size) {
  area a;
  if (takes_blob(&a, container, name)) blobs_size(TEXT(container), TEXT(name), &a);
  *is_there = !a.is_error && found(&a);
  *size = *is_there ? (uint32_t)(uintptr_t)found_text(&a).at : 0;
  return result(&a);
}

runner_result runner_blob_read(runner_text container, runner_text name, uint32_t offset, uint32_t len,
                               runner_text *data) {
  area a;
  if (takes_blob(&a, container, name)) blobs_read(TEXT(container), TEXT(name), offset, len, &a);
  *data = a.is_error ? (runner_text){"", 0} : a.text.text;
  return result(&a);
}

runner_result runner_blob_begin(runner_text container, runner_text name, uint32_t *writer) {
  area a;
  if (takes_blob(&a, container, name)) blobs_begin(TEXT(container), TEXT(name), &a);
  *writer = a.is_error ? 0 : a.number.number;
  return result(&a);
}

runner_result runner_blob_write(uint32_t writer, runner_text data) {
  area a;
  blobs_write_part(writer, TEXT(data), &a);
  return result(&a);
}

runner_result runner_blob_finish(uint32_t writer) {
  area a;
  blobs_finish(writer, &a);
  return result(&a);
}

runner_result runner_blob_remove(runner_text container, runner_text name) {
  area a;
  if (takes_blob(&a, container, name)) blobs_remove(TEXT(container), TEXT(name), &a);
  return result(&a);
}

runner_result runner_blob_names(runner_text container, runner_text prefix, const runner_text *after, uint32_t limit,
                                const runner_text **names, size_t *count) {
  area a;
  if (takes(&a, "container", container) && takes(&a, "prefix", prefix) && takes_maybe(&a, "blob's name", after)) {
    blobs_names(TEXT(container), TEXT(prefix), OPTION(after), limit, &a);
  }
  return texts(&a, names, count);
}

runner_result runner_http(const char *method, runner_text url, const runner_pair *headers, size_t header_count,
                          runner_text body, runner_response *response) {
  area a;
  bool is_text = takes(&a, "method", runner_t(method)) && takes(&a, "URL", url);
  for (size_t i = 0; is_text && i < header_count; i++) {
    is_text = takes(&a, "header's name", headers[i].key) && takes(&a, "header's value", headers[i].value);
  }
  if (is_text) http_send(method, strlen(method), TEXT(url), headers, header_count, TEXT(body), 0, 0, &a);
  memset(response, 0, sizeof *response);
  if (!a.is_error) {
    response->status = a.response.status;
    response->headers = a.response.headers.at;
    response->header_count = a.response.headers.len;
    response->body = a.response.body;
  }
  return result(&a);
}

runner_result runner_config(const char *name, bool *is_there, runner_text *value) {
  area a;
  if (takes(&a, "setting's name", runner_t(name))) config_get(name, strlen(name), &a);
  return maybe(&a, is_there, value);
}

runner_result runner_secret(const char *name, runner_text *value) {
  area a;
  if (takes(&a, "secret's name", runner_t(name))) config_secret(name, strlen(name), &a);
  *value = a.is_error ? (runner_text){"", 0} : a.text.text;
  return result(&a);
}
