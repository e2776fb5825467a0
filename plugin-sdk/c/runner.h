/* Handlers for runner in C: one function from a job to an answer.
 *
 *     #include "runner.h"
 *
 *     runner_answer runner_handle(const runner_job *job) {
 *       runner_args args = runner_read(job);
 *       runner_text name = runner_string(&args, "user.name");
 *       if (args.failed) return args.answer;          // discards the job and names the field
 *       runner_buffer out = {0};
 *       runner_add(&out, "{\"greeting\":");
 *       runner_add_string(&out, name);
 *       runner_add(&out, "}");
 *       return runner_ok(out);
 *     }
 *
 * `runner plugin build` makes a plugin of it; natively, with `runner_test.c` instead of `runner_wasm.c`, it is a program that
 * tests it. Memory that comes from here (`runner_alloc`, whatever a call answers with) lives until the run has ended, and
 * nobody frees it.
 *
 * What it deliberately does not do: it has no tree of JSON values and no allocator to choose; numbers are read as the type
 * that is asked for, and an answer is written piece by piece.
 */
#ifndef RUNNER_H
#define RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- text and bytes ------------------------------------------------------------------------------------------------- */

/* Bytes of someone else's; text is UTF-8 and not ended by a zero. */
typedef struct { const char *at; size_t len; } runner_text;

/* Text of a C string. */
runner_text runner_t(const char *text);
bool runner_is(runner_text text, const char *other);
/* Memory until the run has ended. Without memory the run ends as `out_of_memory`. */
void *runner_alloc(size_t bytes);

/* Something that grows; begin with {0}. */
typedef struct { char *at; size_t len, room; } runner_buffer;
void runner_add(runner_buffer *buffer, const char *text);
void runner_add_text(runner_buffer *buffer, runner_text text);
/* As a JSON string, quotes included. */
void runner_add_string(runner_buffer *buffer, runner_text text);
void runner_add_u64(runner_buffer *buffer, uint64_t number);
void runner_add_i64(runner_buffer *buffer, int64_t number);
runner_text runner_text_of(runner_buffer buffer);

/* --- the job -------------------------------------------------------------------------------------------------------- */

typedef struct { runner_text key, value; } runner_pair;

/* One run of one job; the contract, plugin.wit, says what each field is. */
typedef struct {
  runner_text id, kind, tenant, queue, args;
  uint32_t run, attempt, max_attempts;
  int16_t priority;
  runner_text enqueued_at, run_at;
  uint32_t timeout_ms;
  const runner_pair *tags;
  size_t tag_count;
  bool has_checkpoint;
  runner_text checkpoint;
  const runner_text *dependencies;
  size_t dependency_count;
  const runner_pair *meta;
  size_t meta_count;
} runner_job;

/* --- how it ends ---------------------------------------------------------------------------------------------------- */

typedef enum { RUNNER_OK, RUNNER_RETRY, RUNNER_DISCARD, RUNNER_SNOOZE } runner_end;
typedef struct { runner_end end; runner_text text; bool has_after; uint32_t after_ms; } runner_answer;

runner_answer runner_ok(runner_buffer output);
runner_answer runner_ok_text(runner_text output);
/* Completed, with nothing to say. */
runner_answer runner_nothing(void);
/* Try again, by the retry policy; counts as a failed attempt. */
runner_answer runner_retry(const char *why);
runner_answer runner_retry_after(const char *why, uint32_t ms);
/* Give up for good. */
runner_answer runner_discard(const char *why);
/* Run later, no attempt counted. */
runner_answer runner_snooze(uint32_t ms, const char *why);
/* Ends the run at once, as a bug does; the text is in its log. */
_Noreturn void runner_panic(const char *why);

/* --- args as JSON --------------------------------------------------------------------------------------------------- */

/* Reads fields by their paths, `a.b.c`. What is missing or of another type makes it `failed`, and `answer` a discard that
 * names the first such field; the fields read after it are zero. */
typedef struct { runner_text json; bool failed; runner_answer answer; } runner_args;

runner_args runner_read(const runner_job *job);
/* The same for other JSON; what is wrong with it is said of `what`. */
runner_args runner_read_text(runner_text json, const char *what);
bool runner_has(const runner_args *args, const char *path);
runner_text runner_string(runner_args *args, const char *path);
runner_text runner_string_or(runner_args *args, const char *path, const char *otherwise);
uint32_t runner_u32(runner_args *args, const char *path);
uint32_t runner_u32_or(runner_args *args, const char *path, uint32_t otherwise);
int64_t runner_i64(runner_args *args, const char *path);
double runner_f64(runner_args *args, const char *path);
bool runner_bool_or(runner_args *args, const char *path, bool otherwise);
/* The field's own JSON, byte for byte. */
runner_text runner_raw(runner_args *args, const char *path);

/* --- calls of the runner: what the manifest asks for and the operator grants --------------------------------------------- */

/* A call that was refused or went wrong; nothing was done. `ok` otherwise. A name or key that is no UTF-8 is `invalid`. */
typedef struct { bool ok; runner_text code, message; } runner_result;
/* A retry if the call may go well later (`unavailable`), else a discard. */
runner_answer runner_refused(runner_result result);

typedef enum { RUNNER_TRACE, RUNNER_DEBUG, RUNNER_INFO, RUNNER_WARN, RUNNER_ERROR } runner_level;
void runner_log(runner_level level, runner_text message);
void runner_progress(uint8_t percent, runner_text message);
bool runner_cancelled(void);

/* Staged: recorded with the run's outcome. `options` is a JSON object (`{"queue": "media"}`) or empty. */
runner_result runner_enqueue(const char *kind, runner_text args, runner_text options, runner_text *id);
runner_result runner_checkpoint(runner_text data);
runner_result runner_output_of(runner_text job_id, bool *found, runner_text *output);
runner_result runner_pause_schedule(void);

runner_result runner_kv_get(runner_text key, bool *found, runner_text *value);
runner_result runner_kv_set(runner_text key, runner_text value);
runner_result runner_kv_remove(runner_text key);
/* NULL is absent. */
runner_result runner_kv_compare_and_set(runner_text key, const runner_text *expected, const runner_text *value);
/* `after` may be NULL. */
runner_result runner_kv_keys(runner_text prefix, const runner_text *after, uint32_t limit, const runner_text **keys, size_t *count);

runner_result runner_blob_size(runner_text container, runner_text name, bool *found, uint32_t *size);
/* At most 1 MiB a call. */
runner_result runner_blob_read(runner_text container, runner_text name, uint32_t offset, uint32_t len, runner_text *data);
runner_result runner_blob_begin(runner_text container, runner_text name, uint32_t *writer);
/* At most 1 MiB a call. */
runner_result runner_blob_write(uint32_t writer, runner_text data);
runner_result runner_blob_finish(uint32_t writer);
runner_result runner_blob_remove(runner_text container, runner_text name);
runner_result runner_blob_names(runner_text container, runner_text prefix, const runner_text *after, uint32_t limit,
                                const runner_text **names, size_t *count);

typedef struct { uint16_t status; const runner_pair *headers; size_t header_count; runner_text body; } runner_response;
runner_result runner_http(const char *method, runner_text url, const runner_pair *headers, size_t header_count,
                          runner_text body, runner_response *response);

runner_result runner_config(const char *name, bool *found, runner_text *value);
runner_result runner_secret(const char *name, runner_text *value);

/* What a plugin defines. */
runner_answer runner_handle(const runner_job *job);

#endif
