"""Sphinx builds the documentation with this: `make docs`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "cmunet_monai"
author = "cmunet_monai contributors"
copyright = author
version = release = installed_version("cmunet_monai")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature and the docstring say them
default_role = "literal"  # docstrings mark code by single backquotes
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "cmunet_monai"
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "logo": {"text": "cmunet_monai"},
    "footer_start": ["copyright"],
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
