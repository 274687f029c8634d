"""What pip installs: the built widget, the kernel, the types; and nothing that needs Node."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager

pytestmark = [pytest.mark.packaging, pytest.mark.slow]


@pytest.fixture(scope="module")
def dist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of wheel and sdist, built from this checkout as a release is, the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), "."]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=100)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The wheel."""
    (wheel,) = dist.glob("*.whl")
    return wheel


def test_what_is_published_passes_the_checks_of_its_readers(root: Path, dist: Path) -> None:
    """twine reads the metadata and the README as PyPI does; check-wheel-contents looks for what does not belong."""
    for command in (["twine", "check", "--strict", *map(str, dist.iterdir())], ["check_wheel_contents", str(dist)]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_one_version_and_one_list_of_dependencies(root: Path, wheel: Path) -> None:
    """The package's own: wheel, CITATION.cff and the recipe of conda-forge say the same."""
    import flyte_nb

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (root / "conda.recipe" / "recipe.yaml").read_text(encoding="utf-8")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")

    assert wheel.name.startswith(f"flyte_nb-{flyte_nb.__version__}-")
    assert f'version: "{flyte_nb.__version__}"' in recipe
    assert f'"version": "{flyte_nb.__version__}"' in (root / "js" / "lab" / "package.json").read_text(encoding="utf-8")
    assert f"version: {flyte_nb.__version__}" in citation
    assert [d for d in project["dependencies"] if f"    - {d.replace('>=', ' >=')}\n" not in recipe] == []
    assert {"pandas", "lab", "docs", "test", "dev"} == set(project["optional-dependencies"])


def test_wheel_holds_the_package_the_widget_the_types_and_the_kernel(wheel: Path) -> None:
    """Each file that is looked up at run time is there."""
    names = set(zipfile.ZipFile(wheel).namelist())
    jupyter = "flyte_nb-0.1.0.data/data/share/jupyter"
    kernel, extension = f"{jupyter}/kernels/flyte_nb", f"{jupyter}/labextensions/flyte-nb"

    assert {
        "flyte_nb/__init__.py",
        "flyte_nb/py.typed",
        "flyte_nb/views/static/widget.js",
        "flyte_nb/views/static/widget.css",
        "flyte_nb_kernel/__main__.py",
        "flyte_nb_kernel/kernelspec/kernel.json",
        f"{kernel}/kernel.json",
        f"{kernel}/logo-32x32.png",
        f"{kernel}/logo-64x64.png",
        f"{kernel}/logo-svg.svg",
        f"{extension}/package.json",
        f"{extension}/static/remoteEntry.js",
    } <= names


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """No tests, no JavaScript sources, no build leftovers."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {"flyte_nb", "flyte_nb_kernel", "flyte_nb-0.1.0.data", "flyte_nb-0.1.0.dist-info"} == tops


def test_installed_wheel_shows_its_kernel(wheel: Path, tmp_path: Path) -> None:
    """A Jupyter server of that environment lists "Python 3 (Flyte)", which loads the extension at its start."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--ignore-installed",
        "--prefix",
        str(tmp_path),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    manager = KernelSpecManager(kernel_dirs=[str(tmp_path / "share" / "jupyter" / "kernels")])
    spec = manager.get_kernel_spec("flyte_nb")

    assert "Python 3 (Flyte)" == spec.display_name
    assert ["--ext", "flyte_nb"] == spec.argv[3:5]


def test_kernel_can_be_registered_for_a_server_elsewhere(tmp_path: Path) -> None:
    """`python -m flyte_nb_kernel install` names this environment's Python, by its full path."""
    command = [sys.executable, "-m", "flyte_nb_kernel", "install", "--prefix", str(tmp_path), "--name", "mine"]
    command += ["--display-name", "Mine (Flyte)"]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=root / "kernel-ext")
    folder = tmp_path / "share" / "jupyter" / "kernels" / "mine"
    spec = json.loads((folder / "kernel.json").read_text())

    assert str(folder) in done.stdout
    assert (sys.executable, "Mine (Flyte)") == (spec["argv"][0], spec["display_name"])
    assert (folder / "logo-64x64.png").exists()


def test_the_readme_names_every_subcommand() -> None:
    """``%flyte`` has no word that the README does not explain."""
    from flyte_nb.kernel import operations

    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in operations.subcommands() if f"%flyte {name}" not in text] == []
