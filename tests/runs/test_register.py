"""Rows of another package: what `register` refuses, and a run that was made of a stranger's parts, read again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.storage.run import Run
from novacula.likelihoods import Categorical
from novacula.priors import Gaussian
from novacula.reporting.page import render
from novacula.runs.catalogue import (
    TABLES,
    EvidenceRow,
    Extent,
    FigureRow,
    InvarianceRow,
    LikelihoodRow,
    MethodRow,
    PriorRow,
    Words,
    register,
)
from novacula.runs.loading import load_run
from novacula.runs.settings import Setup
from novacula.runs.setup import assemble
from novacula.study import learn

PACKAGES = Path(__file__).parents[1] / "extending" / "packages"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PACKAGES))
    before = [dict(table.added) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.added.clear()
        table.added.update(rows)


ROWS = {
    "posterior": lambda name: MethodRow(name, "mine:Method", Words("Mine")),
    "likelihood": lambda name: LikelihoodRow(name, "mine:Likelihood", "classification"),
    "prior": lambda name: PriorRow(name, "mine:Prior"),
    "invariance": lambda name: InvarianceRow(name, "mine:Invariance"),
    "evidence": lambda name: EvidenceRow(name, "mine:Evidence"),
    "figure": lambda name: FigureRow(name, lambda run: None),
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_names_that_are_taken(table: Any) -> None:
    for name in (*table.words, *(row.name for row in table.own)):
        with pytest.raises(InputError, match=f"a name that no {table.kind} has; got '{name}', which novacula has"):
            register(ROWS[table.kind](name))
    for name in ("Mine", "my own", "a:b", "a+b", "", "9"):
        with pytest.raises(InputError, match=re.escape(repr(name))):
            register(ROWS[table.kind](name))
    assert not table.added
    register(ROWS[table.kind]("mine"))
    register(ROWS[table.kind]("mine"))  # as a notebook does
    assert list(table.added) == ["mine"]


def test_a_name_is_not_taken_from_another_module() -> None:
    register(PriorRow("mine", "first:Prior"))
    with pytest.raises(InputError, match="a name that no prior has; got 'mine', which first has"):
        register(PriorRow("mine", Gaussian))
    register(LikelihoodRow("mine", Categorical, "classification"))  # another kind, another table


@pytest.mark.parametrize("what", [Gaussian, Gaussian(), "gaussian", None])
def test_what_is_no_row(what: Any) -> None:
    with pytest.raises(InputError, match=r"a row of the catalogue; got .* use one of MethodRow, .*, FigureRow"):
        register(what)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    import gain  # pyright: ignore[reportMissingImports]
    import jiggle  # pyright: ignore[reportMissingImports]
    import logistic  # pyright: ignore[reportMissingImports]
    import wrong_labels  # pyright: ignore[reportMissingImports]

    for package in (gain, jiggle, logistic, wrong_labels):
        register(package.ROW)
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "classes.npz", x=draw.normal(size=(24, 5)), y=np.arange(24) % 3)
    setup = Setup(
        str(tmp_path / "classes.npz"), net="linear", invariance="gain", likelihood="wrong-labels", prior="logistic"
    )
    found = assemble(setup)
    fit = learn(found.target, found.train, epochs=1).with_posterior("jiggle:width=0.05", steps=3)
    fit.save(tmp_path / "run", test=found.test, setup=setup)
    return tmp_path / "run"


def test_a_run_of_a_stranger_s_parts_is_read_again(run: Path) -> None:
    fitted = load_run(run)
    named = [type(part).__name__ for part in (fitted.target.likelihood, fitted.target.prior)]
    assert named == ["WrongLabels", "Logistic"]
    assert fitted.target.invariance is not None
    assert fitted.target.invariance.names == ("gain",)
    found = assemble(fitted.setup)  # type: ignore[arg-type]
    assert found.test is not None
    mean = fitted.predict_standard(found.test.x).mean()
    saved = torch.from_numpy(Run.read(run).arrays["test/mean"])
    assert torch.allclose(mean, saved.to(mean), atol=1e-6)


@pytest.mark.parametrize("kind", ["likelihood", "prior", "invariance"])
def test_a_run_whose_package_is_missing_says_which(run: Path, kind: str) -> None:
    (table,) = [table for table in TABLES if table.kind == kind]
    ((name, row),) = table.added.items()
    del table.added[name]
    wanted = f"the {kind} '{name}' of the module {row.make.__module__}"  # type: ignore[union-attr]
    with pytest.raises(InputError, match=re.escape(wanted) + ".*install its package, or import"):
        load_run(run)


def test_a_figure_that_fails_is_a_warning(run: Path) -> None:
    register(FigureRow("fails", lambda run: 1 / 0))  # pyright: ignore[reportArgumentType]
    with pytest.warns(NovaculaWarning, match="no figure 'fails', of another package: ZeroDivisionError"):
        page = render(Run.read(run))
    assert "Predictions on test data" in page


def test_the_house_s_extents_keep_their_words() -> None:
    from novacula.runs.catalogue.models import extent

    register(InvarianceRow("mine", "mine:Invariance", extents={"rotation": Extent("mine", "mines")}))
    assert extent("affine1_rotation") == extent("rotation")
    assert extent("rotation") != Extent("mine", "mines")
