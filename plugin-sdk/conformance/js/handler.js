// The test handler of bare scripts: does what `do` in its args says; what must come of it stands in ../behaviours.toml.

const refusedOr = call => {
  try {
    return call();
  } catch (error) {
    if (error instanceof CallError) return { refused: error.code };
    throw error;
  }
};

const kv = kv => {
  kv.set("k/a", "1");
  kv.compareAndSet("k/b", null, "2");
  kv.set("k/c", "3");
  kv.remove("k/c");
  return { got: text(kv.get("k/a")), absent: kv.get("k/c"), keys: kv.keys("k/", { limit: 10 }) };
};

const blobs = box => {
  box.write("d/one", bytes("hello"), "world");
  box.write("d/two", "2");
  box.remove("d/two");
  return { size: box.size("d/one"), read: text(box.read("d/one", 0, 5)), names: box.names("d/"), gone: box.size("d/two") };
};

const acts = {
  echo: args => args.value,
  nothing: () => undefined,
  retry: args => { throw new Retry("not now", { after: args.after_ms }); },
  discard: () => { throw new Discard("never"); },
  snooze: args => { throw new Snooze(args.after_ms, "too early"); },
  error: () => { throw new RangeError("an ordinary error"); },
  panic: () => { throw "on purpose"; },
  typed: args => check(args, { do: "string", user: { id: "integer", name: "string?" } }).user,
  job: (_, { id, kind, tenant, queue, run, attempt, maxAttempts, tags }) =>
    ({ id, kind, tenant, queue, run, attempt, max_attempts: maxAttempts, tags }),
  print: () => console.log("printed ✓"),
  log: (_, cx) => {
    cx.trace("a trace");
    cx.debug("a debug");
    cx.info("an info ✓");
    cx.warn("a warn");
    cx.error("an error");
  },
  enqueue: ({ kind }, cx) => refusedOr(() => ({ id: cx.enqueue(kind, { n: 1 }, { queue: "children" }) })),
  progress: (_, cx) => cx.progress(40, "half ½"),
  checkpoint: (_, cx) => cx.leave("page 7"),
  resume: (_, cx) => cx.checkpoint && text(cx.checkpoint),
  cancelled: (_, cx) => cx.cancelled(),
  kv: (_, cx) => kv(cx.kv),
  blobs: (_, cx) => blobs(cx.blobs("box")),
  blobs_denied: (_, cx) => refusedOr(() => cx.blobs("other").size("x")),
  config: (_, cx) => ({ greeting: cx.config("GREETING"), unset: cx.config("UNSET"), secret: cx.secret("PASSWORD") }),
  http: ({ url }, cx) => refusedOr(() => {
    const answer = cx.send({ method: "POST", url, body: "ping" });
    return { status: answer.status, body: answer.text() };
  }),
  spin: () => { for (;;); },
  hog: () => { for (const taken = []; ;) taken.push(new Uint8Array(1 << 20)); },
};

export default async function (args, cx) {
  check(args, { do: "string" });
  if (!(args.do in acts)) throw new Discard(`args do not fit: \`do\`: ${args.do} is unknown`);
  return acts[args.do](args, cx);
}
