"""Runs a handler in an ordinary Python, with a world around it that a test makes:

    from runner.testing import World
    import hello                                     # the plugin's module: its handlers

    def test_greets():
        world = World(attempt=2)
        assert world.run("hello.greet", {"name": "Ada"}) == {"greeting": "Hello, Ada!"}
        assert world.logs == ["info: attempt 2"]

What a handler raises comes out of `run`: `with pytest.raises(Discard)`.
"""

from __future__ import annotations

import json
from typing import Any, Callable

from .context import CallError, Context, Job, Response
from .handlers import dispatch


class World:
    """The job, what lies there before the run, and what the run left."""

    def __init__(self, *, kv: dict[str, bytes] | None = None, blobs: dict[str, dict[str, bytes]] | None = None,
                 config: dict[str, str] | None = None, secrets: dict[str, str] | None = None,
                 http: Callable[..., Response] | None = None, cancelled: bool = False, **job: Any):
        self.kv, self.blobs = dict(kv or {}), {name: dict(all) for name, all in (blobs or {}).items()}
        self._config, self._secrets, self._http, self._cancelled = config or {}, secrets or {}, http, cancelled
        self._job, self._writers = job, {}
        self.logs: list[str] = []
        self.enqueued: list[tuple[str, Any, dict]] = []
        self.left: bytes | None = None
        self.told: tuple[int, str] | None = None

    def run(self, kind: str, args: Any = None) -> Any:
        """Runs the handler of a kind; answers with its output as a value, or None."""
        data = args if isinstance(args, bytes) else json.dumps(args).encode()
        output = dispatch(Context(Job(kind=kind, **self._job), self), data)
        return json.loads(output) if output else None

    def log(self, level: str, message: str) -> None:
        self.logs.append(f"{level}: {message}")

    def progress(self, percent: int, message: str) -> None:
        self.told = (percent, message)

    def cancelled(self) -> bool:
        return self._cancelled

    def enqueue(self, kind: str, args: bytes, options: str) -> str:
        self.enqueued.append((kind, json.loads(args), json.loads(options or "{}")))
        return str(100 + len(self.enqueued))

    def checkpoint(self, data: bytes) -> None:
        self.left = data

    def output_of(self, job_id: str) -> bytes | None:
        raise CallError("not_found", f"this job does not depend on a job `{job_id}`")

    def pause_schedule(self) -> None:
        raise CallError("not_found", "no schedule made this job")

    def kv_get(self, key: str) -> bytes | None:
        return self.kv.get(key)

    def kv_set(self, key: str, value: bytes) -> None:
        self.kv[key] = value

    def kv_remove(self, key: str) -> None:
        self.kv.pop(key, None)

    def kv_compare_and_set(self, key: str, expected: bytes | None, value: bytes | None) -> None:
        self.kv_remove(key) if value is None else self.kv_set(key, value)

    def kv_keys(self, prefix: str, after: str | None, limit: int) -> list[str]:
        return _names(self.kv, prefix, after, limit)

    def _container(self, name: str) -> dict[str, bytes]:
        if name not in self.blobs:
            raise CallError("denied", f"the container `{name}` is not in the test's blobs")
        return self.blobs[name]

    def blob_size(self, container: str, name: str) -> int | None:
        data = self._container(container).get(name)
        return None if data is None else len(data)

    def blob_read(self, container: str, name: str, offset: int, length: int) -> bytes:
        if name not in self._container(container):
            raise CallError("not_found", f"there is no blob `{name}`")
        return self._container(container)[name][offset : offset + min(length, 1 << 20)]

    def blob_begin(self, container: str, name: str) -> int:
        self._container(container)
        number = len(self._writers) + 1
        self._writers[number] = (container, name, bytearray())
        return number

    def blob_write(self, writer: int, data: bytes) -> None:
        self._writers[writer][2].extend(data)

    def blob_finish(self, writer: int) -> None:
        container, name, data = self._writers[writer]
        self.blobs[container][name] = bytes(data)

    def blob_remove(self, container: str, name: str) -> None:
        self._container(container).pop(name, None)

    def blob_names(self, container: str, prefix: str, after: str | None, limit: int) -> list[str]:
        return _names(self._container(container), prefix, after, limit)

    def config(self, name: str) -> str | None:
        return self._config.get(name)

    def secret(self, name: str) -> str:
        if name not in self._secrets:
            raise CallError("denied", f"the secret `{name}` is not in the test's secrets")
        return self._secrets[name]

    def send(self, method: str, url: str, headers: list, body: bytes, timeout_ms: int | None) -> Response:
        if self._http is None:
            raise CallError("denied", "the test has no http")
        return self._http(method, url, headers, body)


def _names(all: dict[str, bytes], prefix: str, after: str | None, limit: int) -> list[str]:
    return sorted(name for name in all if name.startswith(prefix) and name > (after or ""))[:limit]
