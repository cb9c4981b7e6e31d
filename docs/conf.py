"""Builds the pages of this folder: `make docs`."""

from importlib.metadata import version as version_of

from sphinx.ext.napoleon import GoogleDocstring

project = "recurrent-rl"
author = "The recurrent-rl developers"
copyright = f"2026, {author}"
release = version = version_of("recurrent-rl")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "example-project", "example-browser"]
highlight_language = "bash"  # of blocks without a language: commands
smartquotes_action = "qe"  # "--" begins a flag
default_role = "code"  # docstrings write `names` as in Markdown

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give types and shapes in words
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = f"recurrent-rl {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False


def setup(app):
    """Attributes are told of in sentences: what stands before a colon there is no type."""
    GoogleDocstring._parse_attribute_docstring = lambda self: GoogleDocstring(
        self._consume_to_end(), self._config
    ).lines()
