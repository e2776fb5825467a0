"""The plugin's side of the contract: the export that the runner calls, and its imports as a host. In a plugin only."""

import gc
import sys
import traceback
from dataclasses import dataclass
from typing import Any, Callable

from componentize_py_types import Err
from wit_world.imports import blobs, config, host, http, kv, types

from .context import CallError, Context, Job, Response
from .failure import Discard, Retry, Snooze, described
from .handlers import dispatch, handler, kinds, without
from .text import text

LEVELS = {level.name.lower(): level for level in host.Level}

# The plugin's module has been imported by now. Without a handler every job would be discarded; so nothing is built.
if not kinds():
    raise TypeError('there is no handler in this plugin: decorate a function with @handler("a.b")')


def asked(call: Callable, *args: Any) -> Any:
    try:
        return call(*args)
    except Err as error:
        raise CallError(error.value.code, error.value.message) from None


class Runner:
    """The contract's imports."""

    def log(self, level: str, message: str) -> None:
        host.log(LEVELS[level], message)

    def progress(self, percent: int, message: str) -> None:
        host.progress(percent, message)

    def cancelled(self) -> bool:
        return host.cancelled()

    def enqueue(self, kind: str, args: bytes, options: str) -> str:
        return asked(host.enqueue, host.NewJob(kind, args, options))

    def checkpoint(self, data: bytes) -> None:
        asked(host.checkpoint, data)

    def output_of(self, job_id: str) -> bytes | None:
        return asked(host.output_of, job_id)

    def pause_schedule(self) -> None:
        asked(host.pause_schedule)

    def send(self, method: str, url: str, headers: list, body: bytes, timeout_ms: int | None) -> Response:
        answer = asked(http.send, http.Request(method, url, headers, body, timeout_ms))
        return Response(answer.status, answer.headers, answer.body)


# The rest is the contract's own functions under the names that `Context` has for them.
for name, call in {
    "kv_get": kv.get, "kv_set": kv.set, "kv_remove": kv.remove, "kv_compare_and_set": kv.compare_and_set, "kv_keys": kv.keys,
    "blob_size": blobs.size, "blob_read": blobs.read, "blob_begin": blobs.begin, "blob_write": blobs.write_part,
    "blob_finish": blobs.finish, "blob_remove": blobs.remove, "blob_names": blobs.names,
    "config": config.get, "secret": config.secret,
}.items():
    setattr(Runner, name, lambda self, *args, call=call: asked(call, *args))


class Handler:
    """What componentize-py looks for: the interface `handler`."""

    def handle(self, job: types.Job) -> bytes:
        seen = Job(
            id=job.id, kind=job.kind, tenant=job.tenant, queue=job.queue, run=job.run, attempt=job.attempt,
            max_attempts=job.max_attempts, priority=job.priority, enqueued_at=job.enqueued_at, run_at=job.run_at,
            timeout_ms=job.timeout_ms, tags=dict(job.tags), checkpoint=job.checkpoint,
            dependencies=list(job.dependencies), meta=dict(job.meta),
        )
        try:
            return dispatch(Context(seen, Runner()), job.args)
        except Retry as end:
            raise Err(types.Failure_Retry(types.Retry(text(end), end.after_ms))) from None
        except Discard as end:
            raise Err(types.Failure_Discard(text(end))) from None
        except Snooze as end:
            raise Err(types.Failure_Snooze(types.Snooze(end.after_ms, end.why and text(end.why)))) from None
        except BaseException as error:
            # `sys.exit` and its kin, too: there is no process to end, and what is not answered is a trap without a word.
            # To the run's log; the innermost line is the handler's own.
            print(text(traceback.format_exc()), end="", file=sys.stderr)
            why = text(described(error))
            raise Err(types.Failure_Retry(types.Retry(why, None))) from None


@dataclass
class Sample:
    """Args as most handlers take them."""

    text: str
    number: int | None = None


def warm_up() -> None:
    """Runs the way of a job through this package until Python has settled how. It notes that beside the code, and in a plugin
    each run would do so anew, each time in a copy of the page: 2.2 ms a run instead of 2.0."""
    kind = "warm up"  # No job's: there is no space in a kind.

    @handler(kind)
    def nothing(args: Sample, cx: Context) -> None:
        pass

    job = types.Job(
        id="1", kind=kind, tenant="", queue="", run=1, attempt=1, max_attempts=1, priority=0, enqueued_at="", run_at="",
        timeout_ms=1, args=b'{"text": "a", "number": 1}', tags=[], checkpoint=None, dependencies=[], meta=[],
    )
    for _ in range(100):
        Handler().handle(job)
    without(kind)


warm_up()
# What is there now is there in every run: a collection would look through all of it, and write to each page.
gc.freeze()
