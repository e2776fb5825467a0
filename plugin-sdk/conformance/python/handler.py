"""The test handler of the Python SDK: does what `do` in its args says; what must come of it stands in ../behaviours.toml."""

from dataclasses import dataclass
from typing import Any

from runner import CallError, Context, Discard, Retry, Snooze, handler


@dataclass
class User:
    id: int
    name: str | None = None


@dataclass
class Ask:
    do: str
    value: Any = None
    after_ms: int | None = None
    user: User | None = None
    kind: str = ""
    url: str = ""


@handler("conformance")
def conformance(ask: Ask, cx: Context) -> Any:
    act = ACTS.get(ask.do)
    if act is None:
        raise Discard(f"args do not fit: `do`: {ask.do!r} is unknown")
    return act(ask, cx)


def retry(ask: Ask, cx: Context) -> None:
    raise Retry("not now", after=None if ask.after_ms is None else ask.after_ms / 1000)


def discard(ask: Ask, cx: Context) -> None:
    raise Discard("never")


def snooze(ask: Ask, cx: Context) -> None:
    raise Snooze(ask.after_ms / 1000, "too early")


def error(ask: Ask, cx: Context) -> None:
    raise OSError("an ordinary error")


def panic(ask: Ask, cx: Context) -> None:
    raise SystemExit("on purpose")


def log(ask: Ask, cx: Context) -> None:
    cx.trace("a trace")
    cx.debug("a debug")
    cx.info("an info ✓")
    cx.warn("a warn")
    cx.error("an error")


def job(ask: Ask, cx: Context) -> dict:
    return {"id": cx.id, "kind": cx.kind, "tenant": cx.tenant, "queue": cx.queue, "run": cx.run, "attempt": cx.attempt,
            "max_attempts": cx.max_attempts, "tags": cx.tags}


def refused(call: Any) -> Any:
    try:
        return call()
    except CallError as error:
        return {"refused": error.code}


def kv(ask: Ask, cx: Context) -> dict:
    cx.kv.set("k/a", b"1")
    cx.kv.compare_and_set("k/b", None, b"2")
    cx.kv.set("k/c", b"3")
    cx.kv.remove("k/c")
    return {"got": cx.kv.get("k/a").decode(), "absent": cx.kv.get("k/c"), "keys": cx.kv.keys("k/", limit=10)}


def blobs(ask: Ask, cx: Context) -> dict:
    box = cx.blobs("box")
    box.write("d/one", b"hello", b"world")
    box.write("d/two", b"2")
    box.remove("d/two")
    return {"size": box.size("d/one"), "read": box.read("d/one", 0, 5).decode(), "names": box.names("d/"),
            "gone": box.size("d/two")}


def http(ask: Ask, cx: Context) -> Any:
    def send() -> dict:
        answer = cx.send("POST", ask.url, b"ping")
        return {"status": answer.status, "body": answer.body.decode()}

    return refused(send)


def spin(ask: Ask, cx: Context) -> None:
    while True:
        pass


def hog(ask: Ask, cx: Context) -> None:
    taken = []
    while True:
        taken.append(bytearray(1 << 20))


ACTS = {
    "echo": lambda ask, cx: ask.value,
    "nothing": lambda ask, cx: None,
    "retry": retry,
    "discard": discard,
    "snooze": snooze,
    "error": error,
    "panic": panic,
    "typed": lambda ask, cx: {"id": ask.user.id, "name": ask.user.name},
    "job": job,
    "print": lambda ask, cx: print("printed ✓"),
    "log": log,
    "enqueue": lambda ask, cx: refused(lambda: {"id": cx.enqueue(ask.kind, {"n": 1}, queue="children")}),
    "progress": lambda ask, cx: cx.progress(40, "half ½"),
    "checkpoint": lambda ask, cx: cx.leave(b"page 7"),
    "resume": lambda ask, cx: cx.checkpoint and cx.checkpoint.decode(),
    "cancelled": lambda ask, cx: cx.cancelled(),
    "kv": kv,
    "blobs": blobs,
    "blobs_denied": lambda ask, cx: refused(lambda: cx.blobs("other").size("x")),
    "config": lambda ask, cx: {"greeting": cx.config("GREETING"), "unset": cx.config("UNSET"), "secret": cx.secret("PASSWORD")},
    "http": http,
    "spin": spin,
    "hog": hog,
}
