"""Mathematics as MathML, which browsers draw themselves: no script and no network."""

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

NAME = "mathml"
SPELT = {r"\dots": r"\ldots"}  # what docutils spells otherwise
LOG = logging.getLogger(__name__)


def as_mathml(tex: str, *, block: bool = False) -> str:
    """Return LaTeX mathematics as MathML."""
    for one, other in SPELT.items():
        tex = tex.replace(one, other)
    return tex2mathml(tex, as_block=block)


def _put(writer, node, *, block):
    try:
        drawn = as_mathml(node.astext(), block=block)
    except MathError as error:  # -W makes it an error of the build
        LOG.warning("%s: %s", error, node.astext(), location=node)
        drawn = ""
    writer.body.append(f'<div class="math">{drawn}</div>' if block else drawn)
    raise SkipNode


def _inline(writer, node):
    _put(writer, node, block=False)


def _block(writer, node):
    _put(writer, node, block=True)


def setup(app):
    """Register the renderer under `NAME`."""
    app.add_html_math_renderer(NAME, (_inline, None), (_block, None))
