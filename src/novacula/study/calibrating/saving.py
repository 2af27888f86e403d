"""What a calibrated network leaves to take away: files that need torch alone, or not even that.

| file | holds |
| --- | --- |
| ``calibrated.pt2`` | the calibrated network as a program: ``torch.export.load(path).module()(x)`` |
| ``weights.safetensors`` | the state dict of `Calibrated.to_module`: the network's own names after ``network.`` |
| ``calibration.json`` | temperature or noise, thresholds of conformal sets, scores of unseen rows, what was decided |
| ``README.md`` | how to use them |
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_bytes, write_json, write_text
from novacula.core.storage.stage import settle, staged

PROGRAM, WEIGHTS, RECORD, README = "calibrated.pt2", "weights.safetensors", "calibration.json", "README.md"
FILES = (PROGRAM, WEIGHTS, RECORD, README)


def save(
    module: nn.Module, example: Tensor, content: dict[str, Any], path: Path, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write the files of the module's table whole or not at all; the contents of ``calibration.json``."""
    check_folder(path, overwrite=overwrite)
    module = module.cpu()
    with staged(path, FILES, (RECORD,)) as new:
        content = {**content, "program": _export(module, example.cpu(), new / PROGRAM)}
        write_bytes(new / WEIGHTS, save_tensors({k: w.detach().clone() for k, w in module.state_dict().items()}))
        write_text(new / README, readme(content))
        write_json(new / RECORD, content)
    return content


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something else; files that were written whole are moved to their places first."""
    settle(path, (RECORD,))
    if path.exists() and not path.is_dir():
        raise InputError("a folder to write to", f"{path}, which is a file", "choose another folder")
    found = [p.name for p in path.iterdir() if p.name != ".lock"] if path.is_dir() else []
    strange = [name for name in found if name not in FILES and not name.startswith(".")]
    if found and (strange or not overwrite):
        hint = "choose another folder" if strange else "use overwrite=True (--overwrite) to replace it"
        raise InputError("a new or empty folder", f"{path}, which has contents ({found[0]})", hint)


def readme(content: dict[str, Any]) -> str:
    """How to use the files."""
    shape = ", ".join(["N", *map(str, content["data"]["x_shape"])])
    parts = [f"{p['name']} {tuple(p['shape'])}" for p in (content["data"]["parts"] or {}).get("parts", ())]
    of = content["data"]["dtype"]
    of += f", the parts of a row side by side: {', '.join(parts)}" if parts else ""
    measurements = content["task"] == "regression"
    gives = "mean, sd = network(x)" if measurements else "logits = network(x)"
    q = (content["thresholds"].get("0.1") or [None])[0]
    sets = ""
    if q is not None:
        rule = (
            f"the interval `mean ± {q:.6g} * sd` held 90 % of the measurements"
            if measurements
            else f"the set of all classes with probability of at least `{1 - q:.6g}` held the true one in 90 % of cases"
        )
        sets = f"\nOn rows that no network had seen, {rule}. Other levels stand in `{RECORD}` under `thresholds`.\n"
    if content["task"] == "multilabel":
        sets = f"\nThresholds of conformal sets, one for each label, stand in `{RECORD}`.\n"
    then = "" if measurements else "probabilities = logits.softmax(-1)\n"
    if not measurements and (content["task"] == "multilabel" or content["single"]):
        then = "probabilities = logits.sigmoid()\n"
    what = "" if measurements else f" The temperature is {content['temperature']:.6g}."
    program = content["program"]
    code = (
        f'network = torch.export.load("{PROGRAM}").module()\n{gives}  # x: ({shape}), {of}\n'
        if program["written"]
        else f"# {program['why']}\n"
    )
    return (
        f"# A calibrated {content['network']}\n\n```python\nimport torch\n\n{code}{then}```\n\n"
        f"`{WEIGHTS}` holds the same as a state dict, with the network's own names after `network.`.{what}\n{sets}"
        f"\nMade by Novacula {content['novacula']} on {content['data']['n']:,} rows of {content['data']['name']}; "
        "torch is all that the files need.\n"
    )


def _export(module: nn.Module, x: Tensor, path: Path) -> dict[str, Any]:
    # Any number of rows where the network allows it.
    error: Exception | None = None
    for rows in (torch.export.Dim.DYNAMIC, torch.export.Dim.AUTO):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = torch.export.export(module, (x,), dynamic_shapes=({0: rows},))
                torch.export.save(program, path)
            return {"written": True, "rows": "any" if rows is torch.export.Dim.DYNAMIC else str(len(x)), "why": None}
        except Exception as failure:  # whatever torch.export meets in a person's forward
            error = failure
    path.unlink(missing_ok=True)
    why = f"torch.export does not take the network: {str(error).strip().splitlines()[0][:200]}"
    return {"written": False, "rows": None, "why": why}
