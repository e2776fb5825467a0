"""Text as the runner takes it. In Python, and in JSON, half a surrogate pair may stand alone; in UTF-8 it cannot."""


def text(said: object) -> str:
    """What is said as text; a half of a pair alone becomes U+FFFD."""
    said = str(said)
    if said.isascii():
        return said
    try:
        said.encode()
        return said
    except UnicodeEncodeError:
        return said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
