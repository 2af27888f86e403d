"""What a calibrated network leaves: files that run where Novacula is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.files import refused
from tests.study.calibrating.test_calibrate import blobs, fit, line, mlp
from torch import Tensor, nn

import novacula as nv
from novacula.study.calibrating.calibrate import calibrate
from novacula.study.calibrating.saving import FILES, PROGRAM, README, RECORD, WEIGHTS

ALONE = """
import sys
sys.modules["novacula"] = None  # importing it is an error
import torch
x, want = torch.load(sys.argv[1])
found = torch.export.load(sys.argv[2]).module()(x)
torch.testing.assert_close(found, want)
"""


def made(task: str) -> Any:
    torch.manual_seed(0)
    if task == "regression":
        data = line(120)
        return calibrate(fit(nn.Linear(2, 1), data), data, epochs=8, trained=True)
    data = blobs(120)
    return calibrate(fit(mlp(noisy=True), data), data, epochs=8)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.filterwarnings("ignore:the copies fit")
def test_the_program_runs_without_this_library(task: str, tmp_path: Path):
    cal = made(task)
    content = cal.save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert content["program"] == {"written": True, "rows": "any", "why": None}
    x = blobs(7).x if task == "classification" else line(7).x
    with torch.no_grad():
        want = cal.to_module()(x)
    torch.save((x, want), tmp_path / "want.pt")
    subprocess.run([sys.executable, "-c", ALONE, tmp_path / "want.pt", tmp_path / "out" / PROGRAM], check=True)
    # The state dict is that of the module, with the network's own names.
    state = load_file(tmp_path / "out" / WEIGHTS)
    module = cal.to_module()
    assert set(state) == set(module.state_dict())
    own = {k.removeprefix("network."): w for k, w in state.items() if k.startswith("network.")}
    cal.networks[0].load_state_dict(own)
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record == content
    assert record["thresholds"]["0.1"] == pytest.approx(cal.threshold(0.1))
    assert "torch.export.load" in (tmp_path / "out" / README).read_text()


def test_thresholds_make_the_networks_own_sets(tmp_path: Path):
    cal = made("classification")
    (q,) = cal.save(tmp_path / "out")["thresholds"]["0.1"]
    x = blobs(40, seed=3).x
    with torch.no_grad():
        p = cal.to_module()(x).double().softmax(1)
    assert torch.equal(p >= 1 - q, cal.conformal(0.1, by="network")(x).member)


class Odd(nn.Module):
    """Its forward depends on values, which a program cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if float(x.sum()) > 0 else self.net(x.clone())


def test_a_network_that_cannot_be_exported_leaves_the_rest(tmp_path: Path):
    torch.manual_seed(0)
    data = blobs(90)
    content = calibrate(fit(Odd(), data, 60), data, epochs=4, trained=True).save(tmp_path / "out")
    assert content["program"]["written"] is False
    assert "torch.export does not take the network" in content["program"]["why"]
    assert not (tmp_path / "out" / PROGRAM).exists()
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_folders_of_something_else_are_left_alone(tmp_path: Path):
    cal = made("classification")
    (tmp_path / "notes.txt").write_text("mine")
    with refused("which has contents (notes.txt)"):
        cal.save(tmp_path, overwrite=True)
    cal.save(tmp_path / "out")
    with refused("a new or empty folder"):
        cal.save(tmp_path / "out")
    cal.save(tmp_path / "out", overwrite=True)


class Encoder(nn.Module):
    """Takes ids with a mask by name, and gives an object with logits, as encoders of `transformers` do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        seen = attention_mask.unsqueeze(-1).float()
        return {"logits": self.out((self.embed(input_ids) * seen).sum(1) / seen.sum(1))}


def test_inputs_of_several_parts_are_calibrated_and_taken_away(tmp_path: Path):
    torch.manual_seed(0)
    ids, mask = torch.randint(1, 9, (90, 5)), (torch.arange(5) < torch.randint(2, 6, (90, 1))).long()
    parts = {"input_ids": ids, "attention_mask": mask}
    data = nv.Data(parts, ((ids < 4) * mask).sum(1).clamp(max=1))
    assert "inputs: 2 parts (input_ids (5,), attention_mask (5,))" in data.meaning
    seen = []

    def train(network: nn.Module, rows: nv.Data) -> None:
        seen.append(type(network))
        optimiser = torch.optim.Adam(network.parameters(), 0.05)
        for _ in range(30):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(**rows.inputs)["logits"], rows.y).backward()
            optimiser.step()

    net = Encoder()
    train(net, data)
    cal = nv.calibrate(net, data, train=train)
    assert set(seen) == {Encoder}
    few = {k: v[:7] for k, v in parts.items()}
    with torch.no_grad():
        wanted = (net(**few)["logits"] / cal.temperature).softmax(1)
    for found in (cal.predict(few).mean(), cal.predict(data.x[:7]).mean(), cal.to_module()(few).softmax(1).detach()):
        torch.testing.assert_close(found, wanted)
    cal.save(tmp_path / "out")
    loaded = nv.load_calibrated(tmp_path / "out")
    torch.testing.assert_close(loaded.predict(few).mean(), wanted)
    assert "network.embed.weight" in load_file(tmp_path / "out" / "weights.safetensors")
    assert "input_ids (5,), attention_mask (5,)" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(nv.InputError, match="none for 'attention_mask'"):
        cal.predict({"input_ids": ids})
    with pytest.raises(nv.InputError, match="tokens=True"):
        nv.calibrate(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 2)), nv.Data(ids, data.y))
