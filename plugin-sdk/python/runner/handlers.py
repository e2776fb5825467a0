"""Which function handles which kind."""

from __future__ import annotations

import inspect
import json
import typing
from typing import Any, Callable

from .args import read
from .context import Context
from .failure import Discard, Failure
from .text import text

ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_handlers: dict[str, tuple[Callable, Any, int]] = {}


def handler(*names: str) -> Callable:
    """Makes a function the handler of kinds: `f(args, cx)`, `f(args)` or `f()`. The type of `args` says what they must be."""

    if not names or not all(isinstance(name, str) for name in names):
        # `@handler` alone would be a handler of nothing, and every job would be discarded.
        raise TypeError('a handler names its kinds: @handler("a.b")')

    def register(function: Callable) -> Callable:
        parameters = list(inspect.signature(function).parameters)
        hints = typing.get_type_hints(function)
        wanted = hints.get(parameters[0], Any) if parameters else bytes
        for kind in names:
            if kind in _handlers:
                raise ValueError(f"the kind {kind!r} has two handlers")
            _handlers[kind] = (function, wanted, len(parameters))
        return function

    return register


def kinds() -> list[str]:
    """The kinds that have a handler."""
    return sorted(_handlers)


def without(kind: str) -> None:
    """Forgets the handler of a kind."""
    del _handlers[kind]


def dispatch(cx: Context, data: bytes) -> bytes:
    """Runs the job of a context. The only handler serves whatever kinds the manifest names."""
    found = _handlers.get(cx.kind)
    if found is None and len(_handlers) == 1:
        found = next(iter(_handlers.values()))
    if found is None:
        raise Discard(f"this plugin has no handler for {cx.kind!r}; it has {', '.join(kinds()) or 'none'}")
    function, wanted, count = found
    output = function(*(read(wanted, data), cx)[:count]) if count else function()
    if isinstance(output, Failure):
        # Returned where it was meant to be raised.
        raise output
    if output is None or isinstance(output, bytes):
        return output or b""
    try:
        return text(ENCODER.encode(output)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # Another attempt would make the same.
        raise Discard(f"the output is not JSON: {error}") from error
