"""Text from files and data, as a terminal may show it.

Names of columns, classes and files are written by others. An escape sequence among them would move the cursor or
recolour the screen, and a right-to-left mark would show a name in another order than it has.

References:
    Trojan Source: Invisible Vulnerabilities. N. Boucher, R. Anderson, 2021, arXiv:2111.00169.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Control characters but tab and line feed, line separators, marks and overrides of direction, lone surrogates.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def markdown(titles: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; of each column, by a letter of ``sides``, whether it is flush left (l) or right (r)."""
    rules = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rules, *rows))


def visible(text: str) -> str:
    r"""The text with what a terminal would obey, and not show, written out; doing it twice changes nothing.

    Args:
        text: Any text.

    Returns:
        The text with such characters as ``\u001b``, which JSON reads back in a string.

    Example:
        >>> visible("\x1b[31mred")
        '\\u001b[31mred'
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
