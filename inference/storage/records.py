"""What a posterior carries along for its user: named values of JSON."""

import json
from collections.abc import Mapping
from typing import Any

from bayesfield.checks import described

Records = Mapping[str, Any] | None


def checked(records: Records) -> dict[str, Any]:
    """Return records as a file will give them back; refuse what JSON cannot hold.

    Args:
        records: From a name to a value of JSON's types, or None.

    Raises:
        TypeError: It is no mapping with names; a value is not of JSON's types.
        ValueError: A value is NaN or infinite, or holds itself.
    """
    if records is None:
        return {}
    if not isinstance(records, Mapping) or not all(isinstance(name, str) for name in records):
        raise TypeError(
            f"`save` expected `records` to map names to values of JSON; got {described(records)}."
        )
    for name, value in records.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"`save` expected `records` to hold values of JSON; got {described(value)} for "
                f"{name!r} ({error}). Give dicts, lists, strings, finite numbers, True, False "
                "or None."
            ) from error
    return json.loads(json.dumps(dict(records)))
