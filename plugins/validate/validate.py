"""json.validate: holds JSON against a JSON Schema and answers with what does not fit, and where.

    {"schema": {…}, "document": {…}}   or   {"schema_from": "schemas/order.json", "document": {…}}

Keywords: type, enum, const; properties, required, additionalProperties, patternProperties, propertyNames, minProperties,
maxProperties, dependentRequired; items, prefixItems, contains, minItems, maxItems, uniqueItems; minLength, maxLength, pattern;
minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf; allOf, anyOf, oneOf, not, if/then/else; $ref within the
schema, $defs. A keyword that is none of these and not only a remark is discarded by name: a schema that is half understood would
pass what it forbids.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Iterator

from runner import CallError, Context, Discard, handler

ERRORS_MAX = 100
DEPTH_MAX = 64
REMARKS = {"$schema", "$id", "$defs", "$comment", "definitions", "title", "description", "default", "examples", "format",
           "readOnly", "writeOnly", "deprecated"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


@dataclass
class Args:
    document: Any
    schema: dict | bool | None = None
    schema_from: str | None = None


@handler("json.validate")
def validate(args: Args, cx: Context) -> dict:
    schema = args.schema if args.schema_from is None else stored(args.schema_from, cx)
    if schema is None:
        raise Discard("args do not fit: give `schema` or `schema_from`")
    errors = []
    for error in check(args.document, schema, Place(schema, "", 0)):
        errors.append(error)
        if len(errors) == ERRORS_MAX:
            cx.warn(f"more than {ERRORS_MAX} errors; the rest is left out")
            break
    return {"valid": not errors, "errors": errors}


def stored(path: str, cx: Context) -> Any:
    container, slash, name = path.partition("/")
    if not slash:
        raise Discard("args do not fit: `schema_from` is CONTAINER/NAME")
    try:
        return json.loads(cx.blobs(container).read_all(name))
    except CallError as error:
        raise error.failure() from None
    except ValueError as error:
        raise Discard(f"the schema {path} is not JSON: {error}") from None


@dataclass
class Place:
    """Where in the document, and the schema that references are of."""

    root: Any
    path: str
    depth: int

    def at(self, step: Any) -> "Place":
        return Place(self.root, f"{self.path}/{str(step).replace('~', '~0').replace('/', '~1')}", self.depth + 1)

    def deeper(self) -> "Place":
        return Place(self.root, self.path, self.depth + 1)

    def error(self, message: str) -> dict:
        return {"path": self.path or "/", "message": message}


def check(value: Any, schema: Any, place: Place) -> Iterator[dict]:
    """What does not fit."""
    if place.depth > DEPTH_MAX:
        raise Discard(f"more than {DEPTH_MAX} deep at {place.path or '/'}: does the schema refer to itself?")
    if isinstance(schema, bool):
        if not schema:
            yield place.error("nothing is allowed here")
        return
    if not isinstance(schema, dict):
        raise Discard(f"the schema is not right: {json.dumps(schema)[:80]} is neither an object nor true or false")
    for keyword, wanted in schema.items():
        if keyword in KEYWORDS:
            yield from KEYWORDS[keyword](value, wanted, schema, place)
        elif keyword not in REMARKS and keyword not in ("then", "else"):
            raise Discard(f"the schema has the keyword `{keyword}`, which is not known here")


def fits(value: Any, schema: Any, place: Place) -> bool:
    return next(check(value, schema, place.deeper()), None) is None


def is_a(value: Any, name: str) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "number":
        return number
    if name == "integer":
        return number and value == int(value)
    if name not in TYPES:
        raise Discard(f"the schema has the type `{name}`, which there is not")
    return isinstance(value, TYPES[name])


def same(a: Any, b: Any) -> bool:
    """In Python 1 is True; in JSON it is not."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True) or (is_a(a, "number") and is_a(b, "number") and a == b)


def type_(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    names = wanted if isinstance(wanted, list) else [wanted]
    if not any(is_a(value, name) for name in names):
        yield place.error(f"is not of type {' or '.join(names)}")


def when(kind: str, holds: Any, message: str) -> Any:
    """A keyword about values of a kind: what must hold, and what is said otherwise."""

    def keyword(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
        if is_a(value, kind) and not holds(value, wanted):
            yield place.error(message.format(json.dumps(wanted)))

    return keyword


def ref(value: Any, wanted: str, schema: dict, place: Place) -> Iterator[dict]:
    target = place.root
    if not wanted.startswith("#"):
        raise Discard(f"the schema refers to `{wanted}`; only what is within it, `#/…`, is known")
    for step in wanted[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        try:
            target = target[int(step)] if isinstance(target, list) else target[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Discard(f"the schema refers to `{wanted}`, which is not in it") from None
    yield from check(value, target, place.deeper())


def properties(value: Any, wanted: dict, schema: dict, place: Place) -> Iterator[dict]:
    for name, sub in wanted.items():
        if is_a(value, "object") and name in value:
            yield from check(value[name], sub, place.at(name))


def pattern_properties(value: Any, wanted: dict, schema: dict, place: Place) -> Iterator[dict]:
    for name, item in value.items() if is_a(value, "object") else ():
        for pattern, sub in wanted.items():
            if found(pattern, name):
                yield from check(item, sub, place.at(name))


def additional(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    for name, item in value.items() if is_a(value, "object") else ():
        if name in schema.get("properties", {}) or any(found(p, name) for p in schema.get("patternProperties", {})):
            continue
        if wanted is False:
            yield place.at(name).error("is a property that there should not be")
        else:
            yield from check(item, wanted, place.at(name))


def required(value: Any, wanted: list, schema: dict, place: Place) -> Iterator[dict]:
    for name in wanted if is_a(value, "object") else ():
        if name not in value:
            yield place.error(f"lacks the property `{name}`")


def dependent_required(value: Any, wanted: dict, schema: dict, place: Place) -> Iterator[dict]:
    for name, others in wanted.items() if is_a(value, "object") else ():
        if name in value:
            yield from required(value, others, schema, place)


def property_names(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    for name in value if is_a(value, "object") else ():
        yield from check(name, wanted, place.at(name))


def prefix_items(value: Any, wanted: list, schema: dict, place: Place) -> Iterator[dict]:
    for i, sub in enumerate(wanted if is_a(value, "array") else ()):
        if i < len(value):
            yield from check(value[i], sub, place.at(i))


def items(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    first = len(schema.get("prefixItems", ()))
    for i, item in enumerate(value[first:] if is_a(value, "array") else ()):
        yield from check(item, wanted, place.at(first + i))


def contains(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    if is_a(value, "array") and not any(fits(item, wanted, place) for item in value):
        yield place.error("has no item that fits `contains`")


def all_of(value: Any, wanted: list, schema: dict, place: Place) -> Iterator[dict]:
    for sub in wanted:
        yield from check(value, sub, place.deeper())


def any_of(value: Any, wanted: list, schema: dict, place: Place) -> Iterator[dict]:
    if not any(fits(value, sub, place) for sub in wanted):
        yield place.error(f"fits none of the {len(wanted)} of `anyOf`")


def one_of(value: Any, wanted: list, schema: dict, place: Place) -> Iterator[dict]:
    count = sum(fits(value, sub, place) for sub in wanted)
    if count != 1:
        yield place.error(f"fits {count} of the {len(wanted)} of `oneOf`, not one")


def not_(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    if fits(value, wanted, place):
        yield place.error("fits what it must not")


def if_(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    branch = schema.get("then" if fits(value, wanted, place) else "else", True)
    yield from check(value, branch, place.deeper())


def enum(value: Any, wanted: list, schema: dict, place: Place) -> Iterator[dict]:
    if not any(same(value, one) for one in wanted):
        yield place.error(f"is not one of {json.dumps(wanted)}")


def const(value: Any, wanted: Any, schema: dict, place: Place) -> Iterator[dict]:
    if not same(value, wanted):
        yield place.error(f"is not {json.dumps(wanted)}")


def found(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise Discard(f"the schema has the pattern `{pattern}`, which is not right: {error}") from None


def unique(value: list, wanted: bool) -> bool:
    return not wanted or len({json.dumps(item, sort_keys=True) for item in value}) == len(value)


def multiple(value: float, wanted: float) -> bool:
    ratio = value / wanted
    return abs(ratio - round(ratio)) < 1e-9


KEYWORDS = {
    "$ref": ref, "type": type_, "enum": enum, "const": const,
    "properties": properties, "patternProperties": pattern_properties, "additionalProperties": additional,
    "required": required, "dependentRequired": dependent_required, "propertyNames": property_names,
    "minProperties": when("object", lambda v, n: len(v) >= n, "has fewer than {} properties"),
    "maxProperties": when("object", lambda v, n: len(v) <= n, "has more than {} properties"),
    "prefixItems": prefix_items, "items": items, "contains": contains,
    "minItems": when("array", lambda v, n: len(v) >= n, "has fewer than {} items"),
    "maxItems": when("array", lambda v, n: len(v) <= n, "has more than {} items"),
    "uniqueItems": when("array", unique, "has an item twice"),
    "minLength": when("string", lambda v, n: len(v) >= n, "is shorter than {}"),
    "maxLength": when("string", lambda v, n: len(v) <= n, "is longer than {}"),
    "pattern": when("string", lambda v, p: found(p, v), "does not match {}"),
    "minimum": when("number", lambda v, n: v >= n, "is less than {}"),
    "maximum": when("number", lambda v, n: v <= n, "is more than {}"),
    "exclusiveMinimum": when("number", lambda v, n: v > n, "is not more than {}"),
    "exclusiveMaximum": when("number", lambda v, n: v < n, "is not less than {}"),
    "multipleOf": when("number", multiple, "is no multiple of {}"),
    "allOf": all_of, "anyOf": any_of, "oneOf": one_of, "not": not_, "if": if_,
}
