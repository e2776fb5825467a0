// `node --test` in this folder, once `plugins/build` has compiled render.ts into plugins/dist.
import assert from "node:assert/strict";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { World } from "../../plugin-sdk/js/testing.mjs";

const script = fileURLToPath(new URL("../dist/render.js", import.meta.url));
const run = async args => (await World.of(script)).run(args);

test("fills a template", async () => {
  const values = { user: { name: "Ada <3" }, items: [{ n: 1 }, { n: 2 }], none: [] };
  const template = "Dear {{user.name}}: {{#items}}{{n}}, {{/items}}{{^none}}no more{{/none}} {{{user.name}}}";
  assert.deepEqual(await run({ template, values }), { text: "Dear Ada &lt;3: 1, 2, no more Ada <3" });
});

test("says where a template is not right", async () => {
  for (const [template, says] of [
    ["a\n {{#x}}", /\{\{#x\}\} is never closed, line 2, column 2/],
    ["{{/x}}", /closes what is not open, line 1, column 1/],
    ["{{x}}", /there is no value `x`/],
  ]) {
    await assert.rejects(run({ template, values: {} }), { name: "Discard", message: says });
  }
  await assert.rejects(run({ template: 7 }), { name: "Discard", message: /`template`: is 7, not a string/ });
});
