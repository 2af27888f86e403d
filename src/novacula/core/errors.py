"""Errors that say what was expected, what came and what to try.

A person who passes something wrong should be able to mend it from the message alone. Every check of a user's input
raises `InputError`, a `ValueError`, so that callers may catch either; the command line turns it into exit code 2.
"""

from __future__ import annotations


class InputError(ValueError):
    """A user's input that cannot be used, with a way out.

    Args:
        expected: What was expected, as a noun phrase.
        got: What came instead, with the offending place (row, column, file, parameter) where there is one.
        hint: What to try.

    Example:
        >>> print(InputError("labels in 0..9", "label 12 in row 3", "pass classes=13 or fix the row"))
        expected labels in 0..9; got label 12 in row 3. Try: pass classes=13 or fix the row
    """

    def __init__(self, expected: str, got: str, hint: str) -> None:
        super().__init__(f"expected {expected}; got {got}. Try: {hint}")
        self.expected, self.got, self.hint = expected, got, hint

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        """Pickle by the three parts, so that the error survives a process boundary."""
        return type(self), (self.expected, self.got, self.hint)


class NonFiniteError(InputError):
    """A loss, gradient or network output that became NaN or infinite during a computation."""


class DamagedRun(InputError):
    """A run folder whose files are not those that were written; the hint says what of it can still be used."""


class FullDisk(InputError):
    """No room on the disk. What was whole before is whole still, and an interrupted run can be resumed."""


class NovaculaWarning(UserWarning):
    """A result that can be used, with a reservation that its reader must know."""
