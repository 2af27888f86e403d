"""What came of a verb and a network: right, a limit that is named, wrong, or an error that is not the library's."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from menagerie.verbs import VERBS
from novacula.core.errors import InputError, NovaculaWarning
from zoo import Case

RECORD = Path(__file__).with_name("outcomes.json")


@dataclass(frozen=True)
class Outcome:
    """What came of a cell."""

    kind: Literal["right", "limit", "wrong", "raw"]
    note: str = ""


RIGHT = Outcome("right")


def outcome(verb: str, case: Case) -> Outcome:
    """Try a verb on a network; warnings that are not the library's are errors, as in all tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", NovaculaWarning)
        try:
            return Outcome("right", VERBS[verb](case))
        except InputError as error:
            return Outcome("limit", str(error))
        except AssertionError as error:
            return Outcome("wrong", str(error))
        except Exception as error:
            return Outcome("raw", f"{type(error).__name__}: {error}")


def read() -> dict[str, dict[str, Outcome]]:
    """All outcomes, by network and verb."""
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    return {name: {verb: Outcome(*cell) for verb, cell in cells.items()} for name, cells in found.items()}


def write(outcomes: dict[str, dict[str, Outcome]]) -> None:
    """Keep all outcomes, one network a line."""
    lines = [
        f"  {json.dumps(name)}: {json.dumps({v: [o.kind, o.note] for v, o in cells.items()}, ensure_ascii=False)}"
        for name, cells in outcomes.items()
    ]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
