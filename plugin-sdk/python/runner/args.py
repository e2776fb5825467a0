"""Args: JSON into dataclasses and the types of the standard library, with the path of what does not fit."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from typing import Any

from .failure import Discard

DEPTH_MAX = 500  # Lists and objects within each other: more than any args have, and less than the stack of a plugin holds.
NOT_NESTING = bytes(set(range(256)) - set(b"[]{}"))
JSON_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def read(wanted: Any, data: bytes) -> Any:
    """Args as `wanted`: `bytes` (as they are), a dataclass, or whatever JSON is. Discards what does not fit."""
    if wanted is bytes:
        return data
    if is_too_deep(data):
        raise Discard(f"args are not JSON: they are nested deeper than {DEPTH_MAX}")
    try:
        value = DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Discard(f"args are not JSON: {error}") from None
    return fit(wanted, value, "")


def is_too_deep(data: bytes) -> bool:
    """Whether reading it would end the plugin's stack, and the run as a trap: there, Python's own limit comes too late."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return False
    # What is outside of strings, and of that what opens and closes; then a level goes at a time, the innermost first.
    outside = b"".join(data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    nested = outside.translate(None, NOT_NESTING)
    for _ in range(DEPTH_MAX):
        shorter = nested.replace(b"[]", b"").replace(b"{}", b"")
        if len(shorter) == len(nested):
            break
        nested = shorter
    # What was never closed is as deep as it is long.
    return len(nested) > DEPTH_MAX


def no_constant(word: str) -> Any:
    # Python reads them, and would write them again; nobody else takes them for JSON.
    raise ValueError(f"{word} is none of its numbers")


# `json.loads` would make one for every run.
DECODER = json.JSONDecoder(parse_constant=no_constant)


def misfit(path: str, why: str) -> Discard:
    where = f"`{path}`: " if path else ""
    return Discard(f"args do not fit: {where}{why}")


def fit(wanted: Any, value: Any, path: str) -> Any:
    """A value as a type, or a discard that names its path."""
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (Any, object, dataclasses.MISSING):
        return value
    if origin in (typing.Union, types.UnionType):
        return fit_any(parts, value, path)
    if origin is typing.Literal:
        if value in parts:
            return value
        raise misfit(path, f"is {shown(value)}, not one of {', '.join(map(repr, parts))}")
    if origin is list or wanted is list:
        items = expect(list, value, path)
        part = parts[0] if parts else Any
        return [fit(part, item, f"{path}[{i}]") for i, item in enumerate(items)]
    if origin is dict or wanted is dict:
        part = parts[1] if parts else Any
        return {key: fit(part, item, join(path, key)) for key, item in expect(dict, value, path).items()}
    if dataclasses.is_dataclass(wanted):
        return fit_fields(wanted, expect(dict, value, path), path)
    if wanted in (str, int, float, bool):
        return expect(wanted, value, path)
    raise TypeError(f"args cannot be {wanted!r}: take dataclasses, str, int, float, bool, list, dict, None, Literal or Any")


def fit_any(parts: tuple, value: Any, path: str) -> Any:
    if value is None and type(None) in parts:
        return None
    parts = tuple(part for part in parts if part is not type(None))
    for part in parts[:-1]:
        try:
            return fit(part, value, path)
        except Discard:
            pass
    return fit(parts[-1], value, path)


def fit_fields(wanted: type, value: dict, path: str) -> Any:
    fields = {}
    for name, hint, needed in fields_of(wanted):
        if name in value:
            fields[name] = fit(hint, value[name], join(path, name))
        elif needed:
            raise misfit(join(path, name), "it is missing")
    return wanted(**fields)


@functools.cache
def fields_of(wanted: type) -> tuple[tuple[str, Any, bool], ...]:
    """The name, type and need of each field."""
    hints, missing = typing.get_type_hints(wanted), dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(wanted)
    )


def expect(wanted: type, value: Any, path: str) -> Any:
    # In Python True is 1; in JSON it is not.
    fits = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            value, fits = math.inf, True
    if not fits:
        raise misfit(path, f"is {shown(value)}, not {JSON_NAMES[wanted]}")
    if wanted is float and math.isinf(value):
        raise misfit(path, "is more than a number of 64 bits can be")
    return value


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
