"""Learned extents as code or configuration to paste, for the augmentation libraries of the field."""

from __future__ import annotations

from novacula.reporting.recipes.export import FORMATS, Format, export

__all__ = ["FORMATS", "Format", "export"]
