"""What the pages say about the command line and the run folder is what the code has."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from novacula.cli.app import app
from novacula.core.storage.run import FILES
from novacula.data.sources.npz import CLASS_NAMES, COLUMN_NAMES, INPUT_NAMES, LABEL_NAMES
from novacula.target import Copies

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def verbs():
    return typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("verb", ["learn", "predict", "report", "show"])
def test_every_option_is_described(verb):
    assert verb in verbs()
    section = PAGE.split(f"## `novacula {verb} ")[1].split("\n## ")[0]
    names = {name for p in verbs()[verb].params for name in p.opts if name.startswith("--")} - {"--help"}
    assert {name for name in names if f"`{name}" not in section and f"`{name}`" not in PAGE} == set()


def test_no_option_is_described_that_does_not_exist():
    described = set(re.findall(r"(?<![\w`-])`(--[a-z][a-z-]+)", PAGE)) | set(re.findall(r" (--[a-z][a-z-]+)", PAGE))
    own = [verb for group in verbs().values() for verb in getattr(group, "commands", {}).values()]
    known = {name for command in [*verbs().values(), *own] for p in command.params for name in p.opts}
    assert described - known == set()


def test_every_verb_has_a_section():
    assert set(re.findall(r"^## `novacula (\w+)", PAGE, flags=re.MULTILINE)) == set(verbs())


def test_defaults_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `(--[a-z-]+)[^`]*` \|.*\| ([^|]*) \|$", PAGE, flags=re.MULTILINE))
    defaults = {p.opts[0]: p.default for p in verbs()["learn"].params if p.opts[0].startswith("--")}
    for name in ("--seed", "--net", "--prior", "--likelihood"):
        assert rows[name].strip("` ").split("`")[0] == str(defaults[name]), name
    copies = Copies()
    assert rows["--copies"].strip("`") == f"{copies.train},{copies.evidence},{copies.predict}"


def test_every_file_of_a_run_is_described():
    assert [name for name in FILES if f"`{name}`" not in PAGE] == []


def test_the_readme_begins_with_the_main_job_and_the_tests():
    first, second = blocks((ROOT / "README.md").read_text(encoding="utf-8"))[:2]
    assert "pip install" in first
    assert "novacula learn digits --perturb rotate=180" in first
    assert "pytest" in second


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    missing = [t for t in targets if not (page.parent / t).exists() and "generated" not in t]
    assert missing == []


def test_every_key_of_an_npz_is_described():
    table = PAGE.split("An `.npz` holds arrays under these keys:")[1].split("\n\nTables")[0]
    assert [k for k in (*INPUT_NAMES, *LABEL_NAMES, *CLASS_NAMES, *COLUMN_NAMES) if f"`{k}`" not in table] == []


def test_the_table_of_names_is_that_of_the_docstrings():
    # `python dev/names.py` writes it anew.
    spec = importlib.util.spec_from_file_location("names", ROOT / "dev" / "names.py")
    assert spec is not None
    assert spec.loader is not None
    names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(names)
    assert names.PAGE.read_text(encoding="utf-8") == names.page()
