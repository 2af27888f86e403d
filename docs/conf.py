"""How the documentation is built: Markdown by MyST, code cells executed, API pages from docstrings."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Novacula"
author = "The Novacula developers"
copyright = author
version = release = installed("novacula")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "docstrings",
    "names",
    "pages",
]
exclude_patterns = ["_build", "**/jupyter_execute", "**.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"Novacula {version}"
html_theme_options = {"navigation_with_keys": True}
html_static_path: list[str] = []

# Pages with code cells run at every build, so that what they show is what the library does.
nb_execution_mode = "force"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# In docstrings, `name` is an object: a link where it is documented, code where it is not.
default_role = "py:obj"
highlight_language = "default"
autodoc_member_order = "bysource"
# Of scikit-learn's estimators, methods that it makes itself, whose texts refer to pages of its own.
REQUESTS = ", ".join(f"set_{verb}_request" for verb in ("fit", "predict", "predict_proba", "score"))
autodoc_default_options = {"members": True, "special-members": "__call__", "exclude-members": REQUESTS}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
