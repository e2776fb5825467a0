/* Tests blob.compress natively; `test_checksum WHERE` also writes what it made, for gzip to read. */
#include "runner_test.h"

#include <string.h>

static runner_text text_of(size_t len, unsigned seed) {
  static const char words[] = "the quick brown fox jumps over the lazy dog, and again ";
  char *made = runner_alloc(len);
  for (size_t i = 0; i < len; i++) {
    seed = seed * 1103515245 + 12345;
    made[i] = i % 97 < 60 ? words[i % (sizeof words - 1)] : (char)(seed >> 16);
  }
  return (runner_text){made, len};
}

int main(int argc, char **argv) {
  runner_test_reset();
  runner_test_put("blobs/photos", "empty", runner_t(""));
  runner_test_put("blobs/photos", "check", runner_t("123456789"));
  runner_test_put("blobs/photos", "large", text_of(700000, 7));
  runner_test_put("blobs/thumbnails", "x", runner_t(""));
  runner_answer answer = runner_test_run("blob.compress", "{\"from\": \"photos/check\"}");
  RUNNER_EXPECT(answer.end == RUNNER_OK);
  runner_args read = runner_read_text(answer.text, "the answer");
  RUNNER_EXPECT(runner_is(runner_string(&read, "crc32"), "cbf43926"));
  RUNNER_EXPECT(runner_is(runner_string(&read, "adler32"), "091e01de"));
  RUNNER_EXPECT(runner_u32(&read, "bytes") == 9);
  answer = runner_test_run("blob.compress", "{\"from\": \"photos/empty\", \"to\": \"thumbnails/empty.gz\"}");
  RUNNER_EXPECT(answer.end == RUNNER_OK && runner_test_get("blobs/thumbnails", "empty.gz").len == 20);
  answer = runner_test_run("blob.compress", "{\"from\": \"photos/large\", \"to\": \"thumbnails/large.gz\"}");
  RUNNER_EXPECT(answer.end == RUNNER_OK && runner_test_percent == 100);
  runner_text made = runner_test_get("blobs/thumbnails", "large.gz");
  RUNNER_EXPECT(made.len > 100000 && made.len < 600000);
  RUNNER_EXPECT(runner_test_run("blob.compress", "{\"from\": \"photos/gone\"}").end == RUNNER_DISCARD);
  RUNNER_EXPECT(runner_test_run("blob.compress", "{\"from\": \"other/x\"}").end == RUNNER_DISCARD);
  RUNNER_EXPECT(runner_test_run("blob.compress", "{\"from\": 7}").end == RUNNER_DISCARD);
  if (argc > 1) {
    FILE *file = fopen(argv[1], "wb");
    RUNNER_EXPECT(file != NULL && fwrite(made.at, 1, made.len, file) == made.len && fclose(file) == 0);
  }
  return runner_test_failures;
}
