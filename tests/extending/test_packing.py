"""A posterior of another package that a run keeps in a kind of its own."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import novacula as nv
from novacula.posteriors.packed import Origin, Packed, ordered
from novacula.runs.catalogue import MethodRow, Words
from novacula.runs.catalogue.methods import METHODS
from novacula.runs.loading import load_posterior

sys.path.insert(0, str(Path(__file__).parent / "packages"))
from jiggle import Around, Jiggle


class Kept(Around):
    """The same, written down as weights and a width."""

    def pack(self) -> Packed:
        return Packed("around", self.mode, {"width": torch.tensor(self.width)})

    @classmethod
    def unpack(cls, packed: Packed, origin: Origin) -> Kept:
        return cls(ordered(packed.weights, origin.target), origin.target, float(packed.others["width"]), origin.known)


class Keeping(Jiggle):
    """Train as MAP does, then spread."""

    def posterior(self, target: Any, state: Any) -> Kept:
        return Kept({k: w[0] for k, w in state.params.items()}, target, self.width, ("spread by hand",))


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> MethodRow:
    made = MethodRow("keeping", Keeping, Words("Keeping", "run", "noise of one width"), unpack=Kept.unpack)
    monkeypatch.setitem(METHODS.added, "keeping", made)
    return made


def test_it_comes_back_as_it_was(tmp_path: Path, row: MethodRow, monkeypatch: pytest.MonkeyPatch) -> None:
    data = nv.load("digits").subset(range(80))
    target = nv.Target(nv.networks.make("linear", data.x_shape, 10))
    fit = nv.learn(target, data, epochs=1, folds=0).with_posterior("keeping:width=0.3", steps=20)
    fit.save(tmp_path)
    again = load_posterior(tmp_path, target=target)
    assert isinstance(again, Kept)
    assert again.width == pytest.approx(0.3)
    assert again.warnings == ("spread by hand",)
    x = data.x[:5]
    torch.testing.assert_close(nv.predict(again, x, seed=3).mean(), nv.predict(fit.posterior, x, seed=3).mean())
    # Without its row there is nothing to make it of.
    monkeypatch.setitem(METHODS.added, "keeping", dataclasses.replace(row, unpack=None))
    with pytest.raises(nv.InputError, match="around"):
        load_posterior(tmp_path, target=target)
