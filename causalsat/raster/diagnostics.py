"""What a table of embeddings looks like before anyone models with it."""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from causalsat.raster.parts import ShardRows
    from causalsat.study.embeddings import Embeddings

_ROWS = 5000
_WIDTH = 1024
_DEAD = 1e-12
_TWIN = 0.9999
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def describe(embeddings: "Embeddings") -> dict[str, Any]:
    """Counts and geometry of an embedding table, as plain JSON.

    ``effective_rank`` is ``exp(-sum p log p)`` for the shares ``p`` of the covariance's eigenvalues: d for independent
    features of one variance, 1 for a single direction. A feature is dead when its variance is at most 1e-12 of the
    median variance. Rank and correlations use at most 5,000 rows and 1,024 features, evenly spaced, as stated under
    ``rows_used`` and ``features_used``.

    Parameters
    ----------
    embeddings : Embeddings
        (J, d) vectors with a status per row.

    Returns
    -------
    dict
        ``n_rows, n_features, status, valid_frac, effective_rank, dead_features, constant, duplicate_vectors,
        correlated_features, rows_used, features_used``, and ``rows`` (offsets and warps) where the job noted them.

    Examples
    --------
    >>> import numpy as np
    >>> from causalsat import Embeddings
    >>> from causalsat.raster.diagnostics import describe
    >>> describe(Embeddings.from_matrix(np.eye(3, dtype=np.float32)))["duplicate_vectors"]
    0
    """
    matrix = np.asarray(embeddings.matrix)
    finite = matrix[np.isfinite(matrix).all(axis=1)]
    names, counts = np.unique(np.asarray(embeddings.status).astype(str), return_counts=True)
    variance = finite.var(axis=0, dtype=np.float64) if len(finite) else np.zeros(matrix.shape[1])
    return {
        "n_rows": len(matrix),
        "n_features": int(matrix.shape[1]),
        "n_vectors": len(finite),
        "status": {str(name): int(n) for name, n in zip(names, counts)},
        "valid_frac": _quantiles(np.asarray(embeddings.valid_frac)),
        "dead_features": _dead(variance) if len(finite) > 1 else 0,
        "constant": bool(len(finite) > 1 and not variance.any()),
        "duplicate_vectors": _duplicates(finite),
        **_geometry(finite),
        "rows": embeddings.provenance.get("rows", {}),
    }


def row_facts(rows: "ShardRows") -> dict[str, Any]:
    """Counts by status and the distribution of offsets, warps and masks, as plain JSON."""
    names, counts = np.unique(rows.status, return_counts=True)
    read = rows.n_sources > 0
    return {
        "status": {str(name): int(n) for name, n in zip(names, counts)},
        "valid_frac": _quantiles(rows.valid_frac),
        "masked_frac": _quantiles(rows.masked_frac),
        "centre_offset_m": _quantiles(rows.centre_offset_m),
        "share_warped": float(rows.warped[read].mean()) if read.any() else None,
        "n_sources_max": int(rows.n_sources.max(initial=0)),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    finite = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0:
        return {}
    return {f"q{q:g}": float(v) for q, v in zip(_QUANTILES, np.quantile(finite, _QUANTILES))}


def _dead(variance: np.ndarray) -> int:
    return int((variance <= _DEAD * np.median(variance)).sum())


def _duplicates(vectors: np.ndarray) -> int:
    """Rows whose vector occurred before, bit for bit."""
    hashes = {hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in vectors}
    return len(vectors) - len(hashes)


def _geometry(vectors: np.ndarray) -> dict[str, Any]:
    rows = _spaced(len(vectors), _ROWS)
    columns = _spaced(vectors.shape[1], _WIDTH)
    used = vectors[np.ix_(rows, columns)].astype(np.float64)
    facts: dict[str, Any] = {"rows_used": len(rows), "features_used": len(columns)}
    if len(used) < 2:
        return facts | {"effective_rank": None, "correlated_features": None}
    centred = used - used.mean(axis=0)
    covariance = centred.T @ centred / len(used)
    values = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    shares = values[values > 0] / values.sum() if values.sum() > 0 else np.ones(1)
    sd = np.sqrt(np.diag(covariance))
    alive = sd > 0
    correlation = covariance[np.ix_(alive, alive)] / np.outer(sd[alive], sd[alive])
    np.fill_diagonal(correlation, 0.0)
    twins = int((np.abs(correlation) > _TWIN).any(axis=0).sum()) if alive.any() else 0
    return facts | {"effective_rank": float(np.exp(-(shares * np.log(shares)).sum())), "correlated_features": twins}


def _spaced(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).astype(np.int64)) if n else np.zeros(0, np.int64)
