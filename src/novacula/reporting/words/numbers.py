"""Numbers as people read them: a true minus sign, thousands apart, no more digits than the error allows."""

from __future__ import annotations

import math

MISSING = "—"
NO_BREAK = "\u00a0"


def number(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals.

    Returns:
        For instance ``"−1,234.5"``.

    Example:
        >>> number(-1234.56, 1), number(None), number(-0.0001, 2)
        ('−1,234.6', '—', '0.00')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{digits}f}"
    return f"{0:,.{digits}f}" if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def significant(value: float | None, digits: int = 3) -> str:
    """A number with a count of significant digits, for quantities that span orders of magnitude.

    Returns:
        For instance ``"0.00123"``, ``"1,230"`` or ``"1.2 × 10⁶"``.

    Example:
        >>> significant(0.0012345), significant(1234567.0), significant(12.0)
        ('0.00123', '1.23 × 10⁶', '12')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 <= exponent < 6:
        text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa = f"{value / 10**exponent:.{digits - 1}f}"
        text = f"{mantissa} × 10{str(exponent).translate(_SUPERSCRIPT)}"
    return text.replace("-", "−")


def percent(value: float) -> str:
    """A share in per cent, with a decimal below ten.

    Returns:
        For instance ``"4.2 %"``.

    Example:
        >>> percent(0.0421).replace(NO_BREAK, " "), percent(0.5).replace(NO_BREAK, " ")
        ('4.2 %', '50 %')
    """
    text = f"{100 * value:.1f}" if abs(value) < 0.0995 else f"{100 * value:.0f}"
    return f"{text.removesuffix('.0')}{NO_BREAK}%"


def with_error(value: float | None, error: float | None) -> str:
    """A number and its standard error, to two digits of the error and at most two decimals.

    Returns:
        For instance ``"−1,234.6 ± 1.2"``.

    Example:
        >>> with_error(-1234.567, 1.23).replace(NO_BREAK, " "), with_error(-471.0, 0.0)
        ('−1,234.6 ± 1.2', '−471.0')
    """
    if error is None or not math.isfinite(error) or error <= 0:
        return number(value, 1)
    digits = min(2, max(0, 1 - math.floor(math.log10(error))))
    shown = number(error, digits) if error >= 0.005 else "less than 0.01"
    return f"{number(value, digits)}{NO_BREAK}±{NO_BREAK}{shown}"


def count(value: int | float, noun: str, plural: str = "") -> str:
    """A count and its noun."""
    return f"{int(value):,} {noun if value == 1 else plural or noun + 's'}"


def listing(words: list[str], last: str = "and") -> str:
    """Words in a row."""
    return f" {last} ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])


def duration(seconds: float | None) -> str:
    """A time span."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
