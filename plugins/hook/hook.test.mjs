// `node --test` in this folder.
import assert from "node:assert/strict";
import test from "node:test";
import { World } from "../../plugin-sdk/js/testing.mjs";

const url = "https://hooks.example.com/a";
const run = async (answer, args = { event: "order.paid", data: { n: 1 }, url }, more = {}) => {
  const world = await World.of("hook.js", { http: request => ({ ...answer, asked: (world_asked.push(request), 0) }), id: "7", ...more });
  return world.run(args);
};
let world_asked = [];

test("posts the event, with a key that is the job's", async () => {
  world_asked = [];
  assert.deepEqual(await run({ status: 204 }), { status: 204 });
  const [request] = world_asked;
  assert.equal(request.url, url);
  assert.deepEqual(request.headers[1], ["idempotency-key", "default-7"]);
  assert.deepEqual(JSON.parse(request.body), { event: "order.paid", data: { n: 1 }, attempt: 1 });
});

test("a hook that is busy is tried again when it says, one that refuses is not", async () => {
  await assert.rejects(run({ status: 503, headers: [["Retry-After", "30"]] }), { name: "Retry", after: 30_000 });
  await assert.rejects(run({ status: 500 }), { name: "Retry", after: undefined });
  await assert.rejects(run({ status: 422, body: "no" }), { name: "Discard", message: /422 no/ });
});

test("needs to know where to", async () => {
  await assert.rejects(run({ status: 200 }, { event: "x" }), { name: "Discard", message: /HOOK_URL/ });
  assert.deepEqual(await run({ status: 200 }, { event: "x" }, { config: { HOOK_URL: url } }), { status: 200 });
  await assert.rejects(run({ status: 200 }, { url }), /`event`: it is missing/);
});
