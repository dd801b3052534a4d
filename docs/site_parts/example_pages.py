"""The docstring of an example, which is Markdown, as the head of a page of the gallery."""

import ast
import re

from .docstrings import to_rst

SMALL = """

.. note::

    Output and figures here are of ``--smoke``: a few steps of each fit, which have not arrived.
    ``make docs-full`` shows the whole run.
"""


def is_script(text):
    """Whether a file of the examples is to be run; the others are what scripts import."""
    return '\nif __name__ == "__main__":' in text


def as_gallery_page(text, *, full):
    """Return a script whose docstring has a title and is RST; its code stays as it is."""
    statement = ast.parse(text).body[0]
    lines = text.splitlines(keepends=True)
    first, _, rest = ast.literal_eval(statement.value).strip().partition("\n")
    name, _, more = first.rstrip(".").partition(": ")  # the title is to fit into a menu
    if more:
        rest = f"{more[0].upper()}{more[1:]}.\n\n{rest.strip()}"
    body = to_rst(_commands(rest.strip())) + ("" if full else SMALL)
    head = f'r"""\n{name}\n{"=" * len(name)}\n\n{body}\n"""\n'
    return head + "".join(lines[statement.end_lineno :])


def _commands(text):
    """Mark indented lines as commands to type."""
    return re.sub(r"(?m)((?:^    .*\n?)+)", r".. code-block:: sh\n\n\1", text)
