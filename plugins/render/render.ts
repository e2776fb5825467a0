/// <reference path="../../plugin-sdk/js/runner.d.ts" />
// text.render: fills a template with values: {"template": "Dear {{user.name}}, …", "values": {"user": {"name": "Ada"}}}.
//
//   {{a.b}}            the value, with what HTML cares for escaped; {{{a.b}}} as it is
//   {{#a}}…{{/a}}      for each item of a list, within which its fields are found first; once, if `a` is something else that counts
//   {{^a}}…{{/a}}      if `a` is missing, false, empty or 0
//
// A template that is not right, and a value that is missing, are discarded with the place.

interface Args {
  template: string;
  values?: { [name: string]: unknown };
}

type Part =
  | { kind: "text"; text: string }
  | { kind: "value"; path: string; raw: boolean; at: number }
  | { kind: "section"; path: string; inverted: boolean; at: number; parts: Part[] };

const DEPTH_MAX = 32;
const OUTPUT_CHARS_MAX = 900_000;
const ESCAPES: { [char: string]: string } = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function place(template: string, at: number): string {
  const before = template.slice(0, at).split("\n");
  return `line ${before.length}, column ${before[before.length - 1].length + 1}`;
}

function parse(template: string): Part[] {
  const open: { path: string; at: number; parts: Part[] }[] = [{ path: "", at: 0, parts: [] }];
  const tag = /\{\{\{\s*([\w.]+)\s*\}\}\}|\{\{\s*([#^/]?)\s*([\w.]+)\s*\}\}/g;
  let from = 0;
  for (let found = tag.exec(template); found !== null; found = tag.exec(template)) {
    const top = open[open.length - 1];
    if (found.index > from) top.parts.push({ kind: "text", text: template.slice(from, found.index) });
    from = tag.lastIndex;
    const [, raw, sign, path] = found;
    if (raw !== undefined) {
      top.parts.push({ kind: "value", path: raw, raw: true, at: found.index });
    } else if (sign === "") {
      top.parts.push({ kind: "value", path, raw: false, at: found.index });
    } else if (sign === "/") {
      if (open.length === 1 || top.path !== path) {
        throw new Discard(`{{/${path}}} closes what is not open, ${place(template, found.index)}`);
      }
      open.pop();
    } else {
      if (open.length > DEPTH_MAX) throw new Discard(`sections more than ${DEPTH_MAX} deep, ${place(template, found.index)}`);
      const parts: Part[] = [];
      top.parts.push({ kind: "section", path, inverted: sign === "^", at: found.index, parts });
      open.push({ path, at: found.index, parts });
    }
  }
  const top = open[open.length - 1];
  if (open.length > 1) throw new Discard(`{{#${top.path}}} is never closed, ${place(template, top.at)}`);
  if (from < template.length) top.parts.push({ kind: "text", text: template.slice(from) });
  return open[0].parts;
}

function find(scopes: unknown[], path: string): unknown {
  const names = path.split(".").filter(name => name !== "");
  if (names.length === 0) return scopes[scopes.length - 1];
  for (const scope of [...scopes].reverse()) {
    let value: any = scope;
    for (const name of names) {
      value = value !== null && typeof value === "object" && Object.hasOwn(value, name) ? value[name] : undefined;
    }
    if (value !== undefined) return value;
  }
  return undefined;
}

const counts = (value: unknown): boolean => (Array.isArray(value) ? value.length > 0 : Boolean(value));

function render(template: string, parts: Part[], scopes: unknown[]): string {
  let out = "";
  for (const part of parts) {
    if (part.kind === "text") {
      out += part.text;
    } else if (part.kind === "value") {
      const value = find(scopes, part.path);
      if (value === undefined) throw new Discard(`there is no value \`${part.path}\`, ${place(template, part.at)}`);
      const text = value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
      out += part.raw ? text : text.replace(/[&<>"']/g, char => ESCAPES[char]);
    } else {
      const value = find(scopes, part.path);
      if (part.inverted !== counts(value)) {
        const items = Array.isArray(value) && !part.inverted ? value : [value];
        for (const item of items) out += render(template, part.parts, [...scopes, item]);
      }
    }
    if (out.length > OUTPUT_CHARS_MAX) throw new Discard(`the text would have more than ${OUTPUT_CHARS_MAX} characters`);
  }
  return out;
}

export default (args: Args, cx: Context) => {
  check(args, { template: "string", values: "object?" });
  const parts = parse(args.template);
  cx.debug(`${parts.length} parts`);
  return { text: render(args.template, parts, [args.values ?? {}]) };
};
