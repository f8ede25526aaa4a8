"""A name for rows that have none: their content, so that the order of the table decides nothing."""

import numpy as np

from causalsat.study.folds import keyed_hashes
from causalsat.study.open import Study
from causalsat.study.overlap import row_bytes

_NOT_CONTENT = ("outcome", "treatment", "weights")


def row_names(study: Study) -> np.ndarray:
    """Names of the rows in use that do not depend on their order: (n,) str.

    A row is known by its place and the ranks of its covariates; units and column order do not matter. The outcome, the
    treatment, predictions made elsewhere and the embedding only order rows that are equal in all else, so a new unit of
    the outcome or a rotated embedding moves no row to another fold.

    Parameters
    ----------
    study : Study
        The rows in use.
    """
    n = len(study.rows)
    content = np.zeros(n, np.uint64)
    for values in _content_columns(study):
        levels, rank = np.unique(values, return_inverse=True)
        # A sum of hashes: the order of the columns does not matter.
        content += keyed_hashes(list(range(len(levels))), "rank")[rank]
    order = np.lexsort((np.arange(n), *_tie_breakers(study), content))
    new = np.ones(n, bool)
    new[1:] = content[order][1:] != content[order][:-1]
    start = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    occurrence = np.empty(n, np.int64)
    occurrence[order] = np.arange(n) - start
    return np.array([f"row {c:016x}.{k}" for c, k in zip(content.tolist(), occurrence.tolist())], dtype=str)


def _content_columns(study: Study) -> list[np.ndarray]:
    columns = [] if study.lonlat is None else list(study.lonlat.T)
    for role, values in study.numeric.items():
        if role not in _NOT_CONTENT and not role.startswith("nuisance") and role != "known_propensity":
            columns += list(values.T) if values.ndim == 2 else [values]
    return columns


def _tie_breakers(study: Study) -> list[np.ndarray]:
    """Least important first, as np.lexsort reads them: image content, then treatment, then outcome."""
    ties: list[np.ndarray] = []
    if study.embeddings is not None and study.image is not None:
        _, code = np.unique(row_bytes(study.embeddings.matrix), return_inverse=True)
        ties.append(code[study.image])
    for role in ("treatment", "outcome"):
        values = study.numeric.get(role)
        if values is not None:
            ties += list(values.T[::-1]) if values.ndim == 2 else [values]
    return ties
