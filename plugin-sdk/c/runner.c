/* What needs no host: memory, buffers, answers, and JSON. For the plugin and for native tests alike. */
#include "runner.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

/* --- memory: a list of blocks, let go of together ---------------------------------------------------------------------- */

typedef struct block { _Alignas(16) struct block *next; } block;
static block *blocks;

void *runner_alloc(size_t bytes) {
  block *made = malloc(sizeof(block) + bytes);
  if (made == NULL) abort();
  made->next = blocks;
  blocks = made;
  return made + 1;
}

/* Called when the run has ended; a kept instance begins its next one empty. */
void runner_release(void);
void runner_release(void) {
  while (blocks != NULL) {
    block *next = blocks->next;
    free(blocks);
    blocks = next;
  }
}

/* --- text and buffers --------------------------------------------------------------------------------------------------- */

runner_text runner_t(const char *text) { return (runner_text){text, strlen(text)}; }

bool runner_is(runner_text text, const char *other) {
  return text.len == strlen(other) && memcmp(text.at, other, text.len) == 0;
}

runner_text runner_text_of(runner_buffer buffer) { return (runner_text){buffer.at, buffer.len}; }

void runner_add_text(runner_buffer *buffer, runner_text text) {
  if (text.len == 0) return;
  if (buffer->len + text.len > buffer->room) {
    size_t room = buffer->room * 2 + text.len + 64;
    char *at = runner_alloc(room);
    if (buffer->len > 0) memcpy(at, buffer->at, buffer->len);
    buffer->at = at;
    buffer->room = room;
  }
  memcpy(buffer->at + buffer->len, text.at, text.len);
  buffer->len += text.len;
}

void runner_add(runner_buffer *buffer, const char *text) { runner_add_text(buffer, runner_t(text)); }

void runner_add_u64(runner_buffer *buffer, uint64_t number) {
  char digits[20];
  size_t at = sizeof digits;
  do digits[--at] = (char)('0' + number % 10); while ((number /= 10) > 0);
  runner_add_text(buffer, (runner_text){digits + at, sizeof digits - at});
}

void runner_add_i64(runner_buffer *buffer, int64_t number) {
  if (number < 0) runner_add(buffer, "-");
  runner_add_u64(buffer, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

void runner_add_string(runner_buffer *buffer, runner_text text) {
  static const char hex[] = "0123456789abcdef";
  runner_add(buffer, "\"");
  size_t plain = 0;
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.at[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    runner_add_text(buffer, (runner_text){text.at + plain, i - plain});
    char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    if (c == '"' || c == '\\') {
      escaped[1] = (char)c;
      runner_add_text(buffer, (runner_text){escaped, 2});
    } else {
      runner_add_text(buffer, (runner_text){escaped, 6});
    }
    plain = i + 1;
  }
  runner_add_text(buffer, (runner_text){text.at + plain, text.len - plain});
  runner_add(buffer, "\"");
}

/* Behind the character that begins at `at`, or NULL if it is no UTF-8: too short, too long, a surrogate, or beyond U+10FFFF. */
static const char *past_character(const char *at, const char *end) {
  unsigned char first = (unsigned char)*at++;
  if (first < 0x80) return at;
  int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  if (first < 0xc2 || first > 0xf4 || end - at < more) return NULL;
  unsigned char second = (unsigned char)*at;
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
      (first == 0xf4 && second > 0x8f)) {
    return NULL;
  }
  for (; more > 0; more--) {
    if (((unsigned char)*at++ & 0xc0) != 0x80) return NULL;
  }
  return at;
}

/* How many bytes of it are UTF-8, from its beginning. */
static size_t plain(runner_text text) {
  const char *at = text.at, *end = text.at + text.len;
  while (at < end) {
    const char *past = past_character(at, end);
    if (past == NULL) break;
    at = past;
  }
  return (size_t)(at - text.at);
}

/* What the contract calls a string: other bytes would end the run as a trap, so each becomes U+FFFD. */
runner_text runner_utf8(runner_text text);
runner_text runner_utf8(runner_text text) {
  if (text.len == 0 || plain(text) == text.len) return text;
  runner_buffer made = {0};
  while (text.len > 0) {
    size_t fits = plain(text);
    runner_add_text(&made, (runner_text){text.at, fits});
    text = (runner_text){text.at + fits, text.len - fits};
    if (text.len == 0) break;
    runner_add(&made, "\xef\xbf\xbd");
    text = (runner_text){text.at + 1, text.len - 1};
  }
  return runner_text_of(made);
}

/* Whether a call can take it as text. Bytes that are none would end the run as a trap, so they are refused as the runner refuses what
 * it cannot take; `what` says which of the call's texts it is. */
bool runner_takes(const char *what, runner_text text, runner_result *refused);
bool runner_takes(const char *what, runner_text text, runner_result *refused) {
  enum { SHOWN_MAX = 60 };
  if (text.len == 0 || plain(text) == text.len) return true;
  runner_buffer why = {0};
  runner_add(&why, "the ");
  runner_add(&why, what);
  runner_add(&why, " is no UTF-8 text: ");
  runner_add_text(&why, runner_utf8((runner_text){text.at, text.len < SHOWN_MAX ? text.len : SHOWN_MAX}));
  *refused = (runner_result){.ok = false, .code = runner_t("invalid"), .message = runner_text_of(why)};
  return false;
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

runner_answer runner_ok_text(runner_text output) { return (runner_answer){.end = RUNNER_OK, .text = output}; }
runner_answer runner_ok(runner_buffer output) { return runner_ok_text(runner_text_of(output)); }
runner_answer runner_nothing(void) { return runner_ok_text((runner_text){"", 0}); }
runner_answer runner_retry(const char *why) { return (runner_answer){.end = RUNNER_RETRY, .text = runner_t(why)}; }
runner_answer runner_discard(const char *why) { return (runner_answer){.end = RUNNER_DISCARD, .text = runner_t(why)}; }

runner_answer runner_retry_after(const char *why, uint32_t ms) {
  return (runner_answer){.end = RUNNER_RETRY, .text = runner_t(why), .has_after = true, .after_ms = ms};
}

runner_answer runner_snooze(uint32_t ms, const char *why) {
  return (runner_answer){.end = RUNNER_SNOOZE, .text = why ? runner_t(why) : (runner_text){"", 0}, .after_ms = ms};
}

runner_answer runner_refused(runner_result result) {
  runner_buffer why = {0};
  runner_add_text(&why, result.message);
  runner_add(&why, " (");
  runner_add_text(&why, result.code);
  runner_add(&why, ")");
  bool for_good = runner_is(result.code, "denied") || runner_is(result.code, "invalid") ||
                  runner_is(result.code, "not_found") || runner_is(result.code, "limit");
  return (runner_answer){.end = for_good ? RUNNER_DISCARD : RUNNER_RETRY, .text = runner_text_of(why)};
}

void runner_panic(const char *why) {
  runner_log(RUNNER_ERROR, runner_t(why));
  abort();
}

/* --- JSON: checked once, then read by path ---------------------------------------------------------------------------------- */

enum { DEPTH_MAX = 128 }; /* Nested deeper than any args; the stack holds it. */

static const char *space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
  return at;
}

/* Behind the string that begins at `at`, or NULL. */
static const char *past_string(const char *at, const char *end) {
  if (at == end || *at != '"') return NULL;
  for (at++; at < end; at++) {
    if (*at == '"') return at + 1;
    if ((unsigned char)*at < 0x20) return NULL;
    if (*at != '\\') continue;
    if (++at == end || *at == 0 || strchr("\"\\/bfnrtu", *at) == NULL) return NULL;
    if (*at != 'u') continue;
    for (int digit = 0; digit < 4; digit++) {
      if (++at >= end || *at == 0 || strchr("0123456789abcdefABCDEF", *at) == NULL) return NULL;
    }
  }
  return NULL;
}

static const char *digits(const char *at, const char *end) {
  const char *from = at;
  while (at < end && *at >= '0' && *at <= '9') at++;
  return at == from ? NULL : at;
}

static const char *past_number(const char *at, const char *end) {
  if (at < end && *at == '-') at++;
  bool zero = at < end && *at == '0';
  at = zero ? at + 1 : digits(at, end);
  if (at != NULL && at < end && *at == '.') at = digits(at + 1, end);
  if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    at = digits(at, end);
  }
  return at;
}

static const char *past_word(const char *at, const char *end, const char *word) {
  size_t len = strlen(word);
  return (size_t)(end - at) >= len && memcmp(at, word, len) == 0 ? at + len : NULL;
}

/* Behind the value that begins at `at`, or NULL. */
static const char *past_value(const char *at, const char *end, int depth) {
  at = space(at, end);
  if (at == end || depth > DEPTH_MAX) return NULL;
  switch (*at) {
    case '"': return past_string(at, end);
    case 't': return past_word(at, end, "true");
    case 'f': return past_word(at, end, "false");
    case 'n': return past_word(at, end, "null");
    case '{': case '[': break;
    default: return past_number(at, end);
  }
  bool object = *at == '{';
  char close = object ? '}' : ']';
  at = space(at + 1, end);
  if (at < end && *at == close) return at + 1;
  for (;;) {
    if (object) {
      at = past_string(space(at, end), end);
      if (at == NULL) return NULL;
      at = space(at, end);
      if (at == end || *at++ != ':') return NULL;
    }
    at = past_value(at, end, depth + 1);
    if (at == NULL) return NULL;
    at = space(at, end);
    if (at == end) return NULL;
    if (*at == close) return at + 1;
    if (*at++ != ',') return NULL;
  }
}

static runner_text trimmed(const char *at, const char *end) {
  at = space(at, end);
  return (runner_text){at, (size_t)(past_value(at, end, 0) - at)};
}

/* A member of an object, in JSON that is right; `at` is NULL if there is none. */
static runner_text member(runner_text json, const char *name, size_t len) {
  const char *at = json.at, *end = json.at + json.len;
  runner_text none = {NULL, 0};
  if (json.len == 0 || *at != '{') return none;
  at = space(at + 1, end);
  while (at < end && *at == '"') {
    const char *key = at + 1;
    at = past_string(at, end);
    bool same = (size_t)(at - 1 - key) == len && memcmp(key, name, len) == 0;
    at = space(at, end) + 1;
    runner_text value = trimmed(at, end);
    if (same) return value;
    at = space(value.at + value.len, end);
    if (at < end && *at == ',') at = space(at + 1, end);
  }
  return none;
}

static runner_text find(runner_text json, const char *path) {
  while (json.at != NULL && *path != 0) {
    const char *dot = strchr(path, '.');
    size_t len = dot ? (size_t)(dot - path) : strlen(path);
    json = member(json, path, len);
    path += dot ? len + 1 : len;
  }
  return json;
}

static void misfit(runner_args *args, const char *path, const char *why, runner_text found) {
  if (args->failed) return;
  runner_buffer text = {0};
  runner_add(&text, "args do not fit: `");
  runner_add(&text, path);
  runner_add(&text, "`: ");
  runner_add(&text, why);
  if (found.at != NULL) {
    enum { SHOWN_MAX = 60 };
    size_t shown = found.len < SHOWN_MAX ? found.len : SHOWN_MAX;
    /* Half a character would be no text. */
    while (shown < found.len && ((unsigned char)found.at[shown] & 0xc0) == 0x80) shown--;
    runner_add(&text, ", not ");
    runner_add_text(&text, (runner_text){found.at, shown});
  }
  args->failed = true;
  args->answer = (runner_answer){.end = RUNNER_DISCARD, .text = runner_text_of(text)};
}

runner_args runner_read_text(runner_text json, const char *what) {
  const char *end = json.at + json.len, *past = plain(json) == json.len ? past_value(json.at, end, 0) : NULL;
  if (past != NULL && space(past, end) == end) return (runner_args){.json = trimmed(json.at, end)};
  runner_buffer why = {0};
  runner_add(&why, what);
  runner_add(&why, " are not JSON");
  return (runner_args){.failed = true, .answer = {.end = RUNNER_DISCARD, .text = runner_text_of(why)}};
}

runner_args runner_read(const runner_job *job) { return runner_read_text(job->args, "args"); }

/* A field of this first byte, or a misfit. */
static runner_text wanted(runner_args *args, const char *path, const char *first, const char *what) {
  runner_text none = {NULL, 0}, found = args->failed ? none : find(args->json, path);
  if (args->failed) return none;
  if (found.at == NULL) {
    misfit(args, path, "it is missing", none);
  } else if (strchr(first, *found.at) == NULL) {
    misfit(args, path, what, found);
    return none;
  }
  return found;
}

bool runner_has(const runner_args *args, const char *path) {
  runner_text found = args->failed ? (runner_text){NULL, 0} : find(args->json, path);
  return found.at != NULL && *found.at != 'n';
}

runner_text runner_raw(runner_args *args, const char *path) {
  return wanted(args, path, "\"{[tfn-0123456789", "must be JSON");
}

static uint32_t hex4(const char *at) {
  uint32_t code = 0;
  for (int i = 0; i < 4; i++) {
    char c = at[i];
    code = code * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return code;
}

static char *put_utf8(char *to, uint32_t code) {
  if (code < 0x80) {
    *to++ = (char)code;
  } else if (code < 0x800) {
    *to++ = (char)(0xc0 | code >> 6);
    *to++ = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *to++ = (char)(0xe0 | code >> 12);
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  } else {
    *to++ = (char)(0xf0 | code >> 18);
    *to++ = (char)(0x80 | (code >> 12 & 0x3f));
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  }
  return to;
}

/* One escape behind its backslash; a half of a surrogate pair alone becomes U+FFFD. */
static const char *unescape(const char *at, const char *end, char **to) {
  static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
  const char *known = strchr(from, *at);
  if (*at != 'u') {
    *(*to)++ = known ? into[known - from] : *at;
    return at + 1;
  }
  uint32_t code = hex4(at + 1);
  at += 5;
  if (code >= 0xd800 && code < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
    uint32_t low = hex4(at + 2);
    if (low >= 0xdc00 && low < 0xe000) {
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      at += 6;
    }
  }
  *to = put_utf8(*to, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
  return at;
}

runner_text runner_string(runner_args *args, const char *path) {
  runner_text found = wanted(args, path, "\"", "must be a string");
  if (found.at == NULL) return (runner_text){"", 0};
  const char *at = found.at + 1, *end = found.at + found.len - 1;
  if (memchr(at, '\\', (size_t)(end - at)) == NULL) return (runner_text){at, (size_t)(end - at)};
  char *text = runner_alloc((size_t)(end - at)), *to = text;
  while (at < end) {
    if (*at == '\\') at = unescape(at + 1, end, &to);
    else *to++ = *at++;
  }
  return (runner_text){text, (size_t)(to - text)};
}

runner_text runner_string_or(runner_args *args, const char *path, const char *otherwise) {
  return runner_has(args, path) ? runner_string(args, path) : runner_t(otherwise);
}

int64_t runner_i64(runner_args *args, const char *path) {
  runner_text found = wanted(args, path, "-0123456789", "must be an integer");
  if (found.at == NULL) return 0;
  bool negative = *found.at == '-';
  uint64_t value = 0, most = (uint64_t)INT64_MAX + negative;
  for (size_t i = negative; i < found.len; i++) {
    unsigned digit = (unsigned)(found.at[i] - '0');
    if (digit > 9 || value > (most - digit) / 10) {
      misfit(args, path, "must be an integer of 64 bits", found);
      return 0;
    }
    value = value * 10 + digit;
  }
  return negative ? (int64_t)(0 - value) : (int64_t)value;
}

uint32_t runner_u32(runner_args *args, const char *path) {
  int64_t value = runner_i64(args, path);
  if (value < 0 || value > UINT32_MAX) misfit(args, path, "must be from 0 to 4294967295", find(args->json, path));
  return args->failed ? 0 : (uint32_t)value;
}

uint32_t runner_u32_or(runner_args *args, const char *path, uint32_t otherwise) {
  return runner_has(args, path) ? runner_u32(args, path) : otherwise;
}

double runner_f64(runner_args *args, const char *path) {
  runner_text found = wanted(args, path, "-0123456789", "must be a number");
  if (found.at == NULL) return 0;
  char *text = runner_alloc(found.len + 1);
  memcpy(text, found.at, found.len);
  text[found.len] = 0;
  double value = strtod(text, NULL);
  if (value < -DBL_MAX || value > DBL_MAX) misfit(args, path, "must be a number that a double holds", found);
  return args->failed ? 0 : value;
}

bool runner_bool_or(runner_args *args, const char *path, bool otherwise) {
  if (!runner_has(args, path)) return otherwise;
  runner_text found = wanted(args, path, "tf", "must be true or false");
  return found.at != NULL && *found.at == 't';
}
