"""Draws of `r3d` that fit again under resampled units, with bandwidths held at their values."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from causalsat.errors import OptionError
from causalsat.estimators.r3d_contributions import Basis, Contributions
from causalsat.estimators.r3d_fit import R3dFit
from causalsat.inference.options import Bootstrap
from causalsat.inference.seam import bootstrap_draws
from causalsat.progress import Progress

SCHEMES = ("iid", "bayes", "cluster")


class Refits(NamedTuple):
    """Draws centred at zero: (B, K) right and left, (B,) jump of the treatment, failures by reason."""

    right: np.ndarray
    left: np.ndarray
    treatment: np.ndarray | None
    n_failed: dict[str, int]


@dataclass(frozen=True)
class LimitMoments:
    """Shifts of both limits as functions of weighted sums.

    A refit with weights w on outcomes R beta + e shifts beta by (R'wkR)^{-1} R'wk e, so the columns are the products of
    the orthonormal basis with itself (upper triangle) and with sqrt(k) e. Covariates stay centred where they were.

    Attributes
    ----------
    sections : tuple of (int, int)
        Regressions, and columns in each; all regressions of a section have as many columns.
    q : int
        Regressors.
    """

    sections: tuple[tuple[int, int], ...]
    q: int

    def contributions(self, design: Any) -> np.ndarray:
        """(n, sums); the design is a list of (Z (n, q), sqrt(k) e (n, c)), one per regression."""
        rows, cols = np.triu_indices(self.q)
        parts = []
        for Z, errors in design:
            parts.append(Z[:, rows] * Z[:, cols])
            parts.append((Z[:, :, None] * errors[:, None, :]).reshape(Z.shape[0], -1))
        return np.concatenate(parts, axis=1)

    def solve(self, total: Any, constants: Any) -> tuple[Any, Any]:
        """(2K,) shifts right then left, in the order of the columns; ``constants`` are the ell (regressions, 2, q)."""
        import jax
        import jax.numpy as jnp

        from causalsat.kernels.replicates import Status

        rights, lefts, fine = [], [], jnp.bool_(True)
        start, first = 0, 0
        for number, width in self.sections:
            size = self.q * (self.q + 1) // 2 + self.q * width
            block = total[start : start + number * size].reshape(number, size)
            shifts, ok = jax.vmap(self._shift)(block, constants[first : first + number])
            rights.append(shifts[:, 0].reshape(-1))
            lefts.append(shifts[:, 1].reshape(-1))
            fine &= jnp.all(ok)
            start, first = start + number * size, first + number
        return jnp.concatenate(rights + lefts), jnp.where(fine, int(Status.ok), int(Status.singular))

    def _shift(self, block: Any, ell: Any) -> tuple[Any, Any]:
        import jax
        import jax.numpy as jnp

        from causalsat.kernels.replicates import full_rank_factor

        rows, cols = np.triu_indices(self.q)
        square = np.zeros((self.q, self.q), dtype=np.int64)
        square[rows, cols] = square[cols, rows] = np.arange(rows.size)
        gram, cross = block[: rows.size][square], block[rows.size :].reshape(self.q, -1)
        lower, scale, fine = full_rank_factor(gram)
        half = jax.scipy.linalg.solve_triangular(lower, cross / scale[:, None], lower=True)
        beta = jax.scipy.linalg.solve_triangular(lower, half, lower=True, trans=1) / scale[:, None]
        return jnp.einsum("sq,qc->sc", ell, beta), fine


def refits(
    design: Any, fit: R3dFit, C: Contributions, bootstrap: Bootstrap, *, seed: int, progress: Progress = False
) -> Refits:
    """Draws of all limits under resampled units ("iid", "bayes") or clusters ("cluster", "bayes").

    Raises
    ------
    OptionError
        ``refit=False``: bandwidths are held fixed already, and nothing else could be.
    """
    if not bootstrap.refit:
        raise OptionError(
            f'Bootstrap(scheme="{bootstrap.scheme}", refit=False) leaves nothing to draw: bandwidths are held fixed in '
            'every draw. Use refit=True, or scheme="multiplier".'
        )
    k = fit.columns.residuals.shape[1]
    number = len(C.bases)
    listed = [*C.bases] if C.treatment_basis is None else [*C.bases, C.treatment_basis]
    sections = ((number, k // number),) if C.treatment_basis is None else ((number, k // number), (1, 1))
    errors = fit.columns.residuals if number == 1 else None
    data = []
    for at, basis in enumerate(listed):
        if at >= number:
            own = fit.treatment.residuals if fit.treatment is not None else fit.columns.residuals
        else:
            own = fit.columns.residuals[:, [at]] if errors is None else errors
        data.append(_full(design, C, basis, own))
    moments = LimitMoments(sections, listed[0].Z.shape[1])
    constants = np.stack([basis.ell for basis in listed])
    draws = bootstrap_draws(
        data, bootstrap, design.sampling, seed=seed, moments=moments, constants=constants, progress=progress
    )
    total = draws.values.shape[1] // 2
    right, left = draws.values[:, :total], draws.values[:, total:]
    jump = None if C.treatment_basis is None else right[:, k] - left[:, k]
    return Refits(right[:, :k], left[:, :k], jump, draws.n_failed)


def _full(design: Any, C: Contributions, basis: Basis, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Basis and weighted residuals of all units, zero outside the window."""
    n = design.x.size
    Z, errors = np.zeros((n, basis.Z.shape[1])), np.zeros((n, residuals.shape[1]))
    Z[C.groups.rows] = basis.Z
    errors[C.groups.rows] = basis.root[:, None] * residuals[C.groups.rows]
    return Z, errors
