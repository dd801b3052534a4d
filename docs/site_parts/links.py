"""Links between pages, which are written so that they work where the sources are read too."""

import re

# From where a page lies in the repository to where `docs/build.py` puts what it links to.
OF_DOCS = {
    r"\]\(\.\./benchmarks/": "](benchmarks/",
    r"\]\(\.\./(CONTRIBUTING|CHANGELOG)\.md": r"](\1.md",
    r"\]\(\.\./examples/(\w+)\.py": r"](gallery/\1.rst",
    r"\]\(\.\./examples/\)": "](gallery/index.rst)",
}
OF_BENCHMARKS = {r"\]\(\.\./docs/": "](../"}


def as_laid_out(docname: str, text: str) -> str:
    """Point the links of a page at pages of the site."""
    for spelt, there in (OF_BENCHMARKS if docname.startswith("benchmarks/") else OF_DOCS).items():
        text = re.sub(spelt, there, text)
    return text


def _read(app, docname, content):
    content[0] = as_laid_out(docname, content[0])


def setup(app):
    """Rewrite each source as it is read."""
    app.connect("source-read", _read)
