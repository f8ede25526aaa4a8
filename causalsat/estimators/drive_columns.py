"""The columns of an equation of `drive` on the rows in use, and what fixed effects and covariates take from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.errors import CollinearWarning, DataError, DroppedRowsWarning, warn
from causalsat.estimators.drive_guards import guard_clusters
from causalsat.inference.absorb import (
    AbsorbedParameters,
    Factor,
    absorb,
    absorbed_parameters,
    factor,
    is_nested,
    without_singletons,
)
from causalsat.inference.independent import independent_columns
from causalsat.inference.sampling import Sampling
from causalsat.study.open import Study

CONSTANT = "(constant)"
EFFECT = "fixed effect "
# A column whose spread is this share of its size could be a constant with rounding in it.
_FLAT = 1e-5


@dataclass(frozen=True, eq=False)
class RawColumns:
    """The columns of an equation on the rows in use; ``blocks`` (n, 1 + p + q) holds y, X, Z."""

    kept: np.ndarray
    dropped: dict[str, int]
    weights: np.ndarray
    blocks: np.ndarray
    covariates: np.ndarray
    covariate_names: tuple[str, ...]
    factors: tuple[Factor, ...]
    sampling: Sampling
    outcome: str
    treatments: tuple[str, ...]
    instruments: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of ``blocks``."""
        return (self.outcome, *self.treatments, *self.instruments)


@dataclass(frozen=True, eq=False)
class Controls:
    """What is partialled out.

    Attributes
    ----------
    matrix : np.ndarray
        (n, m_c) float64 independent covariates: raw with the constant first, or net of fixed effects.
    net : np.ndarray
        (n, r) float64 weighted-orthonormal basis of the covariates net of ``effects``.
    basis : np.ndarray
        (n, m_c) float64 the same with the constant first where there are no fixed effects.
    effects : tuple of Factor
        The fixed effects, or one level for the constant.
    names, dropped : tuple of str
        Names of the columns of ``matrix``; covariates that others determine.
    absorbed : AbsorbedParameters or None
        Parameters of the fixed effects.
    repeatable : bool
        A draw of whole clusters leaves the absorption of fixed effects as it was, so that the covariates can be
        partialled out again in each draw.
    """

    matrix: np.ndarray
    net: np.ndarray
    basis: np.ndarray
    effects: tuple[Factor, ...]
    names: tuple[str, ...]
    dropped: tuple[str, ...]
    absorbed: AbsorbedParameters | None
    repeatable: bool

    @property
    def n_partialled(self) -> int:
        """Parameters partialled out, constant and fixed effects included."""
        return int(self.basis.shape[1]) + (0 if self.absorbed is None else self.absorbed.total)

    @property
    def n_partialled_clustered(self) -> int:
        """The same as counted in cluster factors."""
        return int(self.basis.shape[1]) + (0 if self.absorbed is None else self.absorbed.clustered)


def raw_columns(study: Study, treatments: Sequence[int] | None) -> RawColumns:
    """Outcome, chosen treatments, instruments and covariates of the rows with positive weight, before anything is
    partialled out; clusters that cannot carry a covariance are refused (raises DataError)."""
    names = study.names["treatment"]
    chosen = list(range(len(names))) if treatments is None else list(treatments)
    kept, dropped = _kept_rows(study)
    weights = study.numeric.get("weights", np.ones(len(study.rows)))[kept]
    covariates = study.numeric.get("covariates", np.empty((len(study.rows), 0)))[kept]
    numeric = study.numeric
    codes = {
        role: np.unique(study.codes[role][kept], return_inverse=True)[1]
        for role in ("cluster", "second cluster")
        if role in study.codes
    }
    for role, values in codes.items():
        guard_clusters(values, study.names[role][0])
    return RawColumns(
        kept=kept,
        dropped=dropped,
        weights=weights / weights.mean(),
        blocks=np.column_stack([numeric["outcome"], numeric["treatment"][:, chosen], numeric["instruments"]])[kept],
        covariates=covariates,
        covariate_names=study.names.get("covariates", ()),
        factors=tuple(factor(_effect_name(r), study.codes[r][kept]) for r in _effects(study)),
        sampling=Sampling(
            len(kept),
            cluster=codes.get("cluster"),
            second=codes.get("second cluster"),
            lonlat=None if study.lonlat is None else study.lonlat[kept],
        ),
        outcome=study.names["outcome"][0],
        treatments=tuple(names[j] for j in chosen),
        instruments=study.names["instruments"],
    )


def _effects(study: Study) -> list[str]:
    return [role for role in study.codes if role.startswith(EFFECT)]


def _effect_name(role: str) -> str:
    return role[len(EFFECT) :]


def _kept_rows(study: Study) -> tuple[np.ndarray, dict[str, int]]:
    """Rows with weight whose fixed effects they do not fit alone."""
    kept = np.arange(len(study.rows))
    dropped: dict[str, int] = {}
    weights = study.numeric.get("weights")
    if weights is not None and (weights == 0.0).any():
        kept = np.flatnonzero(weights > 0.0)
        dropped[f"weights {study.names['weights'][0]} is zero"] = len(weights) - len(kept)
    factors = [study.codes[role][kept] for role in _effects(study)]
    if factors:
        several = without_singletons(factors)
        if not several.all():
            dropped["alone in a level of the fixed effects"] = int((~several).sum())
        kept = kept[several]
    if not len(kept):
        raise DataError("every row is alone in a level of the fixed effects; nothing is left. Use coarser effects.")
    if dropped:
        listed = "; ".join(f"{reason} in {count}" for reason, count in dropped.items())
        warn(f"drive: {len(study.rows) - len(kept)} further rows are left out: {listed}.", DroppedRowsWarning)
    return kept.astype(np.int64), dropped


def without_effects(raw: RawColumns) -> tuple[np.ndarray, Controls]:
    """y, X, Z and the covariates net of the fixed effects, or of the constant."""
    n, width = raw.blocks.shape
    effects = raw.factors or (Factor(CONSTANT, np.zeros(n, np.int64), 1),)
    left = absorb(np.column_stack([raw.blocks, raw.covariates]), effects, raw.weights)
    found = independent_columns(left[:, width:], raw.weights, sizes=sizes_of(raw.covariates, raw.weights))
    names = tuple(raw.covariate_names[j] for j in found.kept)
    dropped = tuple(raw.covariate_names[j] for j in found.dropped)
    if dropped:
        cause = "fixed effects" if raw.factors else "constant"
        warn(
            f"covariates {', '.join(dropped)} are left out: the {cause} or the covariates before them determine them.",
            CollinearWarning,
        )
    if raw.factors:
        cluster = raw.sampling.cluster
        absorbed = absorbed_parameters(raw.factors, cluster, raw.sampling.second)
        every = cluster is not None and all(is_nested(f.codes, cluster) for f in raw.factors)
        matrix = left[:, width:][:, found.kept]
        return left[:, :width], Controls(matrix, found.basis, found.basis, effects, names, dropped, absorbed, every)
    ones = np.ones((n, 1))
    matrix = np.column_stack([ones, raw.covariates[:, found.kept]])
    basis = np.column_stack([ones / np.sqrt(n), found.basis])
    apart = (f"covariate {name}" if name == CONSTANT else name for name in names)
    return left[:, :width], Controls(matrix, found.basis, basis, effects, (CONSTANT, *apart), dropped, None, True)


def sizes_of(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(k,) weighted norms about the mean, with a floor that takes a constant for nothing."""
    mean = weights @ columns / weights.sum()
    spread = np.sqrt(weights @ np.square(columns - mean[None, :]))
    return np.asarray(np.maximum(spread, _FLAT * np.sqrt(weights @ np.square(columns))))
