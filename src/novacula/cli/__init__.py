"""The command line: one verb per task, and no mathematics. Nothing heavy is imported before a command runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of the ``novacula`` command."""
    from novacula.cli.app import run

    run()
