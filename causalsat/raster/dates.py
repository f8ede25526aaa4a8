"""When imagery was taken, and which frames a dated treatment allows."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, one_of
from causalsat.public import public

NAT = np.datetime64("NaT", "D")


@public
@dataclass(frozen=True)
class Dates:
    """Which frames belong to a place, relative to a date in the table of places.

    The window is half open: a frame belongs to a place when it was taken in ``[event + a months, event + b months)``
    with ``window_months = (a, b)``; a frame on the date itself is out for ``b = 0``. Frames at or after treatment are
    left out whatever the window says, unless ``allow_post_treatment=True`` is passed to the verb: an image that shows
    the treatment's results is a bad control.

    Parameters
    ----------
    column : str
        Column of the places with the date that the window counts from (the treatment date, unless ``event`` says
        otherwise). A bare year stands for its first of January.
    event : str, optional
        Column with the treatment date where that is another one than ``column``, or the date itself as text
        ("2008-06-30"), the same for every place.
    window_months : (int, int)
        Start and end of the window in months relative to ``column``.
    frames : {"composite"}
        How the frames of one place become one image.
    composite : {"last"}
        ``"last"``: each pixel from the latest frame in which it is valid.
    pattern : str, optional
        Regular expression that finds the date in a file's name: named groups ``year``, ``month``, ``day`` (the last
        two optional), or one group that holds ``YYYY``, ``YYYYMM``, ``YYYYMMDD`` or ``YYYY-MM-DD``. Without it the
        TIFF's date tag is used. A bare year or month is a product of the whole period: it counts as taken before a
        treatment only if the whole period ends before it.

    Examples
    --------
    >>> from causalsat import Dates
    >>> Dates("treated_on", window_months=(-24, 0)).window_months
    (-24, 0)
    """

    column: str
    event: str | None = None
    window_months: tuple[int, int] = (-36, 0)
    frames: str = "composite"
    composite: str = "last"
    pattern: str | None = None

    def __post_init__(self) -> None:
        one_of("frames", self.frames, ["composite"])
        one_of("composite", self.composite, ["last"])
        first, last = self.window_months
        if not (isinstance(first, int) and isinstance(last, int) and first < last):
            raise OptionError(
                f"window_months={self.window_months!r} must be two whole numbers, the first below the second, "
                "for example (-36, 0): from 36 months before the date up to the day before it."
            )
        if self.pattern is not None:
            compiled(self.pattern)


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a file date, refused with a reason when it cannot find one."""
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise OptionError(f"pattern={pattern!r} is not a regular expression: {error}.") from error
    if found.groups == 0 or (found.groupindex and "year" not in found.groupindex):
        raise OptionError(
            f"pattern={pattern!r} has no group for the date; mark it, for example r'_(\\d{{8}})_' or "
            "r'(?P<year>\\d{4})-(?P<month>\\d{2})'."
        )
    return found


def date_in_name(name: str, pattern: str) -> tuple[np.datetime64, np.datetime64]:
    """First and last day that ``pattern`` finds in a file's name; NaT twice when it finds none."""
    match = compiled(pattern).search(name)
    if match is None:
        return NAT, NAT
    named = match.groupdict()
    text = "-".join(str(named[k]) for k in ("year", "month", "day") if named.get(k)) if named else str(match.group(1))
    return period(text)


def period(value: Any) -> tuple[np.datetime64, np.datetime64]:
    """First and last day meant by a date, a month or a year (text, number, date or timestamp).

    Returns
    -------
    (first, last) : datetime64[D]
        Equal for a day; NaT twice for a missing value. Raises :class:`DataError` for anything else.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is np.ma.masked:
        return NAT, NAT
    text = str(value).strip()
    if text in ("", "NaT", "nan", "<NA>", "None"):
        return NAT, NAT
    match = re.match(
        r"^(\d{4})(?:\.0)?$|^(\d{4})[-:/]?(\d{1,2})$|^(\d{4})[-:/]?(\d{1,2})[-:/]?(\d{1,2})(?:[T ].*)?$", text
    )
    if match is None:
        raise DataError(f"{value!r} is not a date; write YYYY, YYYY-MM or YYYY-MM-DD.")
    year, month, day = _parts(match)
    try:
        if day:
            first = np.datetime64(f"{year}-{month:02d}-{day:02d}", "D")
            return first, first
        start = np.datetime64(f"{year}-{month or 1:02d}", "M")
    except ValueError as error:
        raise DataError(f"{value!r} is not a date of the calendar; write YYYY, YYYY-MM or YYYY-MM-DD.") from error
    last = (start + (1 if month else 12)).astype("datetime64[D]") - 1
    return start.astype("datetime64[D]"), last


def _parts(match: re.Match[str]) -> tuple[int, int, int]:
    groups = match.groups()
    if groups[0]:
        return int(groups[0]), 0, 0
    if groups[1]:
        return int(groups[1]), int(groups[2]), 0
    return int(groups[3]), int(groups[4]), int(groups[5])


def add_months(dates: np.ndarray, months: int) -> np.ndarray:
    """``dates`` moved by whole months; a day that the month does not have becomes its last day.

    Parameters
    ----------
    dates : ndarray (m,) datetime64[D]
    months : int

    Returns
    -------
    ndarray (m,) datetime64[D]
    """
    dates = np.asarray(dates, "datetime64[D]")
    month = dates.astype("datetime64[M]")
    day = (dates - month.astype("datetime64[D]")).astype(np.int64)
    target = month + months
    length = ((target + 1).astype("datetime64[D]") - target.astype("datetime64[D]")).astype(np.int64)
    shifted = target.astype("datetime64[D]") + np.minimum(day, length - 1)
    return np.where(np.isnat(dates), NAT, shifted).astype("datetime64[D]")


def frame_rule(
    first: np.ndarray,
    last: np.ndarray,
    anchor: np.ndarray,
    event: np.ndarray,
    window_months: tuple[int, int],
    *,
    allow_post_treatment: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Which (place, frame) pairs may be used, and which are ruled out only by treatment.

    Parameters
    ----------
    first, last : ndarray (m,) datetime64[D]
        First and last day of each pair's frame.
    anchor, event : ndarray (m,) datetime64[D]
        The date the window counts from, and the treatment date, of each pair's place; NaT: no limit of that kind.
    window_months : (int, int)
        The half-open window.
    allow_post_treatment : bool
        Keep frames at or after ``event``.

    Returns
    -------
    usable : ndarray (m,) bool
        Inside the window and, unless allowed, wholly before treatment.
    late : ndarray (m,) bool
        Not wholly before treatment.
    """
    low, high = add_months(anchor, window_months[0]), add_months(anchor, window_months[1])
    inside = np.isnat(anchor) | ((first >= low) & (last < high))
    late = ~np.isnat(event) & (last >= event)
    return inside & (allow_post_treatment | ~late), late
