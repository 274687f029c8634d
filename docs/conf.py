"""Sphinx's settings: `make docs` builds the site into `artifacts/docs`. Runs in: sphinx-build."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402 - beside this file, which Sphinx executes

import flyte_nb  # noqa: E402

generate.all_pages()

project = "flyte_nb"
author = "The flyte_nb maintainers"
copyright = author  # noqa: A001 - Sphinx's name
release = version = flyte_nb.__version__

# MyST-NB shows the notebooks with the outputs that they have; the tests execute them. PyData's theme is what readers of the
# Jupyter and Dask documentation know: dark and light, searched in the page, nothing fetched from elsewhere.
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["generated/gallery.md"]
html_theme = "pydata_sphinx_theme"
html_title = "flyte_nb"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
pygments_style = "default"
html_sidebars: dict[str, list[str]] = {page: [] for page in ("index", "start", "coming-from", "how-it-works")}

nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "text/html", 5)]
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_render_text_lexer = "none"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
