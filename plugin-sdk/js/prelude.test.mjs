// Tests of what scripts find beside the language, each with what went wrong once: `node --test` in this folder.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { World } from "./testing.mjs";

/** The world of a script with this handler. */
const worldOf = async handler => {
  const folder = mkdtempSync(join(tmpdir(), "runner-"));
  try {
    writeFileSync(join(folder, "script.mjs"), `export default ${handler}`);
    return await World.of(join(folder, "script.mjs"));
  } finally {
    rmSync(folder, { recursive: true });
  }
};

/** Runs a handler on args as they are read; `World.run` makes JSON of them first, so that 1e400 would be null. */
const run = async (handler, args = "{}") => {
  const world = await worldOf(handler);
  return world.handler(JSON.parse(args), world.prelude.context(world.job));
};

// It completed the job, with an output that says nothing of it.
test("an error that is returned is thrown", async () => {
  const returned = async text => (await worldOf(text)).run();
  await assert.rejects(returned('() => new Discard("never")'), { name: "Discard", message: "never" });
  await assert.rejects(returned('async () => new Error("no")'), { name: "Error", message: "no" });
  assert.deepEqual(await returned("() => ({ error: 1 })"), { error: 1 });
});

// What is neither text nor bytes was stored as its text: [object Object].
test("calls take text and bytes", async () => {
  for (const call of ['cx.kv.set("k", {a: 1})', "cx.leave(7)", 'cx.kv.compareAndSet("k", null, [1])', 'cx.send({url: "https://x", body: {}})']) {
    await assert.rejects(run(`(_, cx) => ${call}`), /^TypeError: a call takes text or a Uint8Array there, not/);
  }
  const world = await worldOf('(_, cx) => { cx.kv.set("a", "ä"); cx.kv.set("b", bytes("b")); cx.kv.compareAndSet("c", null, "c"); }');
  await world.run();
  assert.deepEqual([...world.kv.keys()], ["a", "b", "c"]);
});

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

// What no JSON can say was tried again and again, and a function completed as if it were nothing.
test("an output that is not JSON ends the job", async () => {
  const returned = async text => (await worldOf(text)).run();
  for (const wrong of ["() => 1n", "() => { const ring = {}; ring.ring = ring; return ring; }", "() => () => 1", "() => Symbol()"]) {
    await assert.rejects(returned(wrong), error => error.name === "Discard" && /^the output is not JSON: /.test(error.message), wrong);
  }
  await assert.rejects(returned('() => ({ toJSON() { throw new Retry("later"); } })'), { name: "Retry", message: "later" });
});
