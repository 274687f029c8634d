"""Generate pages of the documentation from the code: reference, messages, gallery. Runs in: the build of the site.

Written into `docs/generated` and `docs/gallery`, which git ignores.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
GENERATED, GALLERY = HERE / "generated", HERE / "gallery"

#: Public modules, and what each is for. `flyte_nb` itself comes first.
MODULES = {
    "flyte_nb": "Tasks, environments, runs, settings",
    "flyte_nb.io": "Files, folders, tables by reference",
    "flyte_nb.errors": "What tasks and runs raise",
    "flyte_nb.remote": "Runs and actions, looked up",
    "flyte_nb.report": "HTML from within a task",
    "flyte_nb.durable": "Sleep and time that a retry does not repeat",
    "flyte_nb.cache": "Results that are kept",
    "flyte_nb.storage": "Reading and writing by address",
    "flyte_nb.models": "Facts about tasks and actions",
    "flyte_nb.extras": "Batching of calls",
    "flyte_nb.syncify": "Functions in two forms",
    "flyte_nb.types": "Types of values",
    "flyte_nb.testing": "Helpers for tests",
    "flyte_nb.pytest_plugin": "A cluster for tests",
    "flyte_nb.config": "Flyte's configuration files",
    "flyte_nb.notify": "Notifications, accepted",
    "flyte_nb.artifacts": "Artifacts, accepted",
    "flyte_nb.app": "Apps, accepted",
    "flyte_nb.git": "Configuration from a repository",
    "flyte_nb.prefetch": "Models, not here",
}
#: A message is a text of so many characters and words at least; what an exception is made with, of so many words.
MIN_MESSAGE, MIN_WORDS, MIN_WORDS_OF_ERRORS = 32, 5, 2


def write(path: Path, text: str) -> None:
    """Write a page, if it is another than the one that is there: Sphinx then reads only what changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def reference() -> None:
    """A page for each public module, with every name that it exports."""
    for module, purpose in MODULES.items():
        found = importlib.import_module(module)
        lines = [
            f"# {module.replace('flyte_nb', 'flyte', 1) if module != 'flyte_nb' else 'flyte'}",
            "",
            f"{purpose}.",
            "",
        ]
        lines += ["```{eval-rst}", f".. currentmodule:: {module}", ""]
        for name in found.__all__:
            lines += directive(module, name, getattr(found, name))
        write(GENERATED / f"{module}.md", "\n".join([*lines, "```", ""]))


def directive(module: str, name: str, value: object) -> list[str]:
    """How autodoc is to describe a name: classes with their members, functions, data by their values."""
    if isinstance(value, type):
        home = f"{value.__module__}.{value.__qualname__}"
        first = next(
            m for m in MODULES if getattr(importlib.import_module(m), value.__name__, None) is value or m == module
        )
        if first != module:
            return [f".. py:class:: {name}", "   :no-index:", "", f"   As :class:`{first}.{value.__name__}`.", ""]
        options = (
            ["   :members:", "   :show-inheritance:"]
            if not issubclass(value, BaseException)
            else ["   :show-inheritance:"]
        )
        return [f".. autoclass:: {name}", *options, "", f"   *Defined as* ``{home}``.", ""]
    if callable(value) and hasattr(value, "__name__"):
        return [f".. autofunction:: {name}", ""]
    if type(value).__name__ == "module":
        return []
    return [f".. autodata:: {name}", "   :no-value:", ""] if hasattr(value, "__doc__") else [f".. py:data:: {name}", ""]


def messages() -> None:
    """Every sentence that the package can print or raise, by the file that says it."""
    lines = [
        "# Every message",
        "",
        "What flyte_nb can say, as it stands in its source: search for the words of the message you have. ‹...› stands for a",
        "value. Most name the remedy; [troubleshooting](../troubleshooting.md) says more about the usual ones.",
    ]
    for path in sorted((ROOT / "flyte_nb").rglob("*.py")):
        found = sorted(set(sentences(path)))
        if found:
            lines += ["", f"## `{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}`", ""]
            lines += [f"- {sentence}" for sentence in found]
    write(GENERATED / "messages.md", "\n".join([*lines, ""]))


def sentences(path: Path) -> Iterator[str]:
    """Texts of a file that are sentences for people: no docstrings, no code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped, errors = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Error", "Exception")):
            errors.update(id(part) for argument in node.args for part in ast.walk(argument))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "‹...›" for p in node.values)
        text = re.sub(r"\s+", " ", text).strip()
        is_prose = len(text) >= MIN_MESSAGE and not re.search(r"[<>{}\\]|^\W*$|=\s*\w+\(|^import ", text)
        words = len(re.findall(r"[^\W\d]+", text))
        if (is_prose and len(text.split()) >= MIN_WORDS) or (id(node) in errors and words >= MIN_WORDS_OF_ERRORS):
            yield re.sub(r"([\\*_\[\]`|$#~<>{}])", r"\\\1", text)


def gallery() -> None:
    """The example notebooks, copied beside the pages; and the list of them."""
    GALLERY.mkdir(exist_ok=True)
    lines = []
    for path in sorted((ROOT / "example-notebooks").glob("*.ipynb")):
        if not (GALLERY / path.name).exists() or (GALLERY / path.name).read_bytes() != path.read_bytes():
            shutil.copy(path, GALLERY / path.name)
        first, _, rest = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).partition("\n")
        about = rest.strip().partition("\n\n")[0].replace("\n", " ")
        lines += [f"### [{first.strip('# ')}](gallery/{path.name})", "", about, ""]
    toc = ["```{toctree}", ":hidden:", "", *(f"gallery/{p.stem}" for p in sorted(GALLERY.glob("*.ipynb"))), "```", ""]
    write(GENERATED / "gallery.md", "\n".join([*lines, *toc]))


def all_pages() -> None:
    """All of it."""
    reference()
    messages()
    gallery()


if __name__ == "__main__":
    all_pages()
