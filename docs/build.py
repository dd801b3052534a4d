"""Build the site: lay the sources out, run Sphinx and the doctests, check the links.

    python docs/build.py           # the examples at small settings
    python docs/build.py --full    # as a reader would run them

Everything is made in build/docs, and the site is build/docs/html.
"""

import argparse
import doctest
import importlib
import multiprocessing
import os
import pkgutil
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from site_parts.check_links import broken_links
from site_parts.example_pages import as_gallery_page, is_script

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "docs"
PAGES, SCRIPTS, SITE = BUILD / "source", BUILD / "examples", BUILD / "html"
OF_THE_ROOT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")


def lay_out(*, full=False):
    """Put all that the site is made of under one folder."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    PAGES.mkdir(parents=True)
    SCRIPTS.mkdir(parents=True)
    for name in ("images", "reference", "_static"):
        shutil.copytree(ROOT / "docs" / name, PAGES / name)
    (PAGES / "benchmarks").mkdir()
    for path in (ROOT / "benchmarks").glob("*.md"):
        shutil.copy(path, PAGES / "benchmarks")
    for path in (*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in OF_THE_ROOT)):
        shutil.copy(path, PAGES)
    shutil.copy(ROOT / "docs" / "gallery.rst", SCRIPTS / "GALLERY_HEADER.rst")
    for path in (ROOT / "examples").glob("*.py"):
        text = path.read_text()
        page = as_gallery_page(text, full=full) if is_script(text) else text
        (SCRIPTS / path.name).write_text(page)


def failed_doctests():
    """Run the examples in all docstrings, and return how many failed."""
    failed = 0
    for package in ("bayesfield", "bayesfield.inference"):
        path = importlib.import_module(package).__path__
        for _, name, _ in pkgutil.walk_packages(path, f"{package}."):
            if package == "bayesfield" and name.startswith("bayesfield.inference"):
                continue
            module = importlib.import_module(name)
            failed += doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed
    return failed


def main(*, full):
    """Build and check; return the exit status."""
    lay_out(full=full)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-j", "1"]
    paths = ["-c", ROOT / "docs", "-d", BUILD / "doctrees", PAGES, SITE]
    environment = os.environ | {"TQDM_DISABLE": "1"}  # pages show what scripts print, and no bars
    environment |= {"BAYESFIELD_DOCS": "full"} if full else {}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside:
        doctests = beside.submit(failed_doctests)  # a core for them, and another for Sphinx
        done = subprocess.run([*map(str, command + paths)], env=environment, check=False)
        failed = doctests.result()
    broken = broken_links(SITE) if SITE.is_dir() else []
    for line in broken:
        print(line, file=sys.stderr)
    print(f"{len(broken)} broken links, {failed} failed doctests; {SITE.relative_to(ROOT)}")
    return int(done.returncode != 0 or bool(broken) or bool(failed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the documentation into build/docs/html.")
    parser.add_argument("--full", action="store_true", help="the examples as a reader runs them")
    sys.exit(main(full=parser.parse_args().full))
