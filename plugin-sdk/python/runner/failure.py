"""How a handler ends other than with a value. Durations are seconds, or a `timedelta`."""

from __future__ import annotations

from datetime import timedelta

MILLIS_MAX = 2**32 - 1  # 49 days: what the contract has room for.


class Failure(Exception):
    """What a handler raises on purpose."""


class Retry(Failure):
    """Try again, by the job's retry policy or `after` so long; counts as a failed attempt."""

    def __init__(self, why: str, after: float | timedelta | None = None):
        super().__init__(why)
        self.after_ms = None if after is None else millis(after)


class Discard(Failure):
    """Give up for good: what was asked for will never work."""


class Snooze(Failure):
    """Run later, no attempt counted; the runner takes 100 ms to 30 days."""

    def __init__(self, after: float | timedelta, why: str | None = None):
        super().__init__(why or "")
        self.after_ms = millis(after)
        self.why = why


def millis(duration: float | timedelta) -> int:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return max(0, min(round(seconds * 1000), MILLIS_MAX))


def described(error: BaseException) -> str:
    """What the run's error says of an exception that nobody caught."""
    why = f"{type(error).__name__}: {error}"
    # Nothing is loaded while a plugin runs: it has what was imported while it was built.
    if isinstance(error, ImportError):
        return f"{why}; import it at the head of the module, as a plugin has what was imported while it was built"
    if isinstance(error, LookupError) and str(error).startswith("unknown encoding"):
        return f"{why}; look it up with `codecs.lookup` at the head of the module, as a plugin has what was used while it was built"
    return why
