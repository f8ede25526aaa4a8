"""Rows, training sets and columns of a cross-fit as the arrays that the kernel takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError

TILE_BUCKET = 16


@dataclass(frozen=True)
class Columns:
    """The design of a nuisance fit, without the intercept.

    Attributes
    ----------
    matrix : ndarray (n, q) float64
        Tabular columns (missing entries zero after centring), missing indicators, then the embedding.
    n_free : int
        Leading columns that carry no penalty.
    fills : tuple of (int, int)
        Positions, counted with the intercept as 0, of a column with missing entries and of its indicator.
    n_missing : int
        Entries that were missing.
    """

    matrix: np.ndarray
    n_free: int
    fills: tuple[tuple[int, int], ...]
    n_missing: int

    @property
    def searched(self) -> bool:
        """Whether any column carries a penalty."""
        return bool(self.matrix.shape[1] > self.n_free)


def assemble(tabular: np.ndarray | None, image: np.ndarray | None, n: int, penalised: bool | None) -> Columns:
    """Put the columns of both kinds side by side.

    A column with missing entries gets an indicator, which carries the penalty. The kernel replaces the missing
    entries by the mean of the observed ones *in each training set*, as a change of coordinates of its Gram. Columns
    are centred once at their overall mean, for precision only: every training set centres again.
    """
    table = np.zeros((n, 0)) if tabular is None else np.asarray(tabular, dtype=np.float64).reshape(n, -1)
    pixels = np.zeros((n, 0)) if image is None else np.asarray(image, dtype=np.float64).reshape(n, -1)
    if not np.isfinite(pixels).all() or np.isinf(table).any():
        raise DataError(
            "image and tabular hold infinite values, or image holds NaN. Rows without a usable image must be left out "
            "before the nuisances are fitted."
        )
    missing = np.isnan(table)
    with_missing = np.flatnonzero(missing.any(axis=0))
    p = table.shape[1]
    observed = np.maximum((~missing).sum(axis=0), 1)
    centre = np.where(missing, 0.0, table).sum(axis=0) / observed
    filled = np.where(missing, 0.0, table - centre[None, :])
    pixels = pixels - pixels.mean(axis=0, keepdims=True) if pixels.shape[1] else pixels
    matrix = np.concatenate([filled, missing[:, with_missing].astype(np.float64), pixels], axis=1)
    n_tabular = p + len(with_missing)
    free = n_tabular <= n / 50 if penalised is None else not penalised
    fills = tuple((1 + int(column), 1 + p + place) for place, column in enumerate(with_missing))
    # An indicator of few missing values separates the arms in some training set, so indicators carry the penalty.
    return Columns(matrix, p if free else 0, fills, int(missing.sum()))


@dataclass(frozen=True)
class Split:
    """Test folds 0..K-1 and the training set of each.

    Attributes
    ----------
    fold : ndarray (n,) int64
        Test fold of each row; all 0 in sample.
    train : ndarray (K, n) bool
        Rows that train the model of each fold.
    in_sample : bool
        Every row trains the model that predicts it.
    """

    fold: np.ndarray
    train: np.ndarray
    in_sample: bool

    @property
    def n_folds(self) -> int:
        """K."""
        return len(self.train)


def split_rows(fold: np.ndarray | None, n: int, train: np.ndarray | None) -> Split:
    """Check fold labels and training sets; labels all -1, or None, mean in sample."""
    if fold is None or (np.asarray(fold) == -1).all():
        return Split(np.zeros(n, dtype=np.int64), np.ones((1, n), dtype=bool), True)
    labels = np.asarray(fold, dtype=np.int64)
    used = np.unique(labels)
    if labels.shape != (n,) or used[0] != 0 or used[-1] != len(used) - 1 or len(used) < 2:
        raise DataError(
            f"fold must label every one of the {n} rows 0..K-1 with K of at least 2 (or -1 everywhere for in-sample "
            f"nuisances); received {labels.shape[0]} labels with values {used[:8].tolist()}."
        )
    own = labels[None, :] == np.arange(len(used))[:, None]
    sets = ~own if train is None else np.asarray(train, dtype=bool)
    if sets.shape != own.shape:
        raise DataError(f"train must be a table of {len(used)} x {n} flags; received shape {sets.shape}.")
    if (sets & own).any():
        raise DataError(f"train lets {int((sets & own).sum())} rows train the model of their own fold; it must not.")
    return Split(labels, sets, False)


def has_inner(columns: Columns, split: Split) -> bool:
    """Whether inner out-of-fold predictions exist: three folds, and something to predict from."""
    return split.n_folds > 2 and columns.matrix.shape[1] > 0


def lay_out(columns: Columns, outcome: np.ndarray, treatment: np.ndarray, split: Split) -> tuple[Any, Any]:
    """The kernel's ``Rows`` and ``Sets`` (NumPy arrays) for one split."""
    from causalsat.kernels.cross_fit_ridge import Rows

    n = len(outcome)
    pattern = np.concatenate([split.fold[None, :], split.train.astype(np.int64)])
    atoms, atom = np.unique(pattern, axis=1, return_inverse=True)
    atom = atom.reshape(-1)
    index, valid, block = _tiles(2 * atom + (treatment > 0.5))
    place = np.empty(n, dtype=np.int32)
    place[index[valid]] = np.flatnonzero(valid.reshape(-1))
    ones = np.ones((n, 1))
    matrix = np.concatenate([ones, columns.matrix], axis=1)
    shown = valid.astype(np.float64)
    arrays: dict[str, Any] = {
        "v": matrix[index] * shown[:, :, None],
        "y": outcome[index] * shown,
        "treated": treatment[index] * shown,
        "valid": shown,
        "fold": split.fold[index].astype(np.int32),
        "row": index.astype(np.int32),
        "place": place,
        "atom": (block // 2).astype(np.int32),
        "arm": (block % 2).astype(np.int32),
    }
    return Rows(**arrays), _training_sets(atoms[0], atoms[1:].astype(bool), split)


def _tiles(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deal rows into tiles of one block each: row index (t, r), whether real (t, r), block of each tile (t,)."""
    labels, counts = np.unique(block, return_counts=True)
    size = int(2 ** np.clip(np.round(np.log2(max(counts.mean() / 4, 1.0))), 5, 11))
    order = np.argsort(block, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    index, valid, owner = [], [], []
    for label, start, stop in zip(labels, starts[:-1], starts[1:], strict=True):
        n_tiles = -(-(stop - start) // size)
        members = np.full(n_tiles * size, order[start])
        members[: stop - start] = order[start:stop]
        index.append(members.reshape(n_tiles, size))
        valid.append((np.arange(n_tiles * size) < stop - start).reshape(n_tiles, size))
        owner.append(np.full(n_tiles, label))
    # A treatment drawn again moves a few tiles between blocks; empty tiles keep the shape, and the compiled program.
    spare = -sum(map(len, index)) % TILE_BUCKET
    index.append(np.full((spare, size), order[0]))
    valid.append(np.zeros((spare, size), dtype=bool))
    owner.append(np.full(spare, labels[0]))
    return np.concatenate(index), np.concatenate(valid), np.concatenate(owner)


def _training_sets(fold: np.ndarray, train: np.ndarray, split: Split) -> Any:
    """Outer and inner training sets over atoms: ``fold`` (A,), ``train`` (K, A)."""
    from causalsat.kernels.cross_fit_ridge import Sets

    k = split.n_folds
    ends = [(i, j) for i in range(k) for j in range(i + 1, k)] if k > 2 else []
    pair_of = np.full((k, k), -1, dtype=np.int32)
    for p, (i, j) in enumerate(ends):
        pair_of[i, j], pair_of[j, i] = 2 * p, 2 * p + 1
    scored = [[(fold == j) & train[i], (fold == i) & train[j]] for i, j in ends]
    pair = [train[i] & train[j] for i, j in ends]
    n_atoms = len(fold)
    arrays: dict[str, Any] = {
        "outer": train.astype(np.float64),
        "pair": np.asarray(pair, dtype=np.float64).reshape(len(ends), n_atoms),
        "ends": np.asarray(ends, dtype=np.int32).reshape(len(ends), 2),
        "scored": np.asarray(scored, dtype=np.float64).reshape(len(ends), 2, n_atoms),
        "pair_of": pair_of,
    }
    return Sets(**arrays)
