/* The test handler of the C SDK: does what `do` in its args says; what must come of it stands in ../behaviours.toml. */
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S(literal) ((runner_text){literal, sizeof(literal) - 1})

static void put(runner_buffer *out, const char *before, runner_text text) {
  runner_add(out, before);
  runner_add_string(out, text);
}

static runner_answer refused(runner_result result) {
  runner_buffer out = {0};
  put(&out, "{\"refused\":", result.code);
  runner_add(&out, "}");
  return runner_ok(out);
}

static runner_answer typed(runner_args *args) {
  uint32_t id = runner_u32(args, "user.id");
  runner_text name = runner_string_or(args, "user.name", "");
  if (args->failed) return args->answer;
  runner_buffer out = {0};
  runner_add(&out, "{\"id\":");
  runner_add_u64(&out, id);
  put(&out, ",\"name\":", name);
  runner_add(&out, "}");
  return runner_ok(out);
}

static runner_answer job_shown(const runner_job *job) {
  runner_buffer out = {0};
  put(&out, "{\"id\":", job->id);
  put(&out, ",\"kind\":", job->kind);
  put(&out, ",\"tenant\":", job->tenant);
  put(&out, ",\"queue\":", job->queue);
  runner_add(&out, ",\"run\":");
  runner_add_u64(&out, job->run);
  runner_add(&out, ",\"attempt\":");
  runner_add_u64(&out, job->attempt);
  runner_add(&out, ",\"max_attempts\":");
  runner_add_u64(&out, job->max_attempts);
  runner_add(&out, ",\"tags\":{");
  for (size_t i = 0; i < job->tag_count; i++) {
    put(&out, i ? "," : "", job->tags[i].key);
    put(&out, ":", job->tags[i].value);
  }
  runner_add(&out, "}}");
  return runner_ok(out);
}

static void add_maybe(runner_buffer *out, const char *before, bool is_there, runner_text text) {
  runner_add(out, before);
  if (is_there) runner_add_string(out, text);
  else runner_add(out, "null");
}

static void add_texts(runner_buffer *out, const char *before, const runner_text *texts, size_t count) {
  runner_add(out, before);
  for (size_t i = 0; i < count; i++) put(out, i ? "," : "[", texts[i]);
  runner_add(out, count ? "]" : "[]");
}

/* Whatever is refused here is a bug of the test. */
static void must(runner_result result) {
  if (!result.ok) runner_panic("a call that must go well was refused");
}

static runner_answer durable(void) {
  bool has_a, has_c;
  runner_text a, c;
  const runner_text *keys;
  size_t count;
  must(runner_kv_set(S("k/a"), S("1")));
  must(runner_kv_compare_and_set(S("k/b"), NULL, &S("2")));
  must(runner_kv_set(S("k/c"), S("3")));
  must(runner_kv_remove(S("k/c")));
  must(runner_kv_get(S("k/a"), &has_a, &a));
  must(runner_kv_get(S("k/c"), &has_c, &c));
  must(runner_kv_keys(S("k/"), NULL, 10, &keys, &count));
  runner_buffer out = {0};
  add_maybe(&out, "{\"got\":", has_a, a);
  add_maybe(&out, ",\"absent\":", has_c, c);
  add_texts(&out, ",\"keys\":", keys, count);
  runner_add(&out, "}");
  return runner_ok(out);
}

static runner_answer stored(void) {
  uint32_t writer, size, gone_size;
  bool is_there, gone;
  runner_text data;
  const runner_text *names;
  size_t count;
  must(runner_blob_begin(S("box"), S("d/one"), &writer));
  must(runner_blob_write(writer, S("hello")));
  must(runner_blob_write(writer, S("world")));
  must(runner_blob_finish(writer));
  must(runner_blob_begin(S("box"), S("d/two"), &writer));
  must(runner_blob_finish(writer));
  must(runner_blob_remove(S("box"), S("d/two")));
  must(runner_blob_size(S("box"), S("d/one"), &is_there, &size));
  must(runner_blob_read(S("box"), S("d/one"), 0, 5, &data));
  must(runner_blob_names(S("box"), S("d/"), NULL, 10, &names, &count));
  must(runner_blob_size(S("box"), S("d/two"), &gone, &gone_size));
  runner_buffer out = {0};
  runner_add(&out, "{\"size\":");
  runner_add_u64(&out, size);
  put(&out, ",\"read\":", data);
  add_texts(&out, ",\"names\":", names, count);
  runner_add(&out, gone ? ",\"gone\":0}" : ",\"gone\":null}");
  return runner_ok(out);
}

static runner_answer configured(void) {
  bool has_greeting, has_unset;
  runner_text greeting, unset, secret;
  must(runner_config("GREETING", &has_greeting, &greeting));
  must(runner_config("UNSET", &has_unset, &unset));
  must(runner_secret("PASSWORD", &secret));
  runner_buffer out = {0};
  add_maybe(&out, "{\"greeting\":", has_greeting, greeting);
  add_maybe(&out, ",\"unset\":", has_unset, unset);
  put(&out, ",\"secret\":", secret);
  runner_add(&out, "}");
  return runner_ok(out);
}

static runner_answer fetched(runner_text url) {
  runner_response response;
  runner_result result = runner_http("POST", url, NULL, 0, S("ping"), &response);
  if (!result.ok) return refused(result);
  runner_buffer out = {0};
  runner_add(&out, "{\"status\":");
  runner_add_u64(&out, response.status);
  put(&out, ",\"body\":", response.body);
  runner_add(&out, "}");
  return runner_ok(out);
}

static runner_answer enqueued(runner_args *args) {
  runner_buffer kind = {0};
  runner_add_text(&kind, runner_string(args, "kind"));
  runner_add_text(&kind, (runner_text){"", 1});
  runner_text id;
  runner_result result = runner_enqueue(kind.at, S("{\"n\":1}"), S("{\"queue\":\"children\"}"), &id);
  if (!result.ok) return refused(result);
  runner_buffer out = {0};
  put(&out, "{\"id\":", id);
  runner_add(&out, "}");
  return runner_ok(out);
}

static void logged(void) {
  runner_log(RUNNER_TRACE, S("a trace"));
  runner_log(RUNNER_DEBUG, S("a debug"));
  runner_log(RUNNER_INFO, S("an info ✓"));
  runner_log(RUNNER_WARN, S("a warn"));
  runner_log(RUNNER_ERROR, S("an error"));
}

/* An error of C is a value: whoever does not want to handle it returns it. */
static runner_answer ordinary(void) { return fopen("/nowhere", "r") ? runner_nothing() : runner_retry("an ordinary error"); }

static volatile char *last;
static runner_answer hog(void) {
  for (;;) {
    char *taken = runner_alloc(1 << 20);
    memset(taken, 1, 1 << 20);
    last = taken;
  }
}

static volatile uint32_t turns;
static runner_answer spin(void) {
  for (;;) turns++;
}

runner_answer runner_handle(const runner_job *job) {
  runner_args args = runner_read(job);
  runner_text ask = runner_string(&args, "do");
  if (args.failed) return args.answer;
  if (runner_is(ask, "echo")) return runner_ok_text(runner_raw(&args, "value"));
  if (runner_is(ask, "nothing")) return runner_nothing();
  if (runner_is(ask, "retry") && !runner_has(&args, "after_ms")) return runner_retry("not now");
  if (runner_is(ask, "retry")) return runner_retry_after("not now", runner_u32(&args, "after_ms"));
  if (runner_is(ask, "discard")) return runner_discard("never");
  if (runner_is(ask, "snooze")) return runner_snooze(runner_u32(&args, "after_ms"), "too early");
  if (runner_is(ask, "error")) return ordinary();
  if (runner_is(ask, "panic")) runner_panic("on purpose");
  if (runner_is(ask, "typed")) return typed(&args);
  if (runner_is(ask, "job")) return job_shown(job);
  if (runner_is(ask, "print")) return puts("printed ✓") < 0 ? runner_retry("stdout is closed") : runner_nothing();
  if (runner_is(ask, "log")) return logged(), runner_nothing();
  if (runner_is(ask, "enqueue")) return enqueued(&args);
  if (runner_is(ask, "progress")) return runner_progress(40, S("half ½")), runner_nothing();
  if (runner_is(ask, "checkpoint")) return must(runner_checkpoint(S("page 7"))), runner_nothing();
  if (runner_is(ask, "cancelled")) return runner_ok_text(runner_cancelled() ? S("true") : S("false"));
  if (runner_is(ask, "kv")) return durable();
  if (runner_is(ask, "blobs")) return stored();
  if (runner_is(ask, "config")) return configured();
  if (runner_is(ask, "http")) return fetched(runner_string(&args, "url"));
  if (runner_is(ask, "spin")) return spin();
  if (runner_is(ask, "hog")) return hog();
  if (runner_is(ask, "resume")) {
    runner_buffer out = {0};
    add_maybe(&out, "", job->has_checkpoint, job->checkpoint);
    return runner_ok(out);
  }
  if (runner_is(ask, "blobs_denied")) {
    bool is_there;
    uint32_t size;
    return refused(runner_blob_size(S("other"), S("x"), &is_there, &size));
  }
  return runner_discard("args do not fit: `do` is unknown");
}
