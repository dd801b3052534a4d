"""Docstrings, which are Markdown as the sources hold them, as the RST that autodoc reads."""

import re

import bayesfield
from bayesfield import inference

HOMES = dict.fromkeys(bayesfield.__all__, "bayesfield")
HOMES |= dict.fromkeys(inference.__all__, "bayesfield.inference")
PIECE = re.compile(r"``.+?``|`(?P<code>[^`]+)`|\$\$(?P<block>.+?)\$\$|\$(?P<math>[^$\n]+)\$", re.S)


def to_rst(text, own=""):
    """Return Markdown's code and mathematics as RST; names of the library become links.

    Args:
        text: A docstring without its indentation.
        own: The name that it is of, which is not linked to itself.
    """

    def put(match):
        following = match.string[match.end() : match.end() + 1]
        end = r"\ " if following.isalnum() else ""  # a role ends at a space or a sign
        if (code := match["code"]) is not None:
            code = " ".join(code.split())
            name = code.removeprefix("bf.")
            if name in HOMES and name != own:
                return f":py:obj:`{code} <{HOMES[name]}.{name}>`{end}"
            return f"``{code}``{end}"
        if match["math"] is not None:
            return f":math:`{match['math'].strip()}`{end}"
        if match["block"] is not None:
            return "\n\n.. math::\n\n    " + " ".join(match["block"].split()) + "\n\n"
        return match[0]

    # RST takes a line of one letter and a full stop for an item of a list
    text = re.sub(r": ([A-Z])\.$", r": \\\1.", text, flags=re.M)
    # examples are code already, and what stands in them is left alone
    parts = re.split(r"((?:^[ ]*(?:>>>|\.\.\.).*\n?(?:^[ ]*\S.*\n?)*)+)", text, flags=re.M)
    return "".join(part if i % 2 else PIECE.sub(put, part) for i, part in enumerate(parts))


def _convert(app, what, name, obj, options, lines):
    lines[:] = to_rst("\n".join(lines), name.rsplit(".", 1)[-1]).split("\n")


def _defaults(app, what, name, obj, skip, options):
    """Leave out defaults of fields that are functions: they are called otherwise than the field."""
    called = getattr(obj, "__name__", None)
    return True if called is not None and called != name.rsplit(".", 1)[-1] else None


def setup(app):
    """Convert before napoleon reads the sections."""
    app.connect("autodoc-skip-member", _defaults)
    app.connect("autodoc-process-docstring", _convert, priority=100)
