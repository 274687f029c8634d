"""What the reference promises, without building the site: every public name in an example, every error's sentence in the list."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import CODE, SKIPPED
from tests.docs.test_pages import PAGES

#: Shown in blocks that say why they are not run.
NOT_RUN = {"shutdown", "run_cell", "flyte_cluster"}


@pytest.fixture(scope="module")
def generate(root: Path) -> ModuleType:
    """What makes the generated pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "docs"))
        return importlib.import_module("generate")


def test_every_public_name_stands_in_an_example_that_is_run(generate: ModuleType) -> None:
    """Of each public module; a name that is new needs one."""
    run, skipped = "", ""
    for page in PAGES:
        for found in CODE.finditer(page.read_text(encoding="utf-8")):
            if SKIPPED.search(found[1] or ""):
                skipped += found[2]
            else:
                run += found[2]
    run_words, skipped_words = set(re.findall(r"\w+", run)), set(re.findall(r"\w+", skipped))
    missing = [
        f"{module}.{name}"
        for module, imported in ((name, importlib.import_module(name)) for name in generate.MODULES)
        for name in imported.__all__
        if name not in (skipped_words if name in NOT_RUN else run_words)
        and not isinstance(getattr(imported, name), ModuleType)  # which has a page of its own
    ]
    assert missing == []


def test_every_message_of_an_error_is_in_the_list(root: Path, generate: ModuleType) -> None:
    """The words that an exception is made with, between its values: somebody searches for them."""
    missing = []
    for path in sorted((root / "flyte_nb").rglob("*.py")):
        listed = "\n".join(re.sub(r"\\(.)", r"\1", sentence) for sentence in generate.sentences(path))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not generate.called(call).endswith(("Error", "Exception")):
                continue
            texts = [
                re.sub(r"\s+", " ", part.value).strip()
                for argument in call.args
                for part in ast.walk(argument)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
            missing += [f"{path.name}: {text}" for text in texts if len(text.split()) > 3 and text not in listed]
    assert missing == []


def test_links_of_what_is_read_in_the_repository_lead_somewhere(root: Path) -> None:
    """README and its like, which no build of the site looks at: files by link, and files of the checkout by path."""
    broken = []
    for page in (*root.glob("*.md"), root / "kernel-ext" / "README.md"):
        text = page.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"[a-z]+:", link)]
        if page.name != "CHANGELOG.md":  # which tells of what was, too
            links += re.findall(r"`((?:docs|bench|scripts|tests|flyte_nb|js|example-notebooks)/[\w./-]+)`", text)
        broken += [
            f"{page.name}: {link}" for link in links if not any((base / link).exists() for base in (page.parent, root))
        ]
    assert broken == []
