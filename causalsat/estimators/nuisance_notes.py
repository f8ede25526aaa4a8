"""What happened in a cross-fit, in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalsat.estimators.nuisance_layout import Columns, Split, has_inner

NUISANCES = ("g0", "g1", "m")
NOT_CONVERGED = 4


def penalty_edges(found: Any, plan: Any, n_penalties: int) -> list[str]:
    """Penalties chosen at an end of the grid, in words."""
    if not plan.searched or n_penalties < 2:
        return []
    ends = {0: "smallest", n_penalties - 1: "largest"}
    return [
        f"{name}, fold {k}: the {ends[int(place)]} penalty of the grid"
        for name, places in zip(NUISANCES, found.choice, strict=True)
        for k, place in enumerate(places)
        if int(place) in ends
    ]


def nuisance_notes(found: Any, columns: Columns, split: Split, options: Any, asked: Sequence[str]) -> list[str]:
    """What a reader should know about one cross-fit."""
    notes = []
    if columns.n_missing:
        notes.append(f"{columns.n_missing} missing covariate values: training means and missing indicators")
    if split.in_sample:
        notes.append("nuisances are in sample: not cross-fitted")
    if columns.searched and split.n_folds < 3:
        notes.append("fewer than three folds: penalties by generalised cross-validation")
    learned = "m" in asked and options.treatment != "linear"
    if learned and options.calibrate and not has_inner(columns, split) and columns.matrix.shape[1]:
        notes.append("propensity not calibrated: inner predictions need at least three folds")
    if "m" in asked and options.treatment == "linear" and options.calibrate:
        notes.append("propensity not calibrated: a linear probability model")
    flat = np.flatnonzero(found.calibration[:, 1] == 0)
    if len(flat):
        notes.append(
            f"folds {flat.tolist()}: inner predictions do not order the treatment; propensity is the training share"
        )
    if found.status == NOT_CONVERGED:
        notes.append("a logistic fit did not converge: unpenalised columns may separate the arms")
    return notes
