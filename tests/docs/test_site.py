"""The site of the documentation: it is built without a warning, no link of it leads nowhere, and reading it asks no network."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


class Found(HTMLParser):
    """What a page refers to, and the names in it that others may refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names.add(given.get("id", ""))
        if tag == "a":
            self.links.add(given.get("href", ""))
        elif tag == "link":
            self.loads.add(given.get("href", "") if given.get("rel") in {"stylesheet", "icon", "preload"} else "")
        elif tag in {"script", "img", "iframe", "source", "video"}:
            self.loads.add(given.get("src", ""))


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        "-b",
        "html",
        "docs",
        str(out),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Found]:
    """The pages by path, read."""
    found = {}
    for path in site.rglob("*.html"):
        if "_static" in path.parts:
            continue
        found[path] = Found()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Found]) -> None:
    """To a file of the site, and to a name in it."""
    broken = []
    for path, found in pages.items():
        for link in found.links | found.loads:
            address, name = urldefrag(link.partition("?")[0] if "?" in link else link)
            if not link or re.match(r"[a-z]+:", link):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if not target.exists() or (name and target in pages and unquote(name) not in pages[target].names):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 30
    assert not broken, "\n".join(broken)


def test_reading_asks_no_network(site: Path, pages: dict[Path, Found]) -> None:
    """Scripts, styles, fonts and pictures are files of the site."""
    loaded = {
        f"{p.relative_to(site)}: {load}"
        for p, f in pages.items()
        for load in f.loads
        if re.match(r"(https?:)?//", load)
    }
    styles = {
        f"{path.name}: {found}"
        for path in site.rglob("*.css")
        for found in re.findall(r"(?:url\(|@import )['\"]?((?:https?:)?//[^'\")]+)", path.read_text(encoding="utf-8"))
    }
    assert not loaded
    assert not styles


def test_every_error_and_every_name_is_found(site: Path) -> None:
    """The search index has the words of messages, and the reference every public name."""
    import flyte_nb as flyte

    messages = (site / "generated" / "messages.html").read_text(encoding="utf-8")
    reference = (site / "generated" / "flyte_nb.html").read_text(encoding="utf-8")
    for words in (
        "cannot be called from a running event loop",
        "Write <code",
        "On Flyte tasks can be run",
        "there is no run",
    ):
        assert words.split(" <")[0] in messages
    modules = {
        "app",
        "artifacts",
        "config",
        "durable",
        "errors",
        "extras",
        "git",
        "io",
        "models",
        "notify",
        "prefetch",
        "remote",
    }
    modules |= {"report", "storage", "syncify", "testing", "types"}
    missing = [name for name in flyte.__all__ if name not in modules and f">{name}<" not in reference]
    assert not missing
