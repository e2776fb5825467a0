/* A world for one run, for native tests: what lies there before, and what the run left. Compile it with the handler, `runner.c` and
 * `runner_test.c`, and without `runner_wasm.c`:
 *
 *     int main(void) {
 *       runner_test_reset();
 *       runner_answer answer = runner_test_run("hello.greet", "{\"name\": \"Ada\"}");
 *       RUNNER_EXPECT(answer.end == RUNNER_OK && runner_is(answer.text, "{\"greeting\":\"Hello, Ada!\"}"));
 *       return runner_test_failures;
 *     }
 *
 * Containers of blobs are there once something was put into them; http answers `denied`. */
#ifndef RUNNER_TEST_H
#define RUNNER_TEST_H

#include "runner.h"

#include <stdio.h>

extern int runner_test_failures;
#define RUNNER_EXPECT(holds) \
  do { if (!(holds)) { fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds); runner_test_failures++; } } while (0)

void runner_test_reset(void);
/* The job is fresh; change it with `runner_test_job` before. */
runner_answer runner_test_run(const char *kind, const char *args);
extern runner_job runner_test_job;

/* Spaces of names: kv is "kv", a container of blobs "blobs/NAME", settings "config", secrets "secret". */
void runner_test_put(const char *space, const char *name, runner_text value);
/* NULL as `at` if there is none. */
runner_text runner_test_get(const char *space, const char *name);

/* What the run left: lines `info: …`, jobs `KIND ARGS OPTIONS`, each with a newline; the last checkpoint and progress. */
extern runner_buffer runner_test_log, runner_test_enqueued;
extern runner_text runner_test_checkpoint, runner_test_progress;
extern uint8_t runner_test_percent;
#endif
