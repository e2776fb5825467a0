// Runs a script in Node, with a world around it that a test makes:
//
//     const world = await World.of("hello.js", { attempt: 2 });
//     assert.deepEqual(await world.run({ name: "Ada" }), { greeting: "Hello, Ada!" });
//     assert.deepEqual(world.logs, ["info: attempt 2"]);
//
// Job fields go in beside kv, blobs (by container), config, secrets and http (a request to {status, headers, body}); what the
// script throws comes out of `run`. The script's globals are this process's, so one world runs at a time.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const octets = data => (typeof data === "string" ? new TextEncoder().encode(data) : data);
const plain = data => new TextDecoder().decode(data);
const refuse = (code, message) => { throw { code, message }; };
const page = (all, prefix, after, limit) =>
  [...all.keys()].filter(name => name.startsWith(prefix) && name > (after ?? "")).sort().slice(0, limit);

export class World {
  static async of(script, { kv = {}, blobs = {}, config = {}, secrets = {}, http, cancelled = false, ...job } = {}) {
    const world = new World();
    const table = values => new Map(Object.entries(values).map(([name, data]) => [name, octets(data)]));
    world.kv = table(kv);
    world.blobs = new Map(Object.entries(blobs).map(([container, all]) => [container, table(all)]));
    Object.assign(world, { config, secrets, http, cancelled, logs: [], enqueued: [], printed: [], checkpoint: null, told: null });
    const prelude = (0, eval)(readFileSync(new URL("./prelude.js", import.meta.url), "utf8"));
    world.prelude = prelude(world.host());
    world.job = { id: "1", kind: "", tenant: "default", queue: "default", run: 1, attempt: 1, maxAttempts: 25, priority: 0,
      enqueuedAt: "", runAt: "", timeoutMs: 60_000, tags: {}, dependencies: [], checkpoint: null, ...job };
    const module = await import(`${pathToFileURL(script)}?${World.count++}`);
    world.handler = module.default;
    return world;
  }

  /** Runs the handler; answers with its output as JSON has it. */
  async run(args = {}) {
    const context = this.prelude.context(this.job);
    const output = await this.handler(JSON.parse(JSON.stringify(args)), context);
    return output === undefined || output instanceof Uint8Array ? output : JSON.parse(this.prelude.written(output));
  }

  container(name) {
    return this.blobs.get(name) ?? refuse("denied", `the container \`${name}\` is not in the test's blobs`);
  }

  host() {
    const levels = ["trace", "debug", "info", "warn", "error"], writers = new Map();
    return {
      log: (level, message) => { this.logs.push(`${levels[level]}: ${message}`); },
      print: line => { this.printed.push(line); },
      printError: line => { this.printed.push(line); },
      text: plain,
      bytes: octets,
      progress: (percent, message) => { this.told = [percent, message]; },
      cancelled: () => this.cancelled,
      enqueue: (kind, args, options) => {
        this.enqueued.push({ kind, args: JSON.parse(args), options: JSON.parse(options || "{}") });
        return String(100 + this.enqueued.length);
      },
      checkpoint: data => { this.checkpoint = octets(data); },
      outputOf: id => refuse("not_found", `this job does not depend on a job \`${id}\``),
      pauseSchedule: () => refuse("not_found", "no schedule made this job"),
      kvGet: key => this.kv.get(key) ?? null,
      kvSet: (key, value) => { this.kv.set(key, octets(value)); },
      kvRemove: key => { this.kv.delete(key); },
      kvCompareAndSet: (key, _, value) => { value === null ? this.kv.delete(key) : this.kv.set(key, octets(value)); },
      kvKeys: (prefix, after, limit) => page(this.kv, prefix, after, limit),
      blobSize: (container, name) => this.container(container).get(name)?.length ?? null,
      blobRead: (container, name, offset, length) =>
        (this.container(container).get(name) ?? refuse("not_found", `there is no blob \`${name}\``)).slice(offset, offset + length),
      blobBegin: (container, name) => {
        this.container(container);
        writers.set(writers.size + 1, { container, name, parts: [] });
        return writers.size;
      },
      blobWrite: (writer, data) => { writers.get(writer).parts.push(octets(data)); },
      blobFinish: writer => {
        const { container, name, parts } = writers.get(writer);
        this.container(container).set(name, Uint8Array.from(parts.flatMap(part => [...part])));
      },
      blobRemove: (container, name) => { this.container(container).delete(name); },
      blobNames: (container, prefix, after, limit) => page(this.container(container), prefix, after, limit),
      config: name => this.config[name] ?? null,
      secret: name => this.secrets[name] ?? refuse("denied", `the secret \`${name}\` is not in the test's secrets`),
      send: (method, url, flat, body) => {
        if (!this.http) refuse("denied", "the test has no http");
        const headers = flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]]] : []));
        const { status, headers: answered = [], body: text = "" } = this.http({ method, url, headers, body: plain(octets(body)) });
        return [status, answered, octets(text)];
      },
    };
  }
}
World.count = 0;
