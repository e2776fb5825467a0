/**
 * What a handler finds beside the language, for editors and for TypeScript.
 *
 *     /// <reference path="runner.d.ts" />
 *     export default (args: Args, cx: Context) => {
 *       check(args, { name: "string", shout: "boolean?" });
 *       if (args.name === "") throw new Discard("nobody to greet");
 *       cx.info(`attempt ${cx.attempt}`);
 *       return { greeting: `Hello, ${args.name}!` };
 *     };
 *
 * A script is a module; its default export is the handler, a function or an async one, and what it returns is the output, as
 * JSON (a Uint8Array: as it is; undefined: none). Times are milliseconds. There are no imports, no timers, no files, no fetch.
 */

/** Try again, by the job's retry policy or after so long; counts as a failed attempt. So does any other error. */
declare class Retry extends Error {
  constructor(why: string, options?: { after?: number });
}
/** Give up for good: what was asked for will never work. */
declare class Discard extends Error {
  constructor(why: string);
}
/** Run later, no attempt counted; the runner takes 100 ms to 30 days. */
declare class Snooze extends Error {
  constructor(after: number, why?: string);
}
/** A call that the runner refused or that went wrong; nothing was done. Codes: denied, invalid, not_found, limit, unavailable. */
declare class CallError extends Error {
  readonly code: string;
  /** Whether the same call may go well later. */
  readonly temporary: boolean;
  /** A Retry if it may go well later, else a Discard: `throw error.failure()`. */
  failure(): Retry | Discard;
}

type Shape =
  | "string" | "integer" | "number" | "boolean" | "list" | "object" | "any"
  | "string?" | "integer?" | "number?" | "boolean?" | "list?" | "object?" | "any?"
  | Shape[] | { [field: string]: Shape };

/** Discards the job, naming the field, unless the value is of this shape: `{user: {id: "integer", name: "string?"}}`. */
declare function check<T>(value: T, shape: Shape): T;
/** Bytes as text; what is no UTF-8 becomes U+FFFD. */
declare function text(bytes: Uint8Array): string;
/** Text as bytes. */
declare function bytes(text: string): Uint8Array;

/** Where calls take bytes, text goes as UTF-8. */
type Data = Uint8Array | string;
type Level = "trace" | "debug" | "info" | "warn" | "error";

interface Response {
  readonly status: number;
  readonly headers: [string, string][];
  readonly body: Uint8Array;
  header(name: string): string | undefined;
  text(): string;
  json(): any;
}

interface Kv {
  get(key: string): Uint8Array | null;
  set(key: string, value: Data): void;
  remove(key: string): void;
  /** Sets a value if it is still the expected one when the run is recorded; null is absent. */
  compareAndSet(key: string, expected: Data | null, value: Data | null): void;
  keys(prefix?: string, page?: { after?: string | null; limit?: number }): string[];
}

interface Blobs {
  /** null: there is no such blob. */
  size(name: string): number | null;
  /** At most 1 MiB; fewer bytes only at the end. */
  read(name: string, offset?: number, length?: number): Uint8Array;
  /** Writes a whole blob, which appears at once. */
  write(name: string, ...parts: Data[]): void;
  remove(name: string): void;
  names(prefix?: string, page?: { after?: string | null; limit?: number }): string[];
}

/** One run of one job, and what its handler may ask of the runner. */
interface Context {
  readonly id: string;
  readonly kind: string;
  readonly tenant: string;
  readonly queue: string;
  readonly run: number;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly isLastAttempt: boolean;
  readonly priority: number;
  readonly enqueuedAt: string;
  readonly runAt: string;
  readonly timeoutMs: number;
  readonly tags: { readonly [key: string]: string };
  readonly dependencies: readonly string[];
  /** What an earlier run left. */
  readonly checkpoint: Uint8Array | null;
  log(level: Level, message: string): void;
  trace(message: string): void;
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
  /** How far the run is: 0 to 100. */
  progress(percent: number, message?: string): void;
  /** True once the run should end soon. */
  cancelled(): boolean;
  /** Makes a job, recorded with the run's outcome; answers with its id. Options: queue, priority, delay, depends_on, tags, … */
  enqueue(kind: string, args?: any, options?: { [field: string]: any }): string;
  /** Leaves up to 256 KiB for a later run: its `checkpoint`. */
  leave(checkpoint: Data): void;
  /** The output of a completed dependency. */
  outputOf(jobId: string): Uint8Array | null;
  pauseSchedule(): void;
  /** Small durable values; reads see this run's own writes, which are recorded with its outcome. */
  readonly kv: Kv;
  /** A container of large values, granted by the manifest. Not staged: a finished write stays. */
  blobs(container: string): Blobs;
  /** A setting that the operator gave; null: not set. */
  config(name: string): string | null;
  /** A secret that the manifest asks for and the operator gave. */
  secret(name: string): string;
  /** Sends one granted HTTP request. Redirects are answers. */
  send(request: { method?: string; url: string; headers?: { [name: string]: string }; body?: Data; timeout?: number }): Response;
}

declare const console: { log(...values: any[]): void; info(...values: any[]): void; debug(...values: any[]): void;
  warn(...values: any[]): void; error(...values: any[]): void };
