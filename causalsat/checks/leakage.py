"""Covariates that are the treatment, or were made from it."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from causalsat.errors import TreatmentLeakError, WeakOverlapWarning, warn

VARYING_SHARE = 0.05
_RTOL = 1e-12
_DUMMY = re.compile(r"(?P<column>.+)\[[^\[\]]*\]")


def leakage_check(
    d: np.ndarray, columns: Mapping[str, np.ndarray], *, treatment: str = "treatment", allow: Iterable[str] = ()
) -> None:
    """Refuse covariates that hold the treatment.

    Refused always: a column that equals the treatment, is an affine function of it (constant within each arm), or
    separates the arms perfectly. Refused unless named in ``allow``: a column that equals another one times the
    treatment (or times one minus it), and one that is constant in one arm while at least 5% of the other arm differs
    from that constant. Adjusting for such a column conditions on a consequence of the treatment.

    Dummies, known by their names "column[level]", follow a milder rule for the last two kinds: a level without treated
    (or without control) rows, such as a region the programme never reached, is a lack of support and earns a warning.
    The exception is a column all of whose dummies are constant among the controls (a kind of programme, say): it was
    made from the treatment and is refused.

    Parameters
    ----------
    d : np.ndarray
        (n,) float64 treatment, 0 or 1.
    columns : mapping of str to np.ndarray
        (n,) float64 covariates; missing values are left out of each comparison.
    treatment : str
        Name of the treatment, for the message.
    allow : iterable of str
        Columns the user vouches for: known to be fixed before treatment.

    Raises
    ------
    TreatmentLeakError
        Names every column, its twin, the rows compared, and the fix.

    Warns
    -----
    WeakOverlapWarning
        Names the dummies that are constant in one arm.

    Examples
    --------
    >>> d = np.array([0.0, 1.0, 0.0, 1.0])
    >>> leakage_check(d, {"age": np.array([30.0, 40.0, 50.0, 60.0])})
    """
    d = np.asarray(d, dtype=np.float64)
    values = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    allowed = set(allow)
    found: dict[str, str] = {}
    unsupported: list[str] = []
    for name, x in values.items():
        reason = _is_treatment(x, d, treatment)
        if not reason and name not in allowed:
            reason = _from_treatment(name, x, d, values, treatment)
            if reason and _lacks_support(name, d, values):
                unsupported.append(name)
                continue
        if reason:
            found[name] = reason
    if unsupported:
        listed = ", ".join(f'"{name}"' for name in unsupported)
        warn(
            f'the levels {listed} hold rows of one arm of "{treatment}" only, so the effect is extrapolated there; '
            "Eligibility(by=[column]) leaves out the levels where the treatment never occurs.",
            WeakOverlapWarning,
        )
    if not found:
        return
    listed = "; ".join(f'"{name}" {reason}' for name, reason in found.items())
    raise TreatmentLeakError(
        f"{len(found)} of {len(values)} covariates hold the treatment: {listed}. Leave them out of covariates=; a "
        "column of the last two kinds that was fixed before treatment can be kept with allow=[...]."
    )


def _lacks_support(name: str, d: np.ndarray, values: Mapping[str, np.ndarray]) -> bool:
    """A dummy whose text column still varies among the controls."""
    match = _DUMMY.fullmatch(name)
    if match is None:
        return False
    prefix = f"{match['column']}["
    return any(not _flat(_arms(x, d)[1]) for other, x in values.items() if other.startswith(prefix))


def _arms(x: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen = np.isfinite(x)
    return x[seen & (d == 1.0)], x[seen & (d == 0.0)]


def _flat(x: np.ndarray) -> bool:
    return bool(x.size) and float(np.ptp(x)) <= _RTOL * max(1e-300, float(np.abs(x).max()))


def _is_treatment(x: np.ndarray, d: np.ndarray, treatment: str) -> str:
    treated, control = _arms(x, d)
    if treated.size < 2 or control.size < 2:
        return ""
    rows = treated.size + control.size
    if _flat(treated) and _flat(control):
        one, zero = float(treated[0]), float(control[0])
        if one == zero:
            return ""
        if (one, zero) == (1.0, 0.0):
            return f'equals "{treatment}" on all {rows} rows'
        return f'is "{treatment}" times {one - zero:g} plus {zero:g} on all {rows} rows'
    if treated.min() > control.max() or treated.max() < control.min():
        higher = "above" if treated.min() > control.max() else "below"
        return f'separates the arms of "{treatment}" perfectly: every treated value lies {higher} every control value'
    return ""


def _from_treatment(name: str, x: np.ndarray, d: np.ndarray, values: Mapping[str, np.ndarray], treatment: str) -> str:
    for arm, word, factor in ((0.0, "controls", treatment), (1.0, "treated", f"1 - {treatment}")):
        here, there = x[np.isfinite(x) & (d == arm)], x[np.isfinite(x) & (d != arm)]
        if not _flat(here) or there.size == 0:
            continue
        differ = int((there != here[0]).sum())
        twin = _twin(name, x, d != arm, values) if float(here[0]) == 0.0 and differ else ""
        if twin:
            return f'equals "{twin}" times ({factor}) on all {int(np.isfinite(x).sum())} rows'
        if differ >= VARYING_SHARE * there.size:
            other = "treated" if arm == 0.0 else "control"
            return (
                f"is {float(here[0]):g} for all {here.size} {word} and differs from it in {differ} of {there.size} "
                f"{other} rows"
            )
    return ""


def _twin(name: str, x: np.ndarray, inside: np.ndarray, values: Mapping[str, np.ndarray]) -> str:
    """The column that x repeats where ``inside`` holds, and that is not zero elsewhere as x is."""
    for other, b in values.items():
        both = np.isfinite(x) & np.isfinite(b)
        close = np.abs(x - b)[both & inside] <= _RTOL * max(1e-300, float(np.abs(x[both]).max(initial=0.0)))
        elsewhere = b[both & ~inside]
        if other != name and close.size and close.all() and (elsewhere != 0.0).any():
            return other
    return ""
