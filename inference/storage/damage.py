"""One error for every damaged file: which file it is, what is wrong, and what to do."""

import contextlib
from collections.abc import Iterator
from typing import Any


def refused(path: Any, expected: str, got: str) -> ValueError:
    """Return the error for a file whose parts do not fit each other."""
    return ValueError(
        f"`load` expected `{path}` to have {expected}; got {got}: it is damaged. Save it again, or "
        "take another copy."
    )


def check_is(path: Any, name: str, value: Any, kind: type, said: str) -> None:
    """Refuse a part of a header that is not of the expected type."""
    if not isinstance(value, kind):
        raise refused(path, f"`{name}` that is {said}", f"a {type(value).__name__}")


@contextlib.contextmanager
def damaged(path: Any) -> Iterator[None]:
    """Turn any error in reading the bytes of a file into one that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or str(error).startswith("`load` expected"):
            raise
        why = str(error).splitlines()[0] if str(error) else "no reason is given"
        got = f"what cannot be read ({type(error).__name__}: {why})"
        raise refused(path, "the form in which `save` writes", got) from error
