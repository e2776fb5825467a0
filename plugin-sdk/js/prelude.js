// What scripts find beside the language: how to end, how to check args, and the context. Runs before every script; `host` has the
// calls of the runner, which throw {code, message}.
(host => {
  class Failure extends Error {
    constructor(why) {
      super(why === undefined ? "" : String(why));
      this.name = new.target.name;
    }
  }
  // What is no number would be no time at all: a snooze of "5m" would be over at once, again and again.
  const millis = (after, right) => {
    if (typeof after === "number" && !Number.isNaN(after)) return after;
    throw new TypeError(`milliseconds are a number, as in ${right}, not ${typeof after === "string" ? JSON.stringify(after) : String(after)}`);
  };
  class Retry extends Failure {
    constructor(why, options) {
      super(why);
      // A number alone would be taken for no options.
      const after = typeof options === "number" ? `the second argument ${options}` : options?.after;
      this.after = after === undefined || after === null ? undefined : millis(after, 'new Retry("why", {after: 5000})');
    }
  }
  class Discard extends Failure {}
  class Snooze extends Failure {
    constructor(after, why) {
      super(why);
      this.after = millis(after, 'new Snooze(300000, "why")');
    }
  }
  class CallError extends Error {
    constructor(code, message) {
      super(`${message} (${code})`);
      this.name = "CallError";
      this.code = code;
    }
    get temporary() { return !["denied", "invalid", "not_found", "limit"].includes(this.code); }
    failure() { return this.temporary ? new Retry(this.message) : new Discard(this.message); }
  }
  const ask = (call, ...args) => {
    try {
      return call(...args);
    } catch (refused) {
      throw typeof refused?.code === "string" && !(refused instanceof Error) ? new CallError(refused.code, refused.message) : refused;
    }
  };

  const kinds = {
    string: ["a string", v => typeof v === "string"],
    integer: ["an integer", v => Number.isSafeInteger(v)],
    // 1e400 is read as one that no JSON can say.
    number: ["a number", v => Number.isFinite(v)],
    boolean: ["true or false", v => typeof v === "boolean"],
    list: ["a list", v => Array.isArray(v)],
    object: ["an object", v => typeof v === "object" && v !== null && !Array.isArray(v)],
    any: ["anything", () => true],
  };
  const misfit = (path, why) => new Discard(`args do not fit: ${path ? `\`${path}\`: ` : ""}${why}`);
  const expect = (kind, value, path) => {
    if (kinds[kind] === undefined) throw new TypeError(`a shape has ${Object.keys(kinds).join(", ")}, not ${kind}`);
    if (!kinds[kind][1](value)) throw misfit(path, `is ${String(typeof value === "number" ? value : JSON.stringify(value)).slice(0, 60)}, not ${kinds[kind][0]}`);
  };
  const check = (value, shape, path = "") => {
    if (typeof shape === "string") {
      const optional = shape.endsWith("?");
      if (value === undefined || value === null) {
        if (!optional) throw misfit(path, "it is missing");
        return value;
      }
      expect(optional ? shape.slice(0, -1) : shape, value, path);
    } else if (Array.isArray(shape)) {
      if (value === undefined) throw misfit(path, "it is missing");
      expect("list", value, path);
      value.forEach((item, i) => check(item, shape[0], `${path}[${i}]`));
    } else {
      if (value === undefined) throw misfit(path, "it is missing");
      expect("object", value, path);
      for (const key in shape) check(value[key], shape[key], path ? `${path}.${key}` : key);
    }
    return value;
  };

  const shown = values => values.map(v => (typeof v === "string" ? v : v instanceof Error ? String(v) : JSON.stringify(v) ?? String(v))).join(" ");
  const console = {};
  for (const name of ["log", "info", "debug"]) console[name] = (...values) => host.print(shown(values));
  for (const name of ["warn", "error"]) console[name] = (...values) => host.printError(shown(values));

  // Anything else would be stored as its text: [object Object].
  const data = value => {
    if (typeof value === "string" || value instanceof Uint8Array) return value;
    throw new TypeError(`a call takes text or a Uint8Array there, not ${shown([value])}: JSON.stringify it`);
  };

  const context = job => {
    const cx = {
      ...job,
      get isLastAttempt() { return cx.attempt >= cx.maxAttempts; },
      log: (level, message) => host.log(["trace", "debug", "info", "warn", "error"].indexOf(level), String(message)),
      progress: (percent, message = "") => host.progress(percent, String(message)),
      cancelled: () => host.cancelled(),
      enqueue: (kind, args, options) =>
        ask(host.enqueue, kind, JSON.stringify(args ?? null), options === undefined ? "" : JSON.stringify(options)),
      leave: checkpoint => ask(host.checkpoint, data(checkpoint)),
      outputOf: id => ask(host.outputOf, String(id)),
      pauseSchedule: () => ask(host.pauseSchedule),
      kv: {
        get: key => ask(host.kvGet, key),
        set: (key, value) => ask(host.kvSet, key, data(value)),
        remove: key => ask(host.kvRemove, key),
        compareAndSet: (key, expected, value) => {
          const maybe = value => (value === undefined || value === null ? null : data(value));
          return ask(host.kvCompareAndSet, key, maybe(expected), maybe(value));
        },
        keys: (prefix = "", { after = null, limit = 1000 } = {}) => ask(host.kvKeys, prefix, after, limit),
      },
      blobs: container => ({
        size: name => ask(host.blobSize, container, name),
        read: (name, offset = 0, length = 1 << 20) => ask(host.blobRead, container, name, offset, length),
        write: (name, ...parts) => {
          const writer = ask(host.blobBegin, container, name);
          for (const part of parts) ask(host.blobWrite, writer, data(part));
          ask(host.blobFinish, writer);
        },
        remove: name => ask(host.blobRemove, container, name),
        names: (prefix = "", { after = null, limit = 1000 } = {}) => ask(host.blobNames, container, prefix, after, limit),
      }),
      config: name => ask(host.config, name),
      secret: name => ask(host.secret, name),
      send: ({ method = "GET", url, headers = {}, body = "", timeout = null }) => {
        const [status, pairs, bytes] = ask(host.send, method, url, Object.entries(headers).flat(), data(body), timeout);
        const answer = { status, headers: pairs, body: bytes };
        answer.header = name => pairs.find(pair => pair[0].toLowerCase() === name.toLowerCase())?.[1];
        answer.text = () => host.text(bytes);
        answer.json = () => JSON.parse(host.text(bytes));
        return answer;
      },
    };
    for (const level of ["trace", "debug", "info", "warn", "error"]) cx[level] = message => cx.log(level, message);
    return cx;
  };

  // An engine that evaluates a script before its runs must know what differs from run to run.
  if (host.depends !== undefined) {
    const random = Math.random;
    const { random: own } = { random() { host.depends(); return random(); } };
    Object.defineProperty(Math, "random", { value: own, writable: true, enumerable: false, configurable: true });
  }

  // The engine would give up as a whole, in words of its own.
  const bound = () => {
    "use strict"; // Of nobody's, `this` would be the global object.
    const textMax = 2 ** 27;
    for (const name of ["repeat", "padStart", "padEnd"]) {
      const own = String.prototype[name];
      const { [name]: bounded } = {
        [name](count, ...rest) {
          const text = this === null || this === undefined ? this : `${this}`;
          const times = +count;
          const length = name === "repeat" ? times * text?.length : times;
          if (Number.isFinite(times) && length > textMax) {
            throw new RangeError(`a text has at most ${textMax} characters, and this one would have ${Math.trunc(length)}`);
          }
          return own.call(text, times, ...rest);
        },
      };
      Object.defineProperty(bounded, "length", { value: own.length, configurable: true });
      Object.defineProperty(String.prototype, name, { value: bounded, writable: true, enumerable: false, configurable: true });
    }
  };
  if (host.depends !== undefined) bound();

  const parse = text => {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Discard(`args are not JSON: ${error.message}`);
    }
  };
  // How what a script threw ends the run: [how, why, after].
  const ended = thrown => {
    if (thrown instanceof Retry) return ["retry", thrown.message, thrown.after ?? null];
    if (thrown instanceof Discard) return ["discard", thrown.message, null];
    if (thrown instanceof Snooze) return ["snooze", thrown.message, thrown.after];
    return ["error", thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown), null];
  };
  Object.assign(globalThis, { Retry, Discard, Snooze, CallError, check, console, text: host.text, bytes: host.bytes });
  // An error that is returned was meant to be thrown; as JSON it would be nothing, and the job completed.
  const written = value => {
    if (value instanceof Error) throw value;
    if (typeof value === "function" || typeof value === "symbol") throw new Discard(`the output is not JSON: it is a ${typeof value}`);
    try {
      return JSON.stringify(value);
    } catch (error) {
      // A number too large, or a value within itself: the next run would make the same.
      throw error instanceof TypeError ? new Discard(`the output is not JSON: ${error.message}`) : error;
    }
  };
  const tooDeep = depth => {
    throw new Discard(`the output is nested more than ${depth} deep, the most that a script can write as JSON`);
  };
  return { context, parse, ended, written, tooDeep };
})
