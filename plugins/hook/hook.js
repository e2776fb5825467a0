// hook.call: posts an event as JSON to a web hook: {"event": "order.paid", "data": {…}, "url": "https://hooks.example.com/x"}.
// Without `url` it goes where the setting HOOK_URL says.
//
// A hook that is down or busy is tried again, when it says so (Retry-After); one that refuses the event is not.

const SECONDS_MAX = 3600;

/** What a server says of when to come again, in milliseconds. */
const retryAfter = answer => {
  const seconds = Number(answer.header("retry-after"));
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, SECONDS_MAX) * 1000 : undefined;
};

export default (args, cx) => {
  check(args, { event: "string", data: "any?", url: "string?" });
  const url = args.url ?? cx.config("HOOK_URL");
  if (!url) throw new Discard("no `url` in the args, and the setting HOOK_URL is not set");
  let answer;
  try {
    answer = cx.send({
      method: "POST",
      url,
      // The same for every run of the job, so that the other side can tell a repetition.
      headers: { "content-type": "application/json", "idempotency-key": `${cx.tenant}-${cx.id}` },
      body: JSON.stringify({ event: args.event, data: args.data ?? null, attempt: cx.attempt }),
    });
  } catch (error) {
    throw error instanceof CallError ? error.failure() : error;
  }
  cx.info(`${url} answers ${answer.status}`);
  if (answer.status === 429 || answer.status >= 500) {
    throw new Retry(`the hook answers ${answer.status}`, { after: retryAfter(answer) });
  }
  if (answer.status >= 300) throw new Discard(`the hook refuses the event: ${answer.status} ${answer.text().slice(0, 200)}`);
  return { status: answer.status };
};
