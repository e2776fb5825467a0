"""`python3 -m unittest` in this folder, with plugin-sdk/python in PYTHONPATH."""

import unittest

import validate  # noqa: F401 - its handlers
from runner import Discard
from runner.testing import World

ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
        "paid": {"type": "boolean"},
    },
    "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"pattern": "^[A-Z]{3}$"}}}},
}


class Validate(unittest.TestCase):
    def check(self, document, errors, schema=ORDER):
        output = World().run("json.validate", {"schema": schema, "document": document})
        self.assertEqual([(e["path"], e["message"]) for e in output["errors"]], errors)
        self.assertEqual(output["valid"], not errors)

    def test_what_fits_and_what_does_not(self):
        self.check({"id": 1, "lines": [{"sku": "ABC"}]}, [])
        self.check({"id": 1.0, "lines": [{"sku": "ABC"}], "paid": True}, [])
        self.check({"id": True, "lines": []}, [("/id", "is not of type integer"), ("/lines", "has fewer than 1 items")])
        self.check({"lines": [{"sku": "abc"}, {}], "x/y": 1}, [
            ("/", "lacks the property `id`"),
            ("/x~1y", "is a property that there should not be"),
            ("/lines/0/sku", 'does not match "^[A-Z]{3}$"'),
            ("/lines/1", "lacks the property `sku`"),
        ])

    def test_combinations(self):
        self.check(3, [("/", "fits 2 of the 2 of `oneOf`, not one")], {"oneOf": [{"minimum": 1}, {"maximum": 5}]})
        self.check("x", [("/", "is shorter than 2")], {"if": {"type": "string"}, "then": {"minLength": 2}})
        self.check(1, [("/", "is not true")], {"const": True})

    def test_schemas_that_are_not_right_are_discarded(self):
        for schema, says in [({"typ": "string"}, "`typ`"), ({"$ref": "#/$defs/no"}, "not in it"), ({"pattern": "("}, "not right"),
                             ({"$ref": "#"}, "refer to itself"), ({"type": "float"}, "`float`")]:
            with self.assertRaisesRegex(Discard, says):
                World().run("json.validate", {"schema": schema, "document": "x"})
        with self.assertRaisesRegex(Discard, "document"):
            World().run("json.validate", {"schema": {}})

    def test_a_schema_from_a_blob(self):
        world = World(blobs={"schemas": {"a.json": b'{"type": "string"}'}})
        self.assertTrue(world.run("json.validate", {"schema_from": "schemas/a.json", "document": "x"})["valid"])
        with self.assertRaisesRegex(Discard, "denied"):
            world.run("json.validate", {"schema_from": "other/a.json", "document": "x"})


if __name__ == "__main__":
    unittest.main()
