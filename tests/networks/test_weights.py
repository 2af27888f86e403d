"""Weights from files: what `torch.save` wrote, old and new, and what only looks like it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import novacula as nv
from novacula.networks.weights import load_weights


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_come_back(tmp_path: Path, zipped: bool) -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({"state_dict": one.state_dict()}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    load_weights(other, tmp_path / "w.pt")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_length_that_is_declared_is_not_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's files allocate what they are asked to read before they read it; bytes in memory give what there is."""
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    content, asked = bytearray((tmp_path / "w.pt").read_bytes()), []
    place = content.index(b"X\x06\x00\x00\x00weight")  # a string of six bytes: now of more than 1 GiB
    content[place + 4] = 0x50
    (tmp_path / "w.pt").write_bytes(content)
    load = torch.load

    def watched(file: str | Path | BinaryIO, **options: object) -> object:
        asked.append(isinstance(file, io.BytesIO))
        return load(file, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "load", watched)
    with pytest.raises(nv.InputError, match="weights: a"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.pt")
    assert asked == [True]


def test_whatever_damage_does_is_said_in_words(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pt").read_bytes()
    for end in range(0, len(content) - 24, 7):  # the last bytes are those of the weights
        (tmp_path / "w.pt").write_bytes(content[:end])
        with pytest.raises(nv.InputError, match="weights: a"):
            load_weights(nn.Linear(3, 2), tmp_path / "w.pt")


def test_counts_of_batches_may_be_missing(tmp_path: Path) -> None:
    """As in files of functional code; statistics may not."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = {k: w + 1 for k, w in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "net.safetensors")
    load_weights(net, tmp_path / "net.safetensors")
    assert all(torch.equal(w, net.state_dict()[k]) for k, w in state.items())
    save_file({k: w for k, w in state.items() if "running" not in k}, tmp_path / "less.safetensors")
    with pytest.raises(nv.InputError, match="running_mean"):
        load_weights(net, tmp_path / "less.safetensors")


class Normalised(nn.Module):
    """A network with constants and a step before it, as people put them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([1.0, 2.0, 3.0]))
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x - self.mean)


def test_weights_of_the_part_that_has_all_go_there(tmp_path: Path) -> None:
    one = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    torch.save(one.state_dict(), tmp_path / "w.pt")
    whole = Normalised(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    load_weights(whole, tmp_path / "w.pt")
    assert all(torch.equal(w, whole.network.state_dict()[k]) for k, w in one.state_dict().items())
    assert whole.mean.tolist() == [1, 2, 3]
    headed = nn.Sequential(Normalised(nn.Sequential(*one)), nn.Linear(2, 2))
    with pytest.raises(nv.InputError, match="weights of this Sequential"):
        load_weights(headed, tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.backbone."])
def test_what_wrappers_leave_is_understood(tmp_path: Path, prefix: str) -> None:
    """DDP, compiled modules, Lightning's (which keep the weights of their loss too), averages (which count)."""
    one, other = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2))
    state = {f"{prefix}{k}": w for k, w in one.state_dict().items()}
    torch.save(
        {"state_dict": {**state, "criterion.weight": torch.ones(2), "n_averaged": torch.tensor(3)}}, tmp_path / "w.pt"
    )
    load_weights(other, tmp_path / "w.pt")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    torch.save({**state, **{f"ema.{k}": w for k, w in one.state_dict().items()}}, tmp_path / "two.pt")
    with pytest.raises(nv.InputError, match="the weights of one network"):
        load_weights(other, tmp_path / "two.pt")
    torch.save({**state, f"{prefix}0.scale": torch.ones(2)}, tmp_path / "more.pt")
    with pytest.raises(nv.InputError, match=r"0\.scale, which it has not"):
        load_weights(other, tmp_path / "more.pt")
