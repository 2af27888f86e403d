"""Links for names that docstrings and annotations write short, or by the module in which they are defined.

``Data`` and ``novacula.data.data.Data`` both mean the object that is documented once, under its public name.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

_KINDS = {"class", "exception", "function"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the resolver.

    Args:
        app: The build.

    Returns:
        What Sphinx asks of an extension.
    """
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True}


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.reference | None:
    if node.get("refdomain") != "py":
        return None
    words = node["reftarget"].lstrip(".~").split(".")
    objects = env.get_domain("py").objects  # type: ignore[attr-defined]  # of the Python domain
    found = [name for name in objects if name.split(".")[-1] == words[-1] and objects[name].objtype in _KINDS]
    if len(found) > 1:
        # The one in the package that the name or the page speaks of.
        here = words if words[0] == "novacula" else (node.get("py:module") or "").split(".")
        found = [name for name in found if name.split(".")[:2] == here[:2]]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])
