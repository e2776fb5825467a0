"""Handlers for runner in Python: a function from typed args to a value, or an exception.

    from dataclasses import dataclass
    from runner import Context, Discard, handler

    @dataclass
    class Args:
        name: str
        shout: bool = False

    @handler("hello.greet")
    def greet(args: Args, cx: Context) -> dict:
        if not args.name:
            raise Discard("nobody to greet")
        cx.info(f"attempt {cx.attempt}")
        return {"greeting": f"Hello, {args.name}!"}

`runner plugin build` makes a plugin of it with componentize-py; `runner.testing` runs it in an ordinary Python. Args of the
wrong shape discard the job and name the field. Any exception is a failed attempt, its traceback in the run's log; `Retry`,
`Discard` and `Snooze` say more.

It deliberately keeps nothing between runs: every run has an instance of its own.
"""

from .args import misfit, read
from .context import Blobs, CallError, Context, Job, Response, Kv
from .failure import Discard, Failure, Retry, Snooze
from .handlers import dispatch, handler

__all__ = [
    "Blobs", "CallError", "Context", "Discard", "Failure", "Job", "Kv", "Response", "Retry", "Snooze",
    "dispatch", "handler", "misfit", "read",
]
