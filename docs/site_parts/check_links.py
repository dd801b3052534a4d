"""Whether a built site leads anywhere that is not there, or asks the network for anything."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collect a page's targets, its links, and what it loads."""

    def __init__(self):
        super().__init__()
        self.targets, self.links, self.loaded = {""}, [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.targets |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        elif tag == "link" and attrs.get("href"):
            self.loaded.append(attrs["href"])
        elif attrs.get("src"):
            self.loaded.append(attrs["src"])


def _is_in(page, place):
    return page is None or place in page.targets


def broken_links(site: Path) -> list[str]:
    """Return a line for each link inside the site to nothing, and for each thing from outside."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text())
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in page.loaded:
            if urlsplit(link).netloc:
                found.append(f"{name} loads {link}")
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not goal.exists():
                found.append(f"{name} links to {link}, which is not there")
            elif (
                parts.fragment
                and goal in pages
                and unquote(parts.fragment) not in pages[goal].targets
            ):
                found.append(f"{name} links to {link}, where no such place is")
    return found
