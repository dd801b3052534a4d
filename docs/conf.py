"""Settings of the documentation site; `docs/build.py` lays the sources out and runs Sphinx."""

import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from site_parts import docstrings, links, mathml, pictures
from site_parts.example_pages import is_script

import bayesfield.inference

project = "bayesfield"
author = "the authors of bayesfield"
copyright = author
version = release = bayesfield.__version__

EXAMPLES = (Path(__file__).parent.parent / "examples").glob("*.py")
IMPORTED = [path.stem for path in EXAMPLES if not is_script(path.read_text())]

FULL = os.environ.get("BAYESFIELD_DOCS") == "full"
if not FULL:  # a few steps have not arrived, as each page says
    warnings.simplefilter("ignore", bayesfield.inference.ConvergenceWarning)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
# README.md is here for the home page, which shows its first block.
exclude_patterns = ["README.md", "gallery/*.ipynb", "gallery/*.py"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "bayesfield"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = mathml.NAME
html_show_sourcelink = False
pygments_style = "default"
pygments_dark_style = "github-dark"

# What a signature shows fits in a line; shapes and types are told by the docstrings.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 80
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",  # as build.py laid them out
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": rf"\b({'|'.join(IMPORTED)})\.py$",
    "image_scrapers": (pictures.of_a_script,),
    "reset_argv": pictures.full_settings if FULL else pictures.small_settings,
    "reset_modules": (pictures.forget_machine_code,),
    "abort_on_example_error": True,
    "plot_gallery": True,
    "remove_config_comments": True,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "download_all_examples": False,
    "within_subsection_order": "FileNameSortKey",
}
suppress_warnings = ["config.cache"]  # settings of the gallery hold functions, which do not pickle


def setup(app):
    """Add what Markdown in docstrings, mathematics and links need."""
    mathml.setup(app)
    docstrings.setup(app)
    links.setup(app)
