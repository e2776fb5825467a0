/* Tests of `runner.c` natively, each with what went wrong once. `plugins/test` compiles and runs it. */
#include "runner_test.h"

#include <string.h>

runner_text runner_utf8(runner_text text);

static runner_answer (*act)(runner_args *args);

runner_answer runner_handle(const runner_job *job) {
  runner_args args = runner_read(job);
  return args.failed ? args.answer : act(&args);
}

static runner_answer text(runner_args *args) {
  runner_text found = runner_string(args, "a");
  return args->failed ? args->answer : runner_ok_text(found);
}

static runner_answer integer(runner_args *args) {
  runner_buffer out = {0};
  runner_add_i64(&out, runner_i64(args, "a"));
  return args->failed ? args->answer : runner_ok(out);
}

static runner_answer small(runner_args *args) {
  runner_buffer out = {0};
  runner_add_u64(&out, runner_u32(args, "a"));
  return args->failed ? args->answer : runner_ok(out);
}

static runner_answer number(runner_args *args) {
  double value = runner_f64(args, "a");
  return args->failed ? args->answer : value == 0 ? runner_ok_text(runner_t("zero")) : runner_ok_text(runner_t("some"));
}

static bool says(runner_answer (*how)(runner_args *), const char *args, runner_end end, const char *words) {
  act = how;
  runner_answer answer = runner_test_run("a.b", args);
  bool does = answer.end == end && runner_is(answer.text, words);
  if (!does) fprintf(stderr, "%s: %d, %.*s\n", args, (int)answer.end, (int)answer.text.len, answer.text.at);
  return does;
}

/* What was found was cut at 60 bytes, also in the midst of a character: the reason was no text, and the discard became a trap
 * that is tried again and again. */
static void a_misfit_shows_whole_characters(void) {
  RUNNER_EXPECT(says(text, "{\"a\": [\"ääääääääääääääääääääääääääääääää\"]}", RUNNER_DISCARD,
                     "args do not fit: `a`: must be a string, not [\"äääääääääääääääääääääääääääää"));
  RUNNER_EXPECT(says(text, "{\"a\": [\"xääääääääääääääääääääääääääääääää\"]}", RUNNER_DISCARD,
                     "args do not fit: `a`: must be a string, not [\"xääääääääääääääääääääääääääää"));
}

/* Args that are no UTF-8 were taken for JSON, and their bytes ended the run in the first call that took them as text. */
static void args_are_text(void) {
  for (const char **wrong = (const char *[]){"{\"a\": \"\xff\"}", "{\"a\": \"\xc3\"}", "{\"a\": \"\xed\xa0\x80\"}",
                                            "{\"a\": \"\xc0\x80\"}", "{\"a\": \"\xf4\x90\x80\x80\"}", NULL};
       *wrong != NULL; wrong++) {
    RUNNER_EXPECT(says(text, *wrong, RUNNER_DISCARD, "args are not JSON"));
  }
  RUNNER_EXPECT(says(text, "{\"a\": \"ä漢🦀\\ud800\"}", RUNNER_OK, "ä漢🦀\xef\xbf\xbd"));
  /* A backslash before a zero byte was an escape: `strchr` finds the zero at the end of its list. */
  act = text;
  runner_test_job.args = (runner_text){"{\"a\": \"\\\0\"}", 11};
  RUNNER_EXPECT(runner_handle(&runner_test_job).end == RUNNER_DISCARD);
}

/* A handler may say anything, also bytes that it read somewhere; as a log line or a reason they ended the run as a trap. */
static void what_is_said_becomes_text(void) {
  RUNNER_EXPECT(runner_is(runner_utf8(runner_t("bad \xff\xfe, ä")), "bad \xef\xbf\xbd\xef\xbf\xbd, ä"));
  RUNNER_EXPECT(runner_is(runner_utf8(runner_t("cut \xe6\xbc")), "cut \xef\xbf\xbd\xef\xbf\xbd"));
  runner_text right = runner_t("ä漢🦀");
  RUNNER_EXPECT(runner_utf8(right).at == right.at);
  RUNNER_EXPECT(runner_utf8((runner_text){NULL, 0}).len == 0);
}

static bool refused_as(const char *what, runner_result result) {
  runner_buffer why = {0};
  runner_add(&why, "the ");
  runner_add(&why, what);
  runner_add(&why, " is no UTF-8 text: a\xef\xbf\xbd");
  runner_text message = runner_text_of(why);
  return !result.ok && runner_is(result.code, "invalid") && result.message.len == message.len &&
         memcmp(result.message.at, message.at, message.len) == 0;
}

/* A key read from somewhere that was no UTF-8 ended the run as a trap in the runner's words, and was tried again and again. */
static void a_name_that_is_no_text_is_refused(void) {
  const char *bad_c = "a\xff";
  runner_text bad = runner_t(bad_c), empty = {"", 0}, box = runner_t("box"), value;
  const runner_text *all;
  bool found;
  uint32_t number;
  size_t count;
  runner_test_put("blobs/box", "b", runner_t("1"));
  RUNNER_EXPECT(refused_as("key", runner_kv_get(bad, &found, &value)) && !found);
  RUNNER_EXPECT(refused_as("key", runner_kv_set(bad, empty)));
  RUNNER_EXPECT(refused_as("key", runner_kv_remove(bad)));
  RUNNER_EXPECT(refused_as("key", runner_kv_compare_and_set(bad, NULL, NULL)));
  RUNNER_EXPECT(refused_as("prefix", runner_kv_keys(bad, NULL, 1, &all, &count)) && count == 0);
  RUNNER_EXPECT(refused_as("container", runner_blob_size(bad, empty, &found, &number)));
  RUNNER_EXPECT(refused_as("blob's name", runner_blob_read(box, bad, 0, 1, &value)));
  RUNNER_EXPECT(refused_as("blob's name", runner_blob_begin(box, bad, &number)));
  RUNNER_EXPECT(refused_as("blob's name", runner_blob_remove(box, bad)));
  RUNNER_EXPECT(refused_as("prefix", runner_blob_names(box, bad, NULL, 1, &all, &count)));
  RUNNER_EXPECT(refused_as("job's id", runner_output_of(bad, &found, &value)));
  RUNNER_EXPECT(refused_as("kind of the new job", runner_enqueue(bad_c, empty, empty, NULL)));
  RUNNER_EXPECT(refused_as("setting's name", runner_config(bad_c, &found, &value)));
  RUNNER_EXPECT(refused_as("secret's name", runner_secret(bad_c, &value)));
  RUNNER_EXPECT(runner_kv_set(runner_t("ä"), empty).ok);
}

static void numbers_are_what_their_types_hold(void) {
  RUNNER_EXPECT(says(integer, "{\"a\": 9223372036854775807}", RUNNER_OK, "9223372036854775807"));
  RUNNER_EXPECT(says(integer, "{\"a\": -9223372036854775808}", RUNNER_OK, "-9223372036854775808"));
  RUNNER_EXPECT(says(integer, "{\"a\": -0}", RUNNER_OK, "0"));
  RUNNER_EXPECT(says(integer, "{\"a\": 9223372036854775808}", RUNNER_DISCARD,
                     "args do not fit: `a`: must be an integer of 64 bits, not 9223372036854775808"));
  RUNNER_EXPECT(says(integer, "{\"a\": 1.0}", RUNNER_DISCARD, "args do not fit: `a`: must be an integer of 64 bits, not 1.0"));
  RUNNER_EXPECT(says(small, "{\"a\": 4294967295}", RUNNER_OK, "4294967295"));
  RUNNER_EXPECT(says(small, "{\"a\": -1}", RUNNER_DISCARD, "args do not fit: `a`: must be from 0 to 4294967295, not -1"));
  RUNNER_EXPECT(says(number, "{\"a\": -0.0}", RUNNER_OK, "zero"));
  RUNNER_EXPECT(says(number, "{\"a\": 5e-324}", RUNNER_OK, "some"));
  /* It was infinite, which JSON cannot say. */
  RUNNER_EXPECT(says(number, "{\"a\": -1e400}", RUNNER_DISCARD,
                     "args do not fit: `a`: must be a number that a double holds, not -1e400"));
}

int main(void) {
  runner_test_reset();
  a_misfit_shows_whole_characters();
  args_are_text();
  what_is_said_becomes_text();
  a_name_that_is_no_text_is_refused();
  numbers_are_what_their_types_hold();
  return runner_test_failures;
}
