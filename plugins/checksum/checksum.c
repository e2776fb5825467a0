/* blob.compress: reads a blob in parts, writes it as gzip, and answers with checksums and sizes.
 *
 *     {"from": "photos/mountains.jpg", "to": "thumbnails/mountains.jpg.gz"}
 *
 * Deflate with fixed Huffman codes and a hash of the last place of every three bytes: half of what zlib reaches, in two hundred
 * lines and with a window of 32 KiB. Without `to` it only computes. A run that is repeated writes the same blob again. */
#include "runner.h"

#include <string.h>

enum {
  PART = 256 << 10,  /* Read and written at once. */
  WINDOW = 32 << 10, /* How far back deflate may point. */
  HASHES = 1 << 15,
  MATCH_MIN = 3,
  MATCH_MAX = 258,
};

/* --- checksums ------------------------------------------------------------------------------------------------------- */

static uint32_t crc_table[256];

static void make_crc_table(void) {
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t c = n;
    for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    crc_table[n] = c;
  }
}

static uint32_t crc32(uint32_t crc, const uint8_t *at, size_t len) {
  crc = ~crc;
  for (size_t i = 0; i < len; i++) crc = crc_table[(crc ^ at[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

static uint32_t adler32(uint32_t adler, const uint8_t *at, size_t len) {
  uint32_t a = adler & 0xffff, b = adler >> 16;
  for (size_t i = 0; i < len; i++) {
    a = (a + at[i]) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

/* --- deflate ---------------------------------------------------------------------------------------------------------- */

static uint32_t bits, bit_count;

static void put_bits(runner_buffer *out, uint32_t value, uint32_t count) {
  bits |= value << bit_count;
  bit_count += count;
  while (bit_count >= 8) {
    char byte = (char)bits;
    runner_add_text(out, (runner_text){&byte, 1});
    bits >>= 8;
    bit_count -= 8;
  }
}

/* Huffman codes begin with their highest bit. */
static void put_code(runner_buffer *out, uint32_t code, uint32_t count) {
  uint32_t turned = 0;
  for (uint32_t i = 0; i < count; i++) turned |= (code >> i & 1) << (count - 1 - i);
  put_bits(out, turned, count);
}

static void put_symbol(runner_buffer *out, uint32_t symbol) {
  if (symbol < 144) put_code(out, 0x30 + symbol, 8);
  else if (symbol < 256) put_code(out, 0x190 + symbol - 144, 9);
  else if (symbol < 280) put_code(out, symbol - 256, 7);
  else put_code(out, 0xc0 + symbol - 280, 8);
}

static void put_length(runner_buffer *out, uint32_t length) {
  if (length == MATCH_MAX) {
    put_symbol(out, 285);
    return;
  }
  uint32_t base = 3, symbol = 257;
  for (;; symbol++) {
    uint32_t extra = symbol < 265 ? 0 : (symbol - 261) / 4;
    if (length < base + (1u << extra)) {
      put_symbol(out, symbol);
      put_bits(out, length - base, extra);
      return;
    }
    base += 1u << extra;
  }
}

static void put_distance(runner_buffer *out, uint32_t distance) {
  uint32_t base = 1, code = 0;
  for (;; code++) {
    uint32_t extra = code < 4 ? 0 : code / 2 - 1;
    if (distance < base + (1u << extra)) {
      put_code(out, code, 5);
      put_bits(out, distance - base, extra);
      return;
    }
    base += 1u << extra;
  }
}

static uint32_t hash3(const uint8_t *at) { return ((uint32_t)at[0] << 10 ^ (uint32_t)at[1] << 5 ^ at[2]) & (HASHES - 1); }

/* One block of one part; matches stay within it. */
static void deflate(runner_buffer *out, const uint8_t *at, size_t len, bool last) {
  static int32_t seen[HASHES];
  memset(seen, 0xff, sizeof seen);
  put_bits(out, last, 1);
  put_bits(out, 1, 2);
  size_t i = 0;
  while (i < len) {
    size_t length = 0, distance = 0;
    if (i + MATCH_MIN <= len) {
      uint32_t hash = hash3(at + i);
      int32_t before = seen[hash];
      seen[hash] = (int32_t)i;
      if (before >= 0 && i - (size_t)before <= WINDOW) {
        size_t most = len - i < MATCH_MAX ? len - i : MATCH_MAX;
        while (length < most && at[(size_t)before + length] == at[i + length]) length++;
        distance = i - (size_t)before;
      }
    }
    if (length >= MATCH_MIN) {
      put_length(out, (uint32_t)length);
      put_distance(out, (uint32_t)distance);
      i += length;
    } else {
      put_symbol(out, at[i++]);
    }
  }
  put_symbol(out, 256);
}

static void put_u32(runner_buffer *out, uint32_t value) {
  char le[4] = {(char)value, (char)(value >> 8), (char)(value >> 16), (char)(value >> 24)};
  runner_add_text(out, (runner_text){le, 4});
}

/* --- the handler ---------------------------------------------------------------------------------------------------------- */

typedef struct { runner_text container, name; } place;

/* "CONTAINER/NAME"; false if there is no slash. */
static bool split(runner_text path, place *into) {
  const char *slash = memchr(path.at, '/', path.len);
  if (slash == NULL || slash + 1 == path.at + path.len) return false;
  into->container = (runner_text){path.at, (size_t)(slash - path.at)};
  into->name = (runner_text){slash + 1, (size_t)(path.at + path.len - slash - 1)};
  return true;
}

static void add_hex(runner_buffer *out, const char *before, uint32_t value) {
  static const char hex[] = "0123456789abcdef";
  char text[8];
  for (int i = 0; i < 8; i++) text[i] = hex[value >> (28 - 4 * i) & 15];
  runner_add(out, before);
  runner_add_string(out, (runner_text){text, 8});
}

/* Sends what has gathered, once that is much, or at the end. */
static runner_result flush(uint32_t writer, runner_buffer *out, bool writes, bool at_the_end, uint32_t *written) {
  runner_result sent = {.ok = true};
  if (out->len == 0 || (out->len < PART && !at_the_end)) return sent;
  if (writes) sent = runner_blob_write(writer, runner_text_of(*out));
  *written += (uint32_t)out->len;
  out->len = 0;
  return sent;
}

runner_answer runner_handle(const runner_job *job) {
  runner_args args = runner_read(job);
  runner_text from_path = runner_string(&args, "from"), to_path = runner_string_or(&args, "to", "");
  if (args.failed) return args.answer;
  place from, to = {0};
  bool writes = to_path.len > 0, found;
  if (!split(from_path, &from) || (writes && !split(to_path, &to))) {
    return runner_discard("args do not fit: `from` and `to` are CONTAINER/NAME");
  }
  uint32_t size, writer = 0, crc = 0, adler = 1, written = 0;
  runner_result result = runner_blob_size(from.container, from.name, &found, &size);
  if (!result.ok) return runner_refused(result);
  if (!found) return runner_discard("there is no such blob");
  if (writes && !(result = runner_blob_begin(to.container, to.name, &writer)).ok) return runner_refused(result);

  make_crc_table();
  runner_buffer out = {0};
  runner_add_text(&out, (runner_text){"\x1f\x8b\x08\0\0\0\0\0\0\xff", 10});
  for (uint32_t offset = 0; offset < size || size == 0;) {
    runner_text part;
    result = runner_blob_read(from.container, from.name, offset, PART, &part);
    if (!result.ok) return runner_refused(result);
    offset += (uint32_t)part.len;
    /* A blob that became shorter meanwhile would never end. */
    bool last = offset >= size || part.len == 0;
    crc = crc32(crc, (const uint8_t *)part.at, part.len);
    adler = adler32(adler, (const uint8_t *)part.at, part.len);
    deflate(&out, (const uint8_t *)part.at, part.len, last);
    if (!(result = flush(writer, &out, writes, false, &written)).ok) return runner_refused(result);
    runner_progress((uint8_t)(size ? (uint64_t)offset * 100 / size : 100), runner_t("compressed"));
    if (last) break;
  }
  put_bits(&out, 0, (8 - bit_count) % 8);
  put_u32(&out, crc);
  put_u32(&out, size);
  if (!(result = flush(writer, &out, writes, true, &written)).ok) return runner_refused(result);
  if (writes && !(result = runner_blob_finish(writer)).ok) return runner_refused(result);

  runner_buffer answer = {0};
  runner_add(&answer, "{\"bytes\":");
  runner_add_u64(&answer, size);
  runner_add(&answer, ",\"compressed_bytes\":");
  runner_add_u64(&answer, written);
  add_hex(&answer, ",\"crc32\":", crc);
  add_hex(&answer, ",\"adler32\":", adler);
  runner_add(&answer, "}");
  return runner_ok(answer);
}
