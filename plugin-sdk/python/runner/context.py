"""The job, and what its handler may ask of the runner. `host` is what answers: the runner, or a test's world."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterator

from .failure import Discard, Failure, Retry
from .text import text

PART_BYTES_MAX = 1 << 20  # What one call carries.


@dataclass
class Job:
    """One run of one job; the contract, plugin.wit, says what each field is."""

    id: str = "1"
    kind: str = ""
    tenant: str = "default"
    queue: str = "default"
    run: int = 1
    attempt: int = 1
    max_attempts: int = 25
    priority: int = 0
    enqueued_at: str = ""
    run_at: str = ""
    timeout_ms: int = 60_000
    tags: dict[str, str] = field(default_factory=dict)
    checkpoint: bytes | None = None
    dependencies: list[str] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)


class CallError(Exception):
    """A call that was refused or went wrong; nothing was done. Codes: denied, invalid, not_found, limit, unavailable."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{message} ({code})")
        self.code, self.message = code, message

    @property
    def temporary(self) -> bool:
        """Whether the same call may go well later."""
        return self.code not in ("denied", "invalid", "not_found", "limit")

    def failure(self) -> Failure:
        """A retry if the call may go well later, else a discard: `raise error.failure()`."""
        return Retry(str(self)) if self.temporary else Discard(str(self))


def word(value: str) -> str:
    """A name, key or address, as calls take it. What is none is an error here, with the handler's line, and no trap."""
    if not isinstance(value, str):
        raise TypeError(f"a call takes text there, not {value!r}")
    if text(value) != value:
        raise CallError("invalid", f"{value!r} has half a surrogate pair in it")
    return value


def octets(value: Any) -> bytes:
    """Bytes, as calls take them."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"a call takes bytes there, not {value!r}" + (": write .encode()" if isinstance(value, str) else ""))


def maybe(as_: Any, value: Any) -> Any:
    return None if value is None else as_(value)


def written(value: Any, what: str) -> str:
    try:
        return text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError("invalid", f"the {what} of the new job are not JSON: {error}") from error


class Context:
    """The job's fields (`cx.id`, `cx.attempt`, …) and calls."""

    def __init__(self, job: Job, host: Any):
        self.job, self._host = job, host

    def __getattr__(self, name: str) -> Any:
        if name == "job":
            raise AttributeError(name)
        return getattr(self.job, name)

    @property
    def is_last_attempt(self) -> bool:
        return self.job.attempt >= self.job.max_attempts

    def log(self, level: str, message: str) -> None:
        """A line of the run's log; level: trace, debug, info, warn, error."""
        self._host.log(level, text(message))

    def trace(self, message: str) -> None:
        self.log("trace", message)

    def debug(self, message: str) -> None:
        self.log("debug", message)

    def info(self, message: str) -> None:
        self.log("info", message)

    def warn(self, message: str) -> None:
        self.log("warn", message)

    def error(self, message: str) -> None:
        self.log("error", message)

    def progress(self, percent: int, message: str = "") -> None:
        """How far the run is: 0 to 100."""
        self._host.progress(max(0, min(round(percent), 100)), text(message))

    def cancelled(self) -> bool:
        """True once the run should end soon."""
        return self._host.cancelled()

    def enqueue(self, kind: str, args: Any = None, **options: Any) -> str:
        """Makes a job, recorded with the run's outcome; answers with its id. Options are further fields of a job: `queue`,
        `priority`, `delay`, `depends_on`, `tags`, …"""
        data = args if isinstance(args, bytes) else written(args, "args").encode()
        return self._host.enqueue(word(kind), data, written(options, "options") if options else "")

    def leave(self, checkpoint: bytes) -> None:
        """Leaves up to 256 KiB for a later run to resume from: its `cx.checkpoint`."""
        self._host.checkpoint(octets(checkpoint))

    def output_of(self, job_id: str) -> bytes | None:
        """The output of a completed dependency."""
        return self._host.output_of(word(job_id))

    def pause_schedule(self) -> None:
        """Pauses the schedule that made this job."""
        self._host.pause_schedule()

    @property
    def kv(self) -> Kv:
        """Small durable values; reads see this run's own writes, which are recorded with its outcome."""
        return Kv(self._host)

    def blobs(self, container: str) -> Blobs:
        """A container of large values, granted by the manifest. Not staged: a finished write stays."""
        return Blobs(self._host, container)

    def config(self, name: str) -> str | None:
        """A setting that the operator gave; None: not set."""
        return self._host.config(word(name))

    def secret(self, name: str) -> str:
        """A secret that the manifest asks for and the operator gave."""
        return self._host.secret(word(name))

    def send(self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None,
             timeout: float | None = None) -> Response:
        """Sends one granted HTTP request. Redirects are answers."""
        ms = None if timeout is None else round(timeout * 1000)
        pairs = [(word(name), word(value)) for name, value in (headers or {}).items()]
        return self._host.send(word(method), word(url), pairs, octets(body), ms)


@dataclass
class Response:
    """The answer to a request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Kv:
    """See `Context.kv`."""

    def __init__(self, host: Any):
        self._host = host

    def get(self, key: str) -> bytes | None:
        return self._host.kv_get(word(key))

    def set(self, key: str, value: bytes) -> None:
        self._host.kv_set(word(key), octets(value))

    def remove(self, key: str) -> None:
        self._host.kv_remove(word(key))

    def compare_and_set(self, key: str, expected: bytes | None, value: bytes | None) -> None:
        """Sets a value if it is still the expected one when the run is recorded; None is absent."""
        self._host.kv_compare_and_set(word(key), maybe(octets, expected), maybe(octets, value))

    def keys(self, prefix: str = "", after: str | None = None, limit: int = 1000) -> list[str]:
        return self._host.kv_keys(word(prefix), maybe(word, after), limit)


class Blobs:
    """See `Context.blobs`."""

    def __init__(self, host: Any, container: str):
        self._host, self._container = host, word(container)

    def size(self, name: str) -> int | None:
        """None: there is no such blob."""
        return self._host.blob_size(self._container, word(name))

    def read(self, name: str, offset: int = 0, length: int = PART_BYTES_MAX) -> bytes:
        """At most 1 MiB; fewer bytes only at the end."""
        return self._host.blob_read(self._container, word(name), offset, length)

    def parts(self, name: str) -> Iterator[bytes]:
        """The whole blob, in parts of at most 1 MiB."""
        offset = 0
        while part := self.read(name, offset):
            yield part
            offset += len(part)

    def read_all(self, name: str) -> bytes:
        return b"".join(self.parts(name))

    def write(self, name: str, *parts: bytes) -> None:
        """Writes a whole blob, which appears at once."""
        writer = self._host.blob_begin(self._container, word(name))
        for part in map(octets, parts):
            for at in range(0, len(part), PART_BYTES_MAX):
                self._host.blob_write(writer, part[at : at + PART_BYTES_MAX])
        self._host.blob_finish(writer)

    def remove(self, name: str) -> None:
        self._host.blob_remove(self._container, word(name))

    def names(self, prefix: str = "", after: str | None = None, limit: int = 1000) -> list[str]:
        return self._host.blob_names(self._container, word(prefix), maybe(word, after), limit)
