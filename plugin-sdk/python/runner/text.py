"""Text as the runner takes it. In Python, and in JSON, half a surrogate pair may stand alone; in UTF-8 it cannot."""

import re

# No codec of the library's does it in a plugin: there, codecs that nobody has used while it was built cannot be loaded.
SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")


def text(said: object) -> str:
    """What is said as text; a pair becomes its character, and a half alone U+FFFD."""
    said = str(said)
    return said if said.isascii() else SURROGATES.sub(whole, said)


def whole(found: re.Match) -> str:
    pair = found[0]
    if len(pair) == 1:
        return "\ufffd"
    return chr(0x10000 + ((ord(pair[0]) - 0xD800) << 10) + (ord(pair[1]) - 0xDC00))
