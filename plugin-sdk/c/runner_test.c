/* The calls of `runner.h` natively: a table of values in memory. What lies there stays until `runner_test_reset`. */
#include "runner_test.h"

#include <string.h>

void runner_release(void);
runner_text runner_utf8(runner_text text);
bool runner_takes(const char *what, runner_text text, runner_result *refused);

enum { VALUES_MAX = 256, WRITERS_MAX = 16 };
static struct { char space[160], name[300]; runner_text value; bool is_there; } values[VALUES_MAX];
static struct { char space[160], name[300]; runner_buffer data; bool is_open; } writers[WRITERS_MAX];
int runner_test_failures;
runner_buffer runner_test_log, runner_test_enqueued;
runner_text runner_test_checkpoint, runner_test_progress;
uint8_t runner_test_percent;
runner_job runner_test_job;

void runner_test_reset(void) {
  memset(values, 0, sizeof values);
  memset(writers, 0, sizeof writers);
  runner_test_log = runner_test_enqueued = (runner_buffer){0};
  runner_test_checkpoint = runner_test_progress = (runner_text){NULL, 0};
  runner_test_percent = 0;
  runner_test_job = (runner_job){.id = runner_t("1"), .tenant = runner_t("default"), .queue = runner_t("default"),
                                 .run = 1, .attempt = 1, .max_attempts = 25, .timeout_ms = 60000};
  runner_release();
}

runner_answer runner_test_run(const char *kind, const char *args) {
  runner_test_job.kind = runner_t(kind);
  runner_test_job.args = runner_t(args);
  return runner_handle(&runner_test_job);
}

static const char *c_string(runner_text text) {
  char *made = runner_alloc(text.len + 1);
  memcpy(made, text.at, text.len);
  made[text.len] = 0;
  return made;
}

static int find(const char *space, const char *name) {
  for (int i = 0; i < VALUES_MAX; i++) {
    if (values[i].is_there && strcmp(values[i].space, space) == 0 && strcmp(values[i].name, name) == 0) return i;
  }
  return -1;
}

void runner_test_put(const char *space, const char *name, runner_text value) {
  int at = find(space, name);
  for (int i = 0; at < 0 && i < VALUES_MAX; i++) {
    if (!values[i].is_there) at = i;
  }
  if (at < 0) runner_panic("the test puts more values than there is room for");
  snprintf(values[at].space, sizeof values[at].space, "%s", space);
  snprintf(values[at].name, sizeof values[at].name, "%s", name);
  values[at].value = (runner_text){c_string(value), value.len};
  values[at].is_there = true;
}

runner_text runner_test_get(const char *space, const char *name) {
  int at = find(space, name);
  return at < 0 ? (runner_text){NULL, 0} : values[at].value;
}

static const runner_result went_well = {.ok = true, .code = {"", 0}, .message = {"", 0}};

static runner_result refuse(const char *code, const char *message) {
  return (runner_result){.ok = false, .code = runner_t(code), .message = runner_t(message)};
}

static runner_result lookup(const char *what, const char *space, runner_text name, bool *found, runner_text *value) {
  runner_result refused;
  bool takes = runner_takes(what, name, &refused);
  *value = takes ? runner_test_get(space, c_string(name)) : (runner_text){NULL, 0};
  *found = value->at != NULL;
  return takes ? went_well : refused;
}

static runner_result forget(const char *what, const char *space, runner_text name) {
  runner_result refused;
  if (!runner_takes(what, name, &refused)) return refused;
  int at = find(space, c_string(name));
  if (at >= 0) values[at].is_there = false;
  return went_well;
}

/* Names of a space in ascending order: the smallest that is larger than the last, again and again. */
static runner_result names_of(const char *space, runner_text prefix, const runner_text *after, uint32_t limit,
                              const runner_text **names, size_t *count) {
  runner_result refused;
  *names = NULL;
  *count = 0;
  if (!runner_takes("prefix", prefix, &refused)) return refused;
  if (after != NULL && !runner_takes("name to go on after", *after, &refused)) return refused;
  runner_text *all = runner_alloc(sizeof(runner_text) * VALUES_MAX);
  const char *last = after ? c_string(*after) : "";
  for (*count = 0; *count < limit; (*count)++) {
    const char *next = NULL;
    for (int i = 0; i < VALUES_MAX; i++) {
      const char *name = values[i].name;
      if (!values[i].is_there || strcmp(values[i].space, space) != 0 || strncmp(name, c_string(prefix), prefix.len) != 0) continue;
      if (strcmp(name, last) > 0 && (next == NULL || strcmp(name, next) < 0)) next = name;
    }
    if (next == NULL) break;
    last = next;
    all[*count] = runner_t(next);
  }
  *names = all;
  return went_well;
}

static const char *blobs_of(runner_text container) {
  runner_buffer space = {0};
  runner_add(&space, "blobs/");
  runner_add_text(&space, container);
  return c_string(runner_text_of(space));
}

static runner_result container_is_there(runner_text container) {
  runner_result refused;
  if (!runner_takes("container", container, &refused)) return refused;
  for (int i = 0; i < VALUES_MAX; i++) {
    if (strcmp(values[i].space, blobs_of(container)) == 0) return went_well;
  }
  return refuse("denied", "nothing was put into this container");
}

void runner_log(runner_level level, runner_text message) {
  static const char *const levels[] = {"trace: ", "debug: ", "info: ", "warn: ", "error: "};
  runner_add(&runner_test_log, levels[level]);
  runner_add_text(&runner_test_log, runner_utf8(message));
  runner_add(&runner_test_log, "\n");
}

void runner_progress(uint8_t percent, runner_text message) {
  runner_test_percent = percent;
  runner_test_progress = runner_utf8(message);
}

bool runner_cancelled(void) { return false; }

runner_result runner_enqueue(const char *kind, runner_text args, runner_text options, runner_text *id) {
  runner_result refused;
  if (id != NULL) *id = (runner_text){"", 0};
  if (!runner_takes("kind of the new job", runner_t(kind), &refused)) return refused;
  if (!runner_takes("options of the new job", options, &refused)) return refused;
  runner_add(&runner_test_enqueued, kind);
  runner_add(&runner_test_enqueued, " ");
  runner_add_text(&runner_test_enqueued, args);
  runner_add(&runner_test_enqueued, " ");
  runner_add_text(&runner_test_enqueued, options);
  runner_add(&runner_test_enqueued, "\n");
  if (id != NULL) *id = runner_t("101");
  return went_well;
}

runner_result runner_checkpoint(runner_text data) {
  runner_test_checkpoint = data;
  return went_well;
}

runner_result runner_output_of(runner_text job_id, bool *found, runner_text *output) {
  return lookup("job's id", "output", job_id, found, output);
}

runner_result runner_pause_schedule(void) { return refuse("not_found", "no schedule made this job"); }

runner_result runner_kv_get(runner_text key, bool *found, runner_text *value) {
  return lookup("key", "kv", key, found, value);
}

runner_result runner_kv_remove(runner_text key) { return forget("key", "kv", key); }

runner_result runner_kv_set(runner_text key, runner_text value) {
  runner_result refused;
  if (!runner_takes("key", key, &refused)) return refused;
  runner_test_put("kv", c_string(key), value);
  return went_well;
}

runner_result runner_kv_compare_and_set(runner_text key, const runner_text *expected, const runner_text *value) {
  (void)expected;
  return value ? runner_kv_set(key, *value) : runner_kv_remove(key);
}

runner_result runner_kv_keys(runner_text prefix, const runner_text *after, uint32_t limit, const runner_text **keys, size_t *count) {
  return names_of("kv", prefix, after, limit, keys, count);
}

runner_result runner_blob_size(runner_text container, runner_text name, bool *found, uint32_t *size) {
  runner_text data;
  runner_result result = container_is_there(container);
  runner_result named = lookup("blob's name", blobs_of(container), name, found, &data);
  *size = (uint32_t)data.len;
  return result.ok ? named : result;
}

runner_result runner_blob_read(runner_text container, runner_text name, uint32_t offset, uint32_t len, runner_text *data) {
  bool found;
  runner_result named = lookup("blob's name", blobs_of(container), name, &found, data);
  if (!named.ok) return named;
  if (!found) return refuse("not_found", "there is no such blob");
  size_t from = offset < data->len ? offset : data->len, rest = data->len - from;
  *data = (runner_text){data->at + from, rest < len ? rest : len};
  return went_well;
}

runner_result runner_blob_begin(runner_text container, runner_text name, uint32_t *writer) {
  runner_result result = container_is_there(container);
  if (result.ok && !runner_takes("blob's name", name, &result)) return result;
  for (uint32_t i = 0; result.ok && i < WRITERS_MAX; i++) {
    if (writers[i].is_open) continue;
    snprintf(writers[i].space, sizeof writers[i].space, "%s", blobs_of(container));
    snprintf(writers[i].name, sizeof writers[i].name, "%s", c_string(name));
    writers[i].data = (runner_buffer){0};
    writers[i].is_open = true;
    *writer = i;
    return result;
  }
  return result.ok ? refuse("limit", "too many blobs are being written") : result;
}

runner_result runner_blob_write(uint32_t writer, runner_text data) {
  if (writer >= WRITERS_MAX || !writers[writer].is_open) return refuse("invalid", "no such writer");
  runner_add_text(&writers[writer].data, data);
  return went_well;
}

runner_result runner_blob_finish(uint32_t writer) {
  if (writer >= WRITERS_MAX || !writers[writer].is_open) return refuse("invalid", "no such writer");
  runner_test_put(writers[writer].space, writers[writer].name, runner_text_of(writers[writer].data));
  writers[writer].is_open = false;
  return went_well;
}

runner_result runner_blob_remove(runner_text container, runner_text name) {
  return forget("blob's name", blobs_of(container), name);
}

runner_result runner_blob_names(runner_text container, runner_text prefix, const runner_text *after, uint32_t limit,
                                const runner_text **names, size_t *count) {
  runner_result result = container_is_there(container);
  runner_result named = names_of(blobs_of(container), prefix, after, limit, names, count);
  return result.ok ? named : result;
}

runner_result runner_http(const char *method, runner_text url, const runner_pair *headers, size_t header_count, runner_text body,
                          runner_response *response) {
  (void)method, (void)url, (void)headers, (void)header_count, (void)body;
  memset(response, 0, sizeof *response);
  return refuse("denied", "tests send nothing");
}

runner_result runner_config(const char *name, bool *found, runner_text *value) {
  return lookup("setting's name", "config", runner_t(name), found, value);
}

runner_result runner_secret(const char *name, runner_text *value) {
  bool found;
  runner_result named = lookup("secret's name", "secret", runner_t(name), &found, value);
  if (!named.ok) return named;
  return found ? went_well : refuse("denied", "nobody put this secret");
}
