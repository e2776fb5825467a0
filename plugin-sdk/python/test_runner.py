"""Tests of the SDK in an ordinary Python, each with what went wrong once: `python3 -m unittest` in this folder."""

import json
import unittest
from dataclasses import dataclass
from typing import Any

from runner import CallError, Discard, Retry, Snooze, handler
from runner.args import read
from runner.failure import described
from runner.handlers import _handlers
from runner.testing import World
from runner.text import text


@dataclass
class Size:
    width: float


@handler("sdk.echo")
def echo(args: Any) -> Any:
    return args


@handler("sdk.odd")
def odd() -> Any:
    return {"a": object()}


class Args(unittest.TestCase):
    def test_what_only_python_takes_for_json_is_none(self):
        for wrong in (b'{"width": NaN}', b"[Infinity]", b"-Infinity"):
            with self.assertRaisesRegex(Discard, "^args are not JSON: .*none of its numbers"):
                read(Any, wrong)

    def test_what_is_nested_too_deep_is_given_up(self):
        """Python's own limit came too late in a plugin: its stack overflowed, and the trap was tried again."""
        for wrong in ("[" * 100_000 + "]" * 100_000, "[" * 600, '{"a":' * 100_000, '["]", "\\\\", "\\"]"' + ", [" * 1_200):
            with self.assertRaisesRegex(Discard, "^args are not JSON: they are nested deeper than 500"):
                read(Any, wrong.encode())
        for right in (
            "[" + "[]," * 2_000 + "[]]",
            "[" * 450 + "]" * 450,
            json.dumps("[{" * 5_000),
            json.dumps(['\\"[' * 5_000, {"]": "\\"}] * 3),
            json.dumps([{"a": [{}]}] * 1_000),
        ):
            self.assertEqual(read(Any, right.encode()), json.loads(right))

    def test_a_number_that_no_float_holds_is_named(self):
        """1e400 was infinite, which no output can say, and a whole number of 400 digits an OverflowError: both tried again."""
        for wrong in (b'{"width": 1e400}', b'{"width": -1e400}', b'{"width": 1' + b"0" * 400 + b"}"):
            with self.assertRaisesRegex(Discard, "^args do not fit: `width`: is more than"):
                read(Size, wrong)
        self.assertEqual(read(Size, b'{"width": 9007199254740993}').width, 2.0**53)


class Output(unittest.TestCase):
    def test_what_is_not_json_is_given_up_for_good(self):
        """It was tried again, as any exception is, and could only come to the same."""
        for kind, args, why in [("sdk.odd", None, "type object"), ("sdk.echo", b"1e400", "not JSON")]:
            with self.assertRaisesRegex(Discard, f"^the output is not JSON: .*{why}"):
                World().run(kind, args)

    def test_a_failure_that_is_returned_is_raised(self):
        """It was tried again, as a value that is not JSON: whatever the handler meant."""
        for end in (Discard("never"), Snooze(5, "yet"), Retry("no")):
            handler("sdk.ended")(lambda: end)
            with self.assertRaises(type(end)) as caught:
                World().run("sdk.ended")
            self.assertIs(caught.exception, end)
            _handlers.pop("sdk.ended")

    def test_half_a_surrogate_pair_is_not_the_end(self):
        """JSON may have one, UTF-8 may not: the job failed with a UnicodeEncodeError, each time."""
        self.assertEqual(World().run("sdk.echo", b'"x \\ud800 y"'), "x \ufffd y")
        self.assertEqual(World().run("sdk.echo", b'"\\ud83e\\udd80"'), "\U0001f980")
        self.assertEqual(text("\ud83e\udd80 \udc00"), "\U0001f980 \ufffd")


class Calls(unittest.TestCase):
    def call(self, call):
        """Makes a call of a handler's context."""
        handler("sdk.call")(lambda _, cx: call(cx))
        try:
            world = World()
            return world.run("sdk.call"), world
        finally:
            del _handlers["sdk.call"]

    def test_what_a_call_cannot_take_is_an_error_with_a_line(self):
        """It was a panic within the component, which named a line of its own Rust and none of the handler's."""
        for wrong, says in [
            (lambda cx: cx.kv.set("k", "text"), r"bytes there, not 'text': write .encode\(\)"),
            (lambda cx: cx.kv.get(7), "text there, not 7"),
            (lambda cx: cx.leave({"page": 7}), "bytes there, not {'page': 7}"),
            (lambda cx: cx.kv.compare_and_set("k", None, 7), "bytes there, not 7"),
            (lambda cx: cx.config(b"NAME"), "text there, not b'NAME'"),
            (lambda cx: cx.send("GET", "https://example.com", headers={"a": 1}), "text there, not 1"),
        ]:
            with self.assertRaisesRegex(TypeError, says):
                self.call(wrong)
        with self.assertRaises(CallError) as caught:
            self.call(lambda cx: cx.kv.get("\ud800"))
        self.assertEqual(caught.exception.code, "invalid")
        self.assertEqual(self.call(lambda cx: cx.leave(bytearray(b"7")))[1].left, b"7")

    def test_whatever_is_said_becomes_text(self):
        def say(cx):
            cx.info(42)
            cx.warn("half \ud800")
            cx.progress(40.4, None)

        world = self.call(say)[1]
        self.assertEqual((world.logs, world.told), (["info: 42", "warn: half \ufffd"], (40, "None")))

    def test_a_new_job_is_json(self):
        """Its args were `NaN`, which its own handler could not read."""
        for args, options in [(float("nan"), {}), (object(), {}), (1, {"delay": {1, 2}})]:
            with self.assertRaises(CallError) as caught:
                self.call(lambda cx: cx.enqueue("a.b", args, **options))
            self.assertEqual(caught.exception.code, "invalid")


class Errors(unittest.TestCase):
    def test_what_a_plugin_cannot_load_is_said_with_where_it_belongs(self):
        """`import uuid` within a function works in every test and in no plugin; its error said only that there is no such module."""
        for wrong, says in [
            (lambda: __import__("no_such_module"), "^ModuleNotFoundError: .*; import it at the head"),
            (lambda: b"x".decode("no-such-codec"), "^LookupError: unknown encoding: .*; look it up with `codecs.lookup`"),
            (lambda: {}["a"], "^KeyError: 'a'$"),
        ]:
            with self.assertRaises(Exception) as caught:
                wrong()
            self.assertRegex(described(caught.exception), says)


class Handlers(unittest.TestCase):
    def test_a_decorator_without_kinds_is_an_error_at_once(self):
        """`@handler` alone made a handler of nothing: it was built, loaded, and discarded every job."""
        with self.assertRaisesRegex(TypeError, "names its kinds"):
            handler(lambda args: args)
        with self.assertRaisesRegex(TypeError, "names its kinds"):
            handler()


if __name__ == "__main__":
    unittest.main()
