"""Tests of the SDK in an ordinary Python, each with what went wrong once: `python3 -m unittest` in this folder."""

import unittest
from dataclasses import dataclass
from typing import Any

from runner import Discard, handler
from runner.args import read
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

    def test_half_a_surrogate_pair_is_not_the_end(self):
        """JSON may have one, UTF-8 may not: the job failed with a UnicodeEncodeError, each time."""
        self.assertEqual(World().run("sdk.echo", b'"x \\ud800 y"'), "x \ufffd y")
        self.assertEqual(World().run("sdk.echo", b'"\\ud83e\\udd80"'), "\U0001f980")
        self.assertEqual(text("\ud83e\udd80 \udc00"), "\U0001f980 \ufffd")


class Handlers(unittest.TestCase):
    def test_a_decorator_without_kinds_is_an_error_at_once(self):
        """`@handler` alone made a handler of nothing: it was built, loaded, and discarded every job."""
        with self.assertRaisesRegex(TypeError, "names its kinds"):
            handler(lambda args: args)
        with self.assertRaisesRegex(TypeError, "names its kinds"):
            handler()


if __name__ == "__main__":
    unittest.main()
