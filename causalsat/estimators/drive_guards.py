"""Guards of `drive`: instruments that are no instruments, columns that determine each other, too few rows."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from causalsat.errors import (
    DataError,
    EmbeddingInstrumentWarning,
    IdentificationError,
    ManyInstrumentsWarning,
    OptionError,
    warn,
)
from causalsat.inference.absorb import Factor
from causalsat.inference.iv_rows import IvRows
from causalsat.study.embeddings import Embeddings
from causalsat.study.open import Study

SAME = 1e-12
NO_STRENGTH = 1e-10
NO_VARIATION = 1e-10
ROWS_PER_INSTRUMENT = 10
# Names that encoders give their features.
_FEATURE = re.compile(r"^(\d+:)?(e\d+|rcf/\d+[+-]?|bands/.+/.+|callable/\d{4})$")


def guard_instruments(instruments: Any) -> None:
    """Refuse raw embeddings and arrays in the place of instrument columns.

    Raises
    ------
    OptionError
        Anything but one column name or several.
    """
    given = (
        [instruments]
        if isinstance(instruments, Embeddings) or not isinstance(instruments, (list, tuple))
        else instruments
    )
    if any(isinstance(item, Embeddings) for item in given):
        raise OptionError(
            "instruments=Embeddings is refused: hundreds of weak columns pull two-stage least squares to ordinary "
            "least squares, and an image that moves the treatment will mostly also move the outcome. Build one scalar "
            "index out of fold, pass it as a column and argue its exclusion, or give the images as controls "
            "(embeddings=...)."
        )
    wrong = [item for item in given if not isinstance(item, str)]
    if wrong or not given:
        received = type(wrong[0]).__name__ if wrong else "an empty list"
        raise OptionError(f'instruments must be names of columns, not {received}; write instruments=["z1", "z2"].')


def embedding_instruments(study: Study, names: Sequence[str], values: np.ndarray, kept: np.ndarray) -> tuple[str, ...]:
    """Instruments that are features of images, by name or by value; they are warned of.

    Parameters
    ----------
    study : Study
        The rows in use.
    names : sequence of str
        q instruments.
    values : np.ndarray
        (n, q) float64 as they were given.
    kept : np.ndarray
        (n,) positions of the rows in the study.
    """
    features = () if study.embeddings is None else study.embeddings.feature_names
    found = [name for name in names if name in features or _FEATURE.match(name)]
    if study.embeddings is not None and study.image is not None:
        known = {column.tobytes() for column in _single_columns(study.embeddings.matrix[study.image[kept]])}
        found += [
            n for n, v in zip(names, values.T, strict=True) if np.float32(v).tobytes() in known and n not in found
        ]
    if found:
        warn(
            f"instruments {', '.join(found)} carry the names or values of image features. An image that moves the "
            "treatment mostly also moves the outcome: say in words why these do not, except through the treatment, and "
            "read the Anderson-Rubin rows. One scalar index built out of fold is the safer instrument.",
            EmbeddingInstrumentWarning,
        )
    return tuple(found)


def _single_columns(matrix: np.ndarray) -> list[np.ndarray]:
    """Columns (n,) float32, the precision of a stored embedding."""
    return list(np.ascontiguousarray(np.asarray(matrix, dtype=np.float32).T))


def guard_outcome(name: str, left: float, total: float) -> None:
    """Refuse an outcome that the controls determine (raises DataError)."""
    if total <= 0.0 or left <= NO_VARIATION * total:
        raise DataError(
            f"outcome {name!r} does not vary once the controls are partialled out; nothing is left to explain."
        )


def guard_variation(
    role: str, names: Sequence[str], left: np.ndarray, total: np.ndarray, factors: Sequence[Factor]
) -> None:
    """Refuse treatments or instruments that do not vary inside the fixed effects.

    Parameters
    ----------
    role : str
        "treatment" or "instrument".
    names : sequence of str
        k columns.
    left, total : np.ndarray
        (k,) weighted variances inside the fixed effects and in all.
    factors : sequence of Factor
        The fixed effects.

    Raises
    ------
    IdentificationError
        A variance inside of less than 1e-10 of the total.
    """
    flat = [name for name, inside, all_ in zip(names, left, total, strict=True) if inside < NO_VARIATION * all_]
    if flat:
        raise IdentificationError(
            f"{role} {', '.join(repr(n) for n in flat)} does not vary{_inside(factors)}. Nothing can be learnt from "
            "it there: drop a fixed effect, or choose a column that varies within its levels."
        )


def _inside(factors: Sequence[Factor]) -> str:
    if not factors:
        return ""
    return " inside the fixed effects " + ", ".join(f"{f.name} ({f.n_levels} levels)" for f in factors)


def guard_same(rows: IvRows) -> None:
    """Refuse an instrument that is a treatment or the outcome, up to the controls.

    Raises
    ------
    IdentificationError
        |correlation| > 1 - 1e-12 after controls are partialled out.
    """
    others = np.column_stack([rows.y, rows.X])
    names = [f"outcome {rows.outcome!r}", *(f"treatment {t!r}" for t in rows.treatments)]
    root = np.sqrt(rows.weights)[:, None]
    unit_z = rows.Z * root / np.linalg.norm(rows.Z * root, axis=0)[None, :]
    unit_o = others * root / np.linalg.norm(others * root, axis=0)[None, :]
    close = np.abs(unit_z.T @ unit_o) > 1.0 - SAME
    if close.any():
        j, k = (int(i) for i in np.argwhere(close)[0])
        raise IdentificationError(
            f"instrument {rows.instruments[j]!r} equals {names[k]} once the covariates are partialled out "
            "(correlation 1 within 1e-12). It is no instrument: an instrument moves the treatment and is not it. "
            "Remove it, or remove the column from its other role."
        )


def guard_size(n: int, q: int, p: int, m: int, *, settled: bool = True) -> None:
    """Refuse too few rows (raises DataError); warn of many instruments.

    Parameters
    ----------
    n, q, p, m : int
        Rows, instruments, treatments and partialled-out parameters.
    settled : bool
        False while collinear instruments are still among the q: only what one instrument needs is then asked for.
    """
    if n <= (q if settled else 1) + m + p + 1:
        raise DataError(
            f"{n} rows cannot carry {q} instruments, {p} treatments and {m} partialled-out parameters (constant and "
            f"fixed effects included); at least {q + m + p + 2} rows are needed. Drop columns or fixed effects."
        )
    if not settled:
        return
    if q > n / ROWS_PER_INSTRUMENT:
        warn(
            f"{q} instruments for {n} rows are more than one per {ROWS_PER_INSTRUMENT} rows: two-stage least squares "
            "leans towards ordinary least squares. Prefer fewer instruments, LIML or the sets.",
            ManyInstrumentsWarning,
        )


def guard_clusters(codes: np.ndarray | None, name: str) -> None:
    """Refuse a clustering with one cluster (raises DataError)."""
    if codes is not None and len(np.unique(codes)) < 2:
        raise DataError(
            f"cluster column {name!r} has one cluster in the rows in use; a covariance between clusters needs at "
            "least two. Name a finer column, or leave cluster out."
        )


def identified(rows: IvRows, *, allow: bool) -> bool:
    """Whether the instruments can determine the effect.

    Raises
    ------
    IdentificationError
        Fewer instruments than treatments, or a direction of the treatments that no instrument moves (smallest singular
        value of B on unit scale at most 1e-10), unless ``allow``.
    """
    if rows.q < rows.p:
        reason = f"{rows.q} linearly independent instruments for {rows.p} treatments ({', '.join(rows.treatments)})"
    else:
        scale = np.sqrt(np.mean(rows.weights[:, None] * rows.X**2, axis=0))
        strength = np.linalg.svd(rows.moments.B / scale[None, :], compute_uv=False)
        if strength[-1] > NO_STRENGTH:
            return True
        reason = f"the instruments do not move some combination of {', '.join(rows.treatments)} at all"
    if allow:
        return False
    raise IdentificationError(
        f"{reason}: a minimiser exists for rho > 0, but no rho makes it consistent. Add instruments or drop "
        "treatments; DriveOptions(allow_underidentified=True) returns point estimates without intervals."
    )
