"""How Sphinx makes the documentation of these pages: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file

from synth.version import __version__

project, author = "Fathom", "The Fathom developers"
copyright = "The Fathom developers, Apache-2.0"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_pages"]
exclude_patterns = ["pictures"]

# A link or a name that leads nowhere is a warning, and `make docs` makes warnings errors.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]  # annotations name classes that have no page: numpy's, torch's, internal

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # as GitHub makes them, so that the same links work in both

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "code"
smartquotes = False  # quotes are those of TOML and Python

html_theme = "furo"
html_title = f"Fathom {release}"
html_theme_options = {"navigation_with_keys": True}
html_math_renderer = "mathml"  # of site_pages: browsers draw MathML themselves, so that no script or font is fetched
html_show_search_summary = False  # summaries would be fetched, which browsers refuse for file://
html_show_sphinx = False
html_copy_source = False
html_static_path = ["style"]
html_css_files = ["site.css"]
