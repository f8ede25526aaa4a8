"""What every cluster contributes to the error of a limit: weights times residuals, corrected for leverage."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, FewClustersWarning, OptionError, warn
from causalsat.estimators.r3d_fit import ColumnFit, R3dFit
from causalsat.inference.options import Bootstrap

FEW = 20
_FULL = 1e-10


@dataclass(frozen=True, eq=False)
class Groups:
    """Clusters in use, in order of first appearance.

    Attributes
    ----------
    rows : np.ndarray
        (r,) positions of the units with weight in a window, sorted by cluster.
    starts : np.ndarray
        (g,) where each cluster starts among them.
    single : bool
        Whether every cluster is one unit.
    kind : str
        "units", "clusters" or "blocks".
    codes : np.ndarray
        (g,) what tells clusters apart: their codes, or the positions of units without clusters.
    """

    rows: np.ndarray
    starts: np.ndarray
    single: bool
    kind: str
    codes: np.ndarray

    @property
    def g(self) -> int:
        """Number of clusters."""
        return int(self.starts.size)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(g, ...) sums of rows (r, ...) within clusters."""
        return values if self.single else np.asarray(np.add.reduceat(values, self.starts, axis=0))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(r, ...) the cluster's value in each of its rows."""
        return values if self.single else np.repeat(values, np.diff(np.append(self.starts, self.rows.size)), axis=0)


@dataclass(frozen=True, eq=False)
class Basis:
    """One local regression on the rows of ``Groups``, in an orthonormal basis.

    With k the kernel weights and R the regressors, sqrt(k) R = Z T. The hat matrix is k^(-1/2) Z Z' k^(1/2), and the
    weights of the limits are sqrt(k) Z ell'.

    Attributes
    ----------
    Z : np.ndarray
        (r, q), zero outside the window.
    root : np.ndarray
        (r,) sqrt(k).
    ell : np.ndarray
        (2, q) limits from the right and from the left in terms of Z.
    loadings : np.ndarray
        (2, r) weight times residual factor: the contribution of a cluster is the sum of loading times residual.
    """

    Z: np.ndarray
    root: np.ndarray
    ell: np.ndarray
    loadings: np.ndarray


@dataclass(frozen=True, eq=False)
class Contributions:
    """Rows are clusters (units without clusters) with weight in a window, in order of first appearance.

    Attributes
    ----------
    plus, minus : np.ndarray
        (g, K) contributions to the limits from the right and from the left.
    treatment : np.ndarray or None
        (g,) contributions to the jump of the treatment.
    groups : Groups
        The clusters.
    bases : tuple of Basis
        One for all columns, or one per column.
    treatment_basis : Basis or None
        The treatment's.
    """

    plus: np.ndarray
    minus: np.ndarray
    treatment: np.ndarray | None
    groups: Groups
    bases: tuple[Basis, ...]
    treatment_basis: Basis | None

    @property
    def jump(self) -> np.ndarray:
        """(g, K) contributions to the jumps of the columns."""
        return np.asarray(self.plus - self.minus)


def contributions(
    design: Any, fit: R3dFit, residuals: str, bootstrap: Bootstrap, seed: int, blocks: np.ndarray | None = None
) -> Contributions:
    """Contributions of clusters to both limits of every column.

    Parameters
    ----------
    design : R3dDesign
        Units: ``x``, ``treated``, ``covariates``, ``sampling``.
    fit : R3dFit
        Their fit.
    residuals : str
        "hc0", "hc1", "hc2" or "hc3"; with clusters hc2 and hc3 become the block corrections CR2 (Bell and McCaffrey
        2002) and CR3, hc1 keeps its factor per side.
    bootstrap : Bootstrap
        Scheme "block" makes equal-area cells over the coordinates the clusters, across the cutoff.
    seed : int
        Origin of the cells.
    blocks : np.ndarray, optional
        (n,) cells of the units, laid over more units than these; None lays them here.

    Raises
    ------
    DataError
        A single cluster in the window.
    OptionError
        Blocks without coordinates or beside named clusters; units resampled although clusters are named.

    Warns
    -----
    FewClustersWarning
        Fewer than 20 clusters in the window.
    """
    groups = _groups(design, fit, bootstrap, seed, blocks)
    columns = fit.columns
    if columns.by_column:
        bases = _bases_by_column(design, columns, groups, residuals)
    else:
        bases = (_basis(design, columns.h, columns.weights, columns.order, groups, residuals),)
    errors = columns.residuals[groups.rows]
    plus, minus = (_summed(groups, bases, errors, side) for side in (0, 1))
    if fit.treatment is None:
        return Contributions(plus, minus, None, groups, bases, None)
    own = fit.treatment
    basis = _basis(design, own.h, own.weights, own.order, groups, residuals)
    jump = groups.sums((basis.loadings[0] - basis.loadings[1]) * own.residuals[groups.rows, 0])
    return Contributions(plus, minus, jump, groups, bases, basis)


def _summed(groups: Groups, bases: tuple[Basis, ...], errors: np.ndarray, side: int) -> np.ndarray:
    if len(bases) == 1:
        return groups.sums(bases[0].loadings[side][:, None] * errors)
    return groups.sums(np.column_stack([basis.loadings[side] for basis in bases]) * errors)


def _groups(design: Any, fit: R3dFit, bootstrap: Bootstrap, seed: int, blocks: np.ndarray | None) -> Groups:
    weights = fit.columns.weights
    used = (weights > 0.0).any(axis=0) if weights.ndim == 2 else weights > 0.0
    if fit.treatment is not None:
        used = used | (fit.treatment.weights > 0.0)
    rows = np.flatnonzero(used)
    codes, kind = _codes(design, bootstrap, seed) if blocks is None else (blocks, "blocks")
    if codes is None:
        return Groups(rows, np.arange(rows.size), True, kind, rows)
    _, first, code = np.unique(codes[rows], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[code.reshape(-1)]
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    if starts.size < 2:
        raise DataError(
            f"all {rows.size} units of the window lie in one of the {kind}: no standard error exists. Use finer "
            f"{kind}, a wider bandwidth, or none."
        )
    if starts.size < FEW:
        warn(
            f"{starts.size} {kind} lie in the window (fewer than {FEW}): standard errors and bands rest on few "
            "independent pieces.",
            FewClustersWarning,
        )
    rows = rows[order]
    return Groups(rows, starts, bool(starts.size == rows.size), kind, codes[rows[starts]])


def blocks_of(lonlat: np.ndarray | None, bootstrap: Bootstrap, seed: int) -> np.ndarray:
    """(n,) equal-area cells of the places; raises OptionError without places."""
    from causalsat.study.blocks import spatial_blocks

    if lonlat is None or bootstrap.block_km is None:
        raise OptionError('Bootstrap(scheme="block") needs coords=, longitude and latitude of the units.')
    return spatial_blocks(lonlat, bootstrap.block_km, seed)


def refuse_clusters_with_blocks(design: Any) -> None:
    """Refuse named clusters beside blocks, of which one would go unused (raises OptionError)."""
    if design.sampling.cluster is not None and design.names.get("cluster"):
        raise OptionError(
            f'cluster={design.names["cluster"]!r} and Bootstrap(scheme="block") both say which units depend on each '
            'other, and only one of them can be used: leave cluster out for blocks, or use scheme="multiplier" for '
            "clusters."
        )


def _codes(design: Any, bootstrap: Bootstrap, seed: int) -> tuple[np.ndarray | None, str]:
    sampling = design.sampling
    if bootstrap.scheme == "block":
        refuse_clusters_with_blocks(design)
        return blocks_of(sampling.lonlat, bootstrap, seed), "blocks"
    if sampling.cluster is not None and bootstrap.scheme == "iid":
        if not design.names.get("cluster"):
            raise OptionError(
                'Bootstrap(scheme="iid") resamples units as if they were independent, but some units are used at '
                'several cutoffs, which makes each of them a cluster; use "multiplier", "wild", "bayes" or "cluster".'
            )
        raise OptionError(
            'Bootstrap(scheme="iid") resamples units as if they were independent, but cluster= is given; use '
            '"multiplier", "wild", "bayes" or "cluster", or leave cluster out.'
        )
    return sampling.cluster, "units" if sampling.cluster is None else "clusters"


def _bases_by_column(design: Any, fit: ColumnFit, groups: Groups, residuals: str) -> tuple[Basis, ...]:
    known: dict[tuple[float, float], Basis] = {}
    out = []
    for column in range(fit.h.shape[1]):
        key = (float(fit.h[0, column]), float(fit.h[1, column]))
        if key not in known:
            known[key] = _basis(design, fit.h[:, column], fit.weights[column], fit.order, groups, residuals)
        out.append(known[key])
    return tuple(out)


def _basis(
    design: Any, h: np.ndarray, weights: np.ndarray, order: int, groups: Groups, residuals: str
) -> Basis:  # fmt: skip
    rows = groups.rows
    right = np.asarray(design.treated, dtype=bool)[rows]
    k = weights[rows]
    powers = (design.x[rows] / np.where(right, h[0], h[1]))[:, None] ** np.arange(order + 1)[None, :]
    sides = [powers * right[:, None], powers * ~right[:, None]]
    if design.covariates is not None and design.covariates.shape[1]:
        own = design.covariates[rows]
        sides.append(own - (k @ own / k.sum())[None, :])
    root = np.sqrt(k)
    Z, T = np.linalg.qr(np.concatenate(sides, axis=1) * root[:, None])
    wanted = np.zeros((T.shape[0], 2))
    wanted[[0, order + 1], [0, 1]] = 1.0
    ell = np.linalg.solve(T.T, wanted).T
    return Basis(Z, root, ell, _loadings(Z, root, ell, right, order, groups, residuals))


def _loadings(
    Z: np.ndarray, root: np.ndarray, ell: np.ndarray, right: np.ndarray, order: int, groups: Groups, residuals: str
) -> np.ndarray:
    """(2, r) weights times residual factors.

    A cluster's block correction is k^(-1/2) (I - Z_g Z_g')^(-a) k^(1/2), a = 1/2 or 1, so that its loadings are
    sqrt(k) Z (I - Z_g'Z_g)^(-a) ell: a matrix of the size of the regressors, whatever the size of the cluster.
    """
    limits = np.asarray((Z @ ell.T).T * root[None, :])
    if residuals == "hc0":
        return limits
    if residuals == "hc1":
        inside = root > 0.0
        size = np.array([(inside & ~right).sum(), (inside & right).sum()], dtype=np.float64)
        factor = np.sqrt(size / np.maximum(size - order - 1.0, 1.0))
        return np.asarray(limits * factor[right.astype(int)][None, :])
    power = -0.5 if residuals == "hc2" else -1.0
    if groups.single:
        rest = 1.0 - (Z**2).sum(axis=1)
        return np.asarray(limits * np.where(rest > _FULL, np.where(rest > _FULL, rest, 1.0) ** power, 0.0)[None, :])
    own = groups.sums(Z[:, :, None] * Z[:, None, :])
    values, vectors = np.linalg.eigh(np.eye(Z.shape[1])[None, :, :] - own)
    # A direction that the rest of the sample does not determine has no residual: the pseudo-inverse leaves it out.
    scale = np.where(values > _FULL, np.where(values > _FULL, values, 1.0) ** power, 0.0)
    turned = np.einsum("gij,gj,gkj,sk->gsi", vectors, scale, vectors, ell, optimize=True)
    return np.asarray(np.einsum("ri,rsi->sr", Z, groups.spread(turned)) * root[None, :])
