// Tests of what scripts find beside the language, each with what went wrong once: `node --test` in this folder.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { World } from "./testing.mjs";

/** Runs a handler's text on args that are JSON. */
const run = async (handler, args = "{}") => {
  const folder = mkdtempSync(join(tmpdir(), "runner-"));
  try {
    writeFileSync(join(folder, "script.mjs"), `export default ${handler}`);
    return await (await World.of(join(folder, "script.mjs"))).handler(JSON.parse(args), {});
  } finally {
    rmSync(folder, { recursive: true });
  }
};

// It was taken for none: a snooze of "5m" was over after 100 ms, again and again, and no attempt was counted.
test("a time that is no number is an error", async () => {
  for (const wrong of ['new Snooze("5m")', "new Snooze()", "new Snooze(NaN, 'why')", "new Snooze(null)"]) {
    await assert.rejects(run(`() => { throw ${wrong}; }`), /^TypeError: milliseconds are a number, as in new Snooze\(300000/);
  }
  for (const wrong of ['{after: "30s"}', "{after: NaN}", "30000"]) {
    await assert.rejects(run(`() => { throw new Retry("no", ${wrong}); }`), /^TypeError: milliseconds .* new Retry\("why", {after/);
  }
  await assert.rejects(run('() => { throw new Retry("no", {after: 5}); }'), { name: "Retry", message: "no", after: 5 });
  for (const none of ["", ", undefined", ", null", ", {}", ", {after: undefined}", ", {after: null}"]) {
    await assert.rejects(run(`() => { throw new Retry("no"${none}); }`), { name: "Retry", message: "no", after: undefined });
  }
  await assert.rejects(run('() => { throw new Snooze(5, "yet"); }'), { name: "Snooze", message: "yet", after: 5 });
});

// 1e400 was a number, and null in the output.
test("a number that no JSON can say does not fit", async () => {
  const check = shape => args => run(`args => check(args, {n: "${shape}"})`, args);
  await assert.rejects(check("number")('{"n": -1e400}'), { name: "Discard", message: "args do not fit: `n`: is -Infinity, not a number" });
  await assert.rejects(check("number?")('{"n": 1e400}'), /is Infinity, not a number/);
  await assert.rejects(check("integer")('{"n": 9007199254740993}'), /is 9007199254740992, not an integer/);
  assert.equal((await check("integer")('{"n": -9007199254740991}')).n, -9007199254740991);
  assert.equal((await check("number")('{"n": 5e-324}')).n, 5e-324);
});
