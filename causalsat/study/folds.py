"""`causalsat.Folds`: whole units dealt to folds by a keyed shuffle, and training sets with a buffer."""

import hashlib
from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, ImageSplitError, OptionError, count, number
from causalsat.public import public
from causalsat.study.sphere import chord_of_km, unit_vectors

MIN_ARM = 20
MAX_SHARE_LOST = 0.5


@public
@dataclass(frozen=True)
class Folds:
    """How rows are split for cross-fitting.

    Rows that share an image, a cluster, identical or overlapping chips always stand in one fold.

    Attributes
    ----------
    n : int
        Number of folds, at least 2.
    by : str, optional
        Column whose levels stay whole. With exactly ``n`` levels they are the folds themselves.
    block_km : float, optional
        Side of spatial blocks in kilometres (needs coordinates); blocks take the place of the units.
    buffer_km : float
        Rows closer than this to any test row leave the training set.
    repeats : int
        Number of independent deals.

    Raises
    ------
    OptionError
        A value that is not allowed, or ``by`` and ``block_km`` together.

    Examples
    --------
    >>> import causalsat as cs
    >>> cs.Folds(n=5, block_km=50, buffer_km=10)
    Folds(n=5, by=None, block_km=50.0, buffer_km=10.0, repeats=1)
    """

    n: int = 5
    by: str | None = None
    block_km: float | None = None
    buffer_km: float = 0.0
    repeats: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", count("Folds.n", self.n, minimum=2))
        object.__setattr__(self, "repeats", count("Folds.repeats", self.repeats, minimum=1))
        if self.by is not None and not isinstance(self.by, str):
            raise OptionError(f"Folds.by={self.by!r} must be the name of one column.")
        if self.by is not None and self.block_km is not None:
            raise OptionError(
                f"Folds(by={self.by!r}, block_km={self.block_km!r}): give one of them, columns or blocks."
            )
        if self.block_km is not None:
            object.__setattr__(self, "block_km", number("Folds.block_km", self.block_km, 0.0, 10_000.0))
        buffer = number("Folds.buffer_km", self.buffer_km, 0.0, 10_000.0, open_ends=False)
        object.__setattr__(self, "buffer_km", buffer)


def deal_folds(
    units: np.ndarray,
    treated: np.ndarray | None = None,
    *,
    n_folds: int,
    seed: int,
    repeat: int = 0,
    unit_labels: np.ndarray,
    min_arm: int = MIN_ARM,
) -> np.ndarray:
    """Deal whole units to folds: a keyed shuffle, largest first onto the lightest fold.

    A unit's place in the shuffle is a keyed hash of its label, so the order of rows changes no fold. With a binary
    ``treated`` the units are dealt stratum by stratum of their treated share (quartiles over units), each onto the fold
    lightest in its stratum; fold sizes differ by at most the largest unit.

    Parameters
    ----------
    units : ndarray (n,) int
        Unit code of each row, an index into ``unit_labels``; codes may be absent.
    treated : ndarray (n,) float, optional
        Treatment; stratifies and is checked per arm when it holds only 0 and 1.
    n_folds : int
        Number of folds K.
    seed, repeat : int
        Key of the shuffle.
    unit_labels : ndarray (g,)
        Identity of each unit.
    min_arm : int
        Rows of each arm that every training set needs.

    Returns
    -------
    ndarray (n,) int64
        Fold of each row, 0 to K-1.

    Raises
    ------
    DataError
        Fewer units than folds, or a training set without enough rows of an arm.
    """
    units = np.asarray(units, dtype=np.int64)
    present, code = np.unique(units, return_inverse=True)
    if len(present) < n_folds:
        raise DataError(
            f"Folds(n={n_folds}) needs at least {n_folds} units that may stand apart and the data hold {len(present)} "
            "(units are merged over shared images, clusters and overlapping chips). Use fewer folds, or smaller "
            "blocks."
        )
    size = np.bincount(code, minlength=len(present))
    shuffle = keyed_hashes(np.asarray(unit_labels)[present].tolist(), f"{seed}:{repeat}")
    binary = treated is not None and bool(np.isin(treated, (0.0, 1.0)).all())
    stratum = _strata(code, treated, size) if binary and treated is not None else np.zeros(len(present), np.int64)
    order = np.lexsort((shuffle, -size, stratum))
    dealt = np.empty(len(present), np.int64)
    dealt[order] = _deal(size[order].tolist(), stratum[order].tolist(), n_folds)
    fold: np.ndarray = dealt[code]
    if binary and treated is not None:
        check_arms(other_folds(fold), treated, min_arm)
    return fold


def other_folds(fold: np.ndarray) -> np.ndarray:
    """Training rows of each fold without a buffer: (K, n) bool, all rows of the other folds."""
    n_folds = int(fold.max()) + 1 if len(fold) else 0
    return np.arange(n_folds)[:, None] != fold[None, :]


def training_sets(
    fold: np.ndarray,
    lonlat: np.ndarray | None,
    buffer_km: float,
    *,
    treated: np.ndarray | None = None,
    min_arm: int = MIN_ARM,
) -> np.ndarray | None:
    """Rows to train on for each fold: all others but those closer than ``buffer_km`` to any test row.

    Parameters
    ----------
    fold : ndarray (n,) int
        Fold of each row, 0 to K-1.
    lonlat : ndarray (n, 2), optional
        Longitude and latitude in degrees WGS84; needed with a buffer.
    buffer_km : float
        Great-circle distance in kilometres (R = 6371.01 km).
    treated : ndarray (n,) float, optional
        When it holds only 0 and 1, each training set needs ``min_arm`` rows of each arm.

    Returns
    -------
    ndarray (K, n) bool or None
        None without a buffer: the training rows are those of the other folds.

    Raises
    ------
    DataError
        No coordinates; a buffer that takes more than half of a training set, or an arm of it.
    """
    if buffer_km <= 0.0:
        return None
    if lonlat is None:
        raise DataError("Folds(buffer_km=...) measures distances: give coords=(longitude, latitude) or a GeoDataFrame.")
    from scipy.spatial import cKDTree

    fold = np.asarray(fold, dtype=np.int64)
    places, place = np.unique(np.asarray(lonlat, dtype=np.float64), axis=0, return_inverse=True)
    points, bound = unit_vectors(places), chord_of_km(buffer_km)
    train = other_folds(fold)
    for k in range(len(train)):
        tested = np.unique(place[fold == k])
        reach, _ = cKDTree(points[tested]).query(points, distance_upper_bound=bound)
        # A row at the very place of a test row has distance zero, below any buffer.
        train[k] &= ~(reach < bound)[place]
    _refuse_large_loss(train, fold, buffer_km)
    if treated is not None and bool(np.isin(treated, (0.0, 1.0)).all()):
        check_arms(train, treated, min_arm)
    return train


def share_lost(train: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Share of each fold's training rows that the buffer takes away: (K,) float64."""
    whole = other_folds(fold).sum(axis=1)
    return 1.0 - train.sum(axis=1) / np.maximum(whole, 1)


def check_arms(train: np.ndarray, treated: np.ndarray, min_arm: int = MIN_ARM) -> None:
    """Refuse training sets (K, n) with fewer than ``min_arm`` treated or control rows (raises DataError)."""
    for name, value in (("treated", 1.0), ("control", 0.0)):
        rows = (train & (np.asarray(treated) == value)[None, :]).sum(axis=1)
        k = int(np.argmin(rows))
        if rows[k] < min_arm:
            raise DataError(
                f"Training without fold {k} leaves {int(rows[k])} {name} rows; each training set needs {min_arm} of "
                "each arm. Use fewer folds, smaller blocks or a smaller buffer_km, or drop a treatment this rare."
            )


def check_user_folds(fold_labels: np.ndarray, units: np.ndarray, unit_labels: np.ndarray) -> None:
    """Refuse folds chosen by the user that split a unit.

    Parameters
    ----------
    fold_labels : ndarray (n,)
        Fold of each row.
    units : ndarray (n,) int
        Rows that must stay together.
    unit_labels : ndarray (g,)
        Their names.

    Raises
    ------
    ImageSplitError
        A unit has rows in two folds.
    """
    _, fold = np.unique(fold_labels, return_inverse=True)
    pairs = np.unique(np.column_stack([units, fold]), axis=0)
    split, times = np.unique(pairs[:, 0], return_counts=True)
    if (times > 1).any():
        unit = int(split[times > 1][0])
        named = sorted({str(label) for label in np.asarray(fold_labels)[np.asarray(units) == unit].tolist()})
        raise ImageSplitError(
            f"The folds split {int((times > 1).sum())} units whose rows share an image, a cluster or overlapping "
            f"chips, for example {unit_labels[unit]} over folds {', '.join(named[:5])}: nuisances would be trained "
            "on the image that they predict. Keep each unit in one fold, or leave the folds to Folds(n=5)."
        )


def keyed_hashes(labels: list, key: str) -> np.ndarray:
    """64-bit keyed hash of each label's text: (g,) uint64, the same on every machine."""
    secret = hashlib.blake2b(key.encode(), digest_size=16).digest()
    digests = [hashlib.blake2b(str(label).encode(), digest_size=8, key=secret).digest() for label in labels]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _deal(sizes: list[int], strata: list[int], n_folds: int) -> list[int]:
    """Each unit onto the fold with the fewest rows of its stratum, among those that stay within one largest unit.

    The lightest fold always qualifies, so fold sizes never differ by more than the largest unit.
    """
    slack = max(sizes)
    load, held = [0] * n_folds, [0] * n_folds
    inside, current = [0] * n_folds, -1
    dealt = []
    for size, stratum in zip(sizes, strata):
        if stratum != current:
            inside, current = [0] * n_folds, stratum
        ceiling = min(load) + slack - size
        fold = min((k for k in range(n_folds) if load[k] <= ceiling), key=lambda k: (inside[k], load[k], held[k], k))
        load[fold] += size
        inside[fold] += size
        held[fold] += 1
        dealt.append(fold)
    return dealt


def _strata(code: np.ndarray, treated: np.ndarray, size: np.ndarray) -> np.ndarray:
    share = np.bincount(code, weights=np.asarray(treated, np.float64), minlength=len(size)) / size
    cuts = np.quantile(share, [0.25, 0.5, 0.75], method="inverted_cdf")
    return np.searchsorted(cuts, share, side="left")


def _refuse_large_loss(train: np.ndarray, fold: np.ndarray, buffer_km: float) -> None:
    lost = share_lost(train, fold)
    if lost.max() > MAX_SHARE_LOST:
        k = int(np.argmax(lost))
        raise DataError(
            f"Folds(buffer_km={buffer_km:g}) takes {100 * lost[k]:.0f}% of the training rows of fold {k}; at most 50% "
            "may go. Use a smaller buffer, or spatial blocks (block_km) well wider than the buffer."
        )
