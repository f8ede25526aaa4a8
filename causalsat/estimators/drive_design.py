"""What `drive` estimates from: roles, rows net of covariates, fixed effects and images, and what was counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalsat.errors import CausalsatWarning, CollinearWarning, IdentificationError, OptionError, warn
from causalsat.estimators.ate_options import names_of
from causalsat.estimators.drive_columns import EFFECT, Controls, RawColumns, raw_columns, sizes_of, without_effects
from causalsat.estimators.drive_controls import ImageControls, net_of_images
from causalsat.estimators.drive_guards import (
    embedding_instruments,
    guard_outcome,
    guard_same,
    guard_size,
    guard_variation,
    identified,
)
from causalsat.inference.absorb import AbsorbedParameters
from causalsat.inference.independent import Independent, independent_columns, net_of
from causalsat.inference.iv_rows import IvRows
from causalsat.study.folds import Folds
from causalsat.study.open import Role, Study

if TYPE_CHECKING:
    from causalsat.estimators.drive_options import DriveChoices


@dataclass(frozen=True, eq=False)
class DriveDesign:
    """One equation, ready to fit.

    Attributes
    ----------
    study : Study
        What the door returned.
    rows : IvRows
        The rows in use in raw units, net of everything that was partialled out.
    kept : np.ndarray
        (n,) int64 positions of these rows in the study.
    dropped : dict
        Reason to rows left out after the door: singletons, rows of weight zero.
    covariates : tuple of str
        Names of the columns of ``covariate_matrix``.
    covariate_matrix : np.ndarray
        (n, m_c) float64 independent covariates (the constant first where there are no fixed effects), net of them.
    dropped_covariates, dropped_instruments : tuple of str
        Columns that others determine.
    absorbed : AbsorbedParameters or None
        Parameters of the fixed effects.
    levels : dict
        Fixed effect to its number of levels.
    environments : tuple or None
        Codes (n,) and labels of the environments of rho="cv".
    effective_n : float
        Kish's (sum w)^2 / sum w^2.
    embedding_instruments : tuple of str
        Instruments that are features of images: Anderson-Rubin rows are then forced.
    identified : bool
        Whether the instruments determine the effect.
    y, X : np.ndarray
        (n,), (n, p) outcome and treatments before covariates were partialled out (net of fixed effects).
    """

    study: Study
    rows: IvRows
    kept: np.ndarray
    dropped: dict[str, int]
    covariates: tuple[str, ...]
    covariate_matrix: np.ndarray
    dropped_covariates: tuple[str, ...]
    dropped_instruments: tuple[str, ...]
    absorbed: AbsorbedParameters | None
    levels: dict[str, int]
    environments: tuple[np.ndarray, np.ndarray] | None
    effective_n: float
    embedding_instruments: tuple[str, ...]
    identified: bool
    y: np.ndarray
    X: np.ndarray
    images: ImageControls | None = None

    def covariate_effects(self, b: np.ndarray) -> dict[str, float]:
        """Coefficients of the covariates at treatment effects b (p,) in raw units: y - X b regressed on C."""
        if not self.covariates:
            return {}
        root = np.sqrt(self.rows.weights)
        left = (self.y - self.X @ np.asarray(b, dtype=np.float64)) * root
        found = np.linalg.lstsq(self.covariate_matrix * root[:, None], left, rcond=None)[0]
        return dict(zip(self.covariates, found.tolist(), strict=True))


def roles_of(
    *,
    outcome: str,
    treatment: str | Sequence[str],
    instruments: str | Sequence[str],
    covariates: str | Sequence[str] | None = None,
    fixed_effects: str | Sequence[str] | None = None,
    weights: str | None = None,
    cluster: str | Sequence[str] | None = None,
    environments: str | None = None,
    fold_group: str | None = None,
) -> tuple[Role, ...]:
    """The roles that the door checks; rows with a missing value in any of them are left out.

    Raises
    ------
    OptionError
        More than two cluster columns.
    """
    clusters = names_of(cluster)
    if len(clusters) > 2:
        raise OptionError(f"cluster={list(clusters)!r} names {len(clusters)} columns; one, or two for two-way.")
    roles = [
        Role("outcome", outcome, "numeric"),
        Role("treatment", names_of(treatment), "numeric", many=True),
        Role("instruments", names_of(instruments), "design", many=True),
        Role("covariates", names_of(covariates) or None, "design", many=True, constant="allow"),
        Role("weights", weights, "weights"),
        Role("cluster", clusters[0] if clusters else None, "codes", constant="allow"),
        Role("second cluster", clusters[1] if len(clusters) == 2 else None, "codes", constant="allow"),
        Role("environment", environments, "codes"),
        Role("fold group", fold_group, "codes"),
    ]
    roles += [Role(EFFECT + name, name, "codes", constant="allow") for name in names_of(fixed_effects)]
    return tuple(role for role in roles if role.columns is not None)


def drive_designs(study: Study, choices: "DriveChoices") -> tuple[DriveDesign, ...]:
    """The equations of a call: one, or with ``joint=False`` one per treatment.

    Parameters
    ----------
    study : Study
        Opened with :func:`roles_of`.
    choices : DriveChoices
        Its ``joint``, ``embedding_control``, ``seed`` and ``fine`` are read.
    """
    names = study.names["treatment"]
    fine = choices.fine
    equations: list[tuple[int, ...]] = [tuple(range(len(names)))]
    if not choices.joint and len(names) > 1:
        equations = [(j,) for j in range(len(names))]
        warn(
            f"joint=False fits one equation for each of {', '.join(names)} and leaves the other treatments out of it: "
            "an instrument that moves several of them is then not excluded.",
            CausalsatWarning,
        )
    return tuple(
        drive_design(
            study,
            treatments=columns,
            dof=fine.dof,
            embedding_control=choices.embedding_control,
            n_components=fine.n_components,
            nuisance_folds=fine.nuisance_folds,
            seed=choices.seed,
            allow_underidentified=fine.allow_underidentified,
        )
        for columns in equations
    )


def drive_design(
    study: Study,
    *,
    treatments: Sequence[int] | None = None,
    dof: str = "small",
    embedding_control: str = "ridge",
    n_components: int | None = None,
    nuisance_folds: Folds = Folds(5),
    seed: int = 0,
    allow_underidentified: bool = False,
) -> DriveDesign:
    """Rows net of the constant, covariates, fixed effects and images, with every guard passed.

    Parameters
    ----------
    study : Study
        Opened with :func:`roles_of`; its images, if any, are controls.
    treatments : sequence of int, optional
        Positions of the treatments of this equation; None: all.
    dof : str
        "small" or "none"; handed to the rows.
    embedding_control, n_components, nuisance_folds, seed
        See :func:`causalsat.estimators.drive_controls.net_of_images`.
    allow_underidentified : bool
        Return a design that is not identified rather than raise.

    Returns
    -------
    DriveDesign

    Raises
    ------
    IdentificationError
        Treatments or instruments without variation of their own, an instrument that is a treatment or the outcome,
        too few instruments.
    DataError
        Too few rows, one cluster, a constant outcome.
    """
    raw = raw_columns(study, treatments)
    blocks, controls = without_effects(raw)
    guard_size(len(blocks), len(raw.instruments), len(raw.treatments), controls.n_partialled, settled=False)
    _guard_effects(raw, blocks)
    marked = embedding_instruments(study, raw.instruments, raw.blocks[:, 1 + len(raw.treatments) :], raw.kept)
    images = None
    if study.embeddings is not None:
        images = net_of_images(
            study, raw, blocks, controls, method=embedding_control, n_components=n_components, folds=nuisance_folds,
            seed=seed,
        )  # fmt: skip
    left = net_of(blocks if images is None else images.residuals, controls.basis, raw.weights)
    rows, chosen = _rows(raw, left, controls, held=images is not None, dof=dof)
    guard_same(rows)
    guard_size(rows.n, rows.q, rows.p, rows.m)
    shown = raw.blocks if not raw.factors else blocks
    return DriveDesign(
        study=study,
        rows=rows,
        kept=raw.kept,
        dropped=raw.dropped,
        covariates=() if images is not None else controls.names,
        covariate_matrix=controls.matrix,
        dropped_covariates=controls.dropped,
        dropped_instruments=tuple(raw.instruments[j] for j in chosen.dropped),
        absorbed=controls.absorbed,
        levels={f.name: f.n_levels for f in raw.factors},
        environments=_environments(study, raw.kept),
        effective_n=float(raw.weights.sum() ** 2 / np.square(raw.weights).sum()),
        embedding_instruments=tuple(name for name in marked if name in rows.instruments),
        identified=identified(rows, allow=allow_underidentified),
        images=images,
        y=shown[:, 0],
        X=shown[:, 1 : 1 + rows.p],
    )


def _guard_effects(raw: RawColumns, blocks: np.ndarray) -> None:
    """Treatments and instruments vary inside the fixed effects."""
    if not raw.factors:
        return
    inside, total = raw.weights @ np.square(blocks), np.square(sizes_of(raw.blocks, raw.weights))
    p = len(raw.treatments)
    for role, columns in (("treatment", slice(1, 1 + p)), ("instrument", slice(1 + p, None))):
        guard_variation(role, raw.names[columns], inside[columns], total[columns], raw.factors)


def _rows(raw: RawColumns, left: np.ndarray, controls: Controls, *, held: bool, dof: str) -> tuple[IvRows, Independent]:
    """The rows, with the instruments that are linearly independent."""
    p, sizes = len(raw.treatments), sizes_of(raw.blocks, raw.weights)
    _guard_columns(raw, left, sizes, controls)
    found = independent_columns(left[:, 1 + p :], raw.weights, sizes=sizes[1 + p :])
    if len(found.dropped):
        named = ", ".join(raw.instruments[j] for j in found.dropped)
        warn(
            f"instruments {named} are left out: the covariates or the instruments before them determine them; "
            f"q = {len(found.kept)}.",
            CollinearWarning,
        )
    if not len(found.kept):
        raise IdentificationError(
            f"no instrument varies once the covariates are partialled out ({', '.join(raw.instruments)}); drop the "
            "covariates that determine them, or name other instruments."
        )
    held = held or not controls.repeatable
    rows = IvRows(
        y=left[:, 0],
        X=left[:, 1 : 1 + p],
        Z=left[:, 1 + p :][:, found.kept],
        weights=raw.weights,
        controls=controls.basis[:, :0] if held else controls.basis * np.sqrt(len(left)),
        n_partialled=controls.n_partialled,
        n_partialled_clustered=controls.n_partialled_clustered,
        sampling=raw.sampling,
        outcome=raw.outcome,
        treatments=raw.treatments,
        instruments=tuple(raw.instruments[j] for j in found.kept),
        dof=dof,
    )
    return rows, found


def _guard_columns(raw: RawColumns, left: np.ndarray, sizes: np.ndarray, controls: Controls) -> None:
    """Outcome and treatments vary, and no treatment is determined by the others and C."""
    p = len(raw.treatments)
    variance = raw.weights @ np.square(left)
    guard_outcome(raw.outcome, float(variance[0]), float(sizes[0] ** 2))
    found = independent_columns(left[:, 1 : 1 + p], raw.weights, sizes=sizes[1 : 1 + p])
    if len(found.dropped):
        named = ", ".join(repr(raw.treatments[j]) for j in found.dropped)
        raise IdentificationError(
            f"treatments {named} are determined by the other treatments and the covariates "
            f"({', '.join(controls.names) or 'none'}): their effects cannot be told apart. Drop one of them."
        )


def _environments(study: Study, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    if "environment" not in study.codes:
        return None
    used, codes = np.unique(study.codes["environment"][kept], return_inverse=True)
    return codes.astype(np.int64), study.labels["environment"][used]
