"""Args: JSON into dataclasses and the types of the standard library, with the path of what does not fit."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import Any

from .failure import Discard

JSON_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def read(wanted: Any, data: bytes) -> Any:
    """Args as `wanted`: `bytes` (as they are), a dataclass, or whatever JSON is. Discards what does not fit."""
    if wanted is bytes:
        return data
    try:
        value = json.loads(data, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Discard(f"args are not JSON: {error}") from None
    return fit(wanted, value, "")


def no_constant(word: str) -> Any:
    # Python reads them, and would write them again; nobody else takes them for JSON.
    raise ValueError(f"{word} is none of its numbers")


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
    hints, fields = typing.get_type_hints(wanted), {}
    for field in dataclasses.fields(wanted):
        if field.name in value:
            fields[field.name] = fit(hints[field.name], value[field.name], join(path, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise misfit(join(path, field.name), "it is missing")
    return wanted(**fields)


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
