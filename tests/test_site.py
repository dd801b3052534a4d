"""The documentation site, read as files: each page is in the menu, and no link leads nowhere."""

import inspect
import re
from pathlib import Path

import pytest

import bayesfield as bf
from bayesfield import inference
from bayesfield.inference import plots

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ_ALONE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
# What `docs/build.py` puts beside the pages, and the pages that it makes.
LAID_OUT = {"CONTRIBUTING", "CHANGELOG", "gallery/index"}


def menus():
    """Return for each page the pages that its menus name; a `*` names all that match."""
    found = {}
    for page in PAGES:
        entries = []
        for body in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            lines = [line.strip() for line in body.splitlines()]
            entries += [line for line in lines if line and not line.startswith(":")]
        found[page.relative_to(DOCS).with_suffix("").as_posix()] = entries
    return found


def reached(menus, start="index"):
    seen, left = set(), [start]
    while left:
        page = left.pop()
        if page in seen:
            continue
        seen.add(page)
        folder = page.rpartition("/")[0]
        left += ["/".join(filter(None, [folder, entry])) for entry in menus.get(page, ())]
    return seen


def test_each_page_is_reached_from_the_menu():
    of_pages = menus()
    seen = reached(of_pages)
    assert set(of_pages) <= seen
    assert seen - set(of_pages) - LAID_OUT == {"benchmarks/*"}


def test_a_page_that_no_menu_names_is_found():
    assert "lost" not in reached({"index": ["a"], "a": ["b"], "lost": []})


def links(text):
    """Return the relative links of Markdown, without what stands in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def places(text):
    """Return the anchors of a page's headings, as GitHub and MyST spell them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, *READ_ALONE, *(ROOT / "benchmarks").glob("*.md")], ids=lambda path: path.stem
)
def test_no_link_leads_to_what_is_not_there(page):
    for link in links(page.read_text()):
        path, _, place = link.partition("#")
        goal = page.parent / path if path else page
        if goal.name == "index.html":  # of the gallery, which is made when the site is built
            continue
        assert goal.exists(), link
        assert not place or place in places(goal.read_text()), link


def test_a_link_is_read_and_code_is_not():
    text = "[a](b.md#c) `[d](e.md)` [f](https://g.h)\n```\n[i](j.md)\n```"
    assert links(text) == ["b.md#c"]


def uneven_tables(text):
    """Return the rows of tables that have another number of cells than the first row."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = table.splitlines()
        cells = [len(re.split(r"(?<!\\)\|", row)) for row in rows]
        found += [row for row, number in zip(rows, cells, strict=True) if number != cells[0]]
    return found


@pytest.mark.parametrize(
    "page", [*PAGES, *READ_ALONE, *(ROOT / "benchmarks").glob("*.md")], ids=lambda path: path.stem
)
def test_no_cell_of_a_table_is_split_by_what_it_says(page):
    assert uneven_tables(page.read_text()) == []


def test_a_bar_in_the_code_of_a_cell_is_found():
    head = "| a | b |\n|---|---|\n"
    assert uneven_tables(f"{head}| `(1 | g)` | c |\n") == ["| `(1 | g)` | c |"]
    assert uneven_tables(f"{head}| `(1 \\| g)` | c |\n") == []


PUBLIC = [(home, name) for home in (bf, inference, plots) for name in home.__all__]


def listed():
    """Return the names that the API reference lists, page by page."""
    found = []
    for page in (DOCS / "reference").glob("*.md"):
        found += re.findall(r"\.\. auto(?:class|function):: (\w+)", page.read_text())
    return sorted(found)


def test_each_public_symbol_stands_once_in_the_reference():
    assert listed() == sorted(name for _, name in PUBLIC)


def without_example():
    public = {name: getattr(home, name) for home, name in PUBLIC}
    return {name for name, value in public.items() if ">>>" not in (inspect.getdoc(value) or "")}


def test_each_public_symbol_has_an_example():
    assert without_example() == set()


def test_no_example_in_a_docstring_is_skipped():
    skipped = [p for p in (ROOT / "inference").rglob("*.py") if "doctest: +SKIP" in p.read_text()]
    skipped += [p for p in (ROOT / "bayesfield").rglob("*.py") if "doctest: +SKIP" in p.read_text()]
    assert not skipped
