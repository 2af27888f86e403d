"""New inputs from Python are read as the training data were: by the names of columns, with words, bytes and units."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.posteriors.base import Point, Posterior
from novacula.runs.loading import load_run

RNG = np.random.default_rng(4)
FRAME = pd.DataFrame({"age": RNG.normal(50, 9, 40), "ward": ["a", "b", "c", "b"] * 10, "dose": RNG.normal(size=40)})
Y = (FRAME["age"] + 9 * FRAME["dose"] > 50).to_numpy().astype(int)
BYTES = RNG.integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)  # channels last


def trained(data: nv.Data) -> Posterior:
    """A network of one layer after a few steps."""
    torch.manual_seed(0)
    outputs = 2 if data.task == "classification" else data.y.shape[1]
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(data.x_shape)), outputs))
    return nv.infer(nv.MAP(), net, data, steps=5)


def by_hand(posterior: Posterior, x: Tensor) -> Tensor:
    """What the network's one layer says of inputs (N, …): probabilities of two classes."""
    weights = posterior.mode
    return (x.flatten(1) @ weights["1.weight"].T + weights["1.bias"]).softmax(1)


def coded(frame: pd.DataFrame) -> Tensor:
    """The inputs of a frame's rows: age, one of three wards or another, dose."""
    wards = np.stack([frame["ward"] == w for w in "abc"] + [~frame["ward"].isin(list("abc"))], 1)
    columns = [frame[["age"]].to_numpy(), wards, frame[["dose"]].to_numpy()]
    return torch.tensor(np.concatenate(columns, 1), dtype=torch.float32)


class TestFrames:
    def test_columns_are_found_by_their_names(self) -> None:
        posterior = trained(nv.Data(FRAME, Y))
        new = FRAME.iloc[5:9].assign(more="left alone")[["dose", "more", "ward", "age"]]
        torch.testing.assert_close(nv.predict(posterior, new).mean(), by_hand(posterior, coded(new)))

    def test_new_words_count_as_other_and_are_said(self) -> None:
        posterior, new = trained(nv.Data(FRAME, Y)), FRAME.iloc[:3].assign(ward=["b", "z", "a"])
        with pytest.warns(nv.NovaculaWarning, match=r"column 'ward': 1 row with other words than in training \('z'\)"):
            found = nv.predict(posterior, new).mean()
        torch.testing.assert_close(found, by_hand(posterior, coded(new)))

    def test_a_column_that_is_not_there(self) -> None:
        posterior = trained(nv.Data(FRAME, Y))
        with pytest.raises(nv.InputError, match="columns age, ward, dose; got a frame without 'ward'"):
            nv.predict(posterior, FRAME[["age", "dose"]])

    def test_names_that_were_given_to_an_array(self) -> None:
        x = FRAME[["age", "dose"]].to_numpy()
        posterior = trained(nv.Data(x, Y, columns=["age", "dose"]))
        expected = by_hand(posterior, torch.tensor(x, dtype=torch.float32))
        torch.testing.assert_close(nv.predict(posterior, FRAME).mean(), expected)

    def test_frames_are_in_their_own_units(self) -> None:
        plain = nv.Data(FRAME, Y)
        scale = nv.Standardiser.fit(plain)
        posterior = trained(scale.apply(plain))
        expected = by_hand(posterior, (coded(FRAME) - coded(FRAME).mean(0)) / scale.x_sd.float())
        torch.testing.assert_close(nv.predict(posterior, FRAME[["ward", "dose", "age"]]).mean(), expected)

    def test_dates_are_no_numbers(self) -> None:
        days = FRAME.assign(day=pd.date_range("2024-01-01", periods=40))[["age", "day"]]
        posterior = trained(nv.Data(days, Y))
        with pytest.raises(nv.InputError, match="dates, or days since 1970, as in the run; got numbers without a unit"):
            nv.predict(posterior, days.assign(day=2024))


class TestData:
    def test_are_taken_with_their_inputs(self) -> None:
        data = nv.Data(FRAME, Y)
        posterior = trained(data)
        assert torch.equal(nv.predict(posterior, data).mean(), nv.predict(posterior, data.x).mean())

    def test_of_other_columns_are_refused(self) -> None:
        posterior = trained(nv.Data(FRAME, Y))
        with pytest.raises(nv.InputError, match="got data with columns dose, age"):
            nv.predict(posterior, nv.Data(FRAME[["dose", "age"]], Y))

    def test_standard_units_are_those_of_training(self) -> None:
        data, other = nv.Data(FRAME, Y), nv.Data(FRAME.assign(age=FRAME["age"] * 2), Y)
        scale = nv.Standardiser.fit(data)
        posterior = trained(scale.apply(data))
        expected = nv.predict(posterior, scale.inputs(other.x)).mean()
        assert torch.equal(nv.predict(posterior, other).mean(), expected)
        assert torch.equal(nv.predict(posterior, scale.apply(other)).mean(), expected)
        for given in (trained(data), posterior):
            with pytest.raises(nv.InputError, match="got data that were standardised by themselves"):
                nv.predict(given, nv.Standardiser.fit(other).apply(other))


class TestBytes:
    expected = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255

    @pytest.mark.parametrize("kind", ["array", "tensor", "channels first"])
    def test_are_colours_as_in_training(self, kind: str) -> None:
        posterior, x = trained(nv.Data(BYTES, Y[:20])), torch.from_numpy(BYTES)
        new = {"array": BYTES, "tensor": x, "channels first": x.permute(0, 3, 1, 2)}[kind]
        torch.testing.assert_close(nv.predict(posterior, new).mean(), by_hand(posterior, self.expected))

    def test_floats_of_their_size_are_pointed_out(self) -> None:
        posterior = trained(nv.Data(BYTES, Y[:20]))
        with pytest.warns(nv.NovaculaWarning, match="not colours in"):
            nv.predict(posterior, self.expected * 255)
        loud = trained(nv.Data(self.expected * 255 + 0.5, Y[:20]))
        nv.predict(loud, self.expected * 255)  # no warning: those of training were so

    def test_by_a_calibrated_network(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(60, 2))
        found = nv.calibrate(net, nv.Data(BYTES, Y[:20]), folds=2, epochs=1, seed=1)
        expected = found.to_module()(self.expected).detach().softmax(1)
        found.save(tmp_path / "run")
        for given in (found, nv.load_calibrated(tmp_path / "run")):
            torch.testing.assert_close(given.predict(torch.from_numpy(BYTES)).mean().float(), expected)


def test_runs_of_folders_take_frames_and_arrays_in_their_own_units(tmp_path: Path) -> None:
    plain = nv.Data(FRAME, Y)
    torch.manual_seed(0)
    target, data = nv.Target(nn.Linear(6, 2)), nv.Standardiser.fit(plain).apply(plain)
    nv.learn(target, data, epochs=1, folds=0).save(tmp_path / "run")
    saved = load_run(tmp_path / "run", target=target, data=data)
    expected = saved.predict(plain.x).mean()
    for given in (plain.x.numpy(), FRAME[["dose", "ward", "age"]], plain):
        torch.testing.assert_close(saved.predict(given).mean(), expected)
    with pytest.raises(nv.InputError, match="standardised by themselves"):
        saved.predict(data)


def test_ids_of_tokens_stay_whole() -> None:
    ids = RNG.integers(0, 9, (30, 4))
    net = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2))
    posterior = nv.infer(nv.MAP(), net, nv.Data(ids, ids[:, 0] % 2, tokens=True), steps=2)
    expected = nv.predict(posterior, torch.from_numpy(ids)).mean()
    assert torch.equal(nv.predict(posterior, ids).mean(), expected)
    assert isinstance(posterior.target, nv.Target)
    unknown = Point(posterior.mode, dataclasses.replace(posterior.target, like=None))
    assert torch.equal(nv.predict(unknown, torch.from_numpy(ids)).mean(), expected)
