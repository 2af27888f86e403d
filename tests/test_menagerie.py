"""Every network of the menagerie by the verbs: what comes of each cell is what the page of networks says of it.

All of the cheap cells are tried, and of the others a part that is the same each time; ``python -m dev.networks`` tries
all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from menagerie.families import ALL, FAMILIES, verbs_of
from menagerie.outcomes import outcome, read
from menagerie.page import page
from menagerie.verbs import POSTERIORS, VERBS

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
SHARES = {
    **dict.fromkeys(VERBS, 1),
    "matrix_free": 4,
    **dict.fromkeys(("diag", "last_layer"), 2),
    **dict.fromkeys(POSTERIORS, 30),
    **dict.fromkeys(("hmc", "nuts", "smc", "learn", "save"), 27),
}
"""One network in so many is tried."""
SAMPLE = [
    (name, verb)
    for i, name in enumerate(ALL)
    for j, verb in enumerate(VERBS)
    if (i + j) % SHARES[verb] == 0 and verb in read()[name]
]


def test_names_are_distinct_and_many() -> None:
    assert len(ALL) == sum(map(len, FAMILIES.values())) >= 130


@pytest.mark.parametrize("name, verb", SAMPLE, ids=lambda v: v)
def test_a_cell_comes_to_what_is_recorded(name: str, verb: str) -> None:
    found, recorded = outcome(verb, ALL[name]), read()[name][verb]
    assert (found.kind, found.note.split("; got")[0]) == (recorded.kind, recorded.note.split("; got")[0])


@pytest.mark.parametrize("name", list(ALL)[::9])
def test_every_verb_is_recorded_of_every_network(name: str) -> None:
    assert tuple(read()[name]) == verbs_of(name)


def test_the_record_is_whole_and_nearly_all_right() -> None:
    assert list(read()) == list(ALL)
    kinds = [cell.kind for cells in read().values() for cell in cells.values()]
    assert set(kinds) == {"right", "limit"}
    assert kinds.count("right") >= 0.95 * len(kinds)


def test_the_page_is_made_of_the_record() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(read(), text)
