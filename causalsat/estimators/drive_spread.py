"""Spread and tails of the draws of DRIVE: parameters that were held, and clusters that are few."""

from dataclasses import replace

import numpy as np

from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_law import DRAW_T_STREAM, t_factors
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.seam import Draws

_HELD = "what was partialled out is held in the draws"


def with_spread(draws: Draws, problem: DriveProblem, rho: float, refitted: int, *, recentre: bool) -> Draws:
    """Shifts of the draws multiplied by the root of the factor by which their variance falls short.

    Rows: n/(n - k) where parameters are held, k of them with the treatments. Whole clusters: with "multiplier", whose
    variance is the clustered one without factor whatever was partialled out, always g/(g - 1) (n - 1)/(n - k); with
    "bayes", whose weights have the variance (g - 1)/(g + 1), always (g + 1)/(g - 1), times (n - 1)/(n - k) where
    parameters are held; with "cluster" the factor of the clustered covariance where parameters are held, and none
    elsewhere, since projections made again in each draw widen counts by about as much. With dof="none" no factor.

    Parameters
    ----------
    draws : Draws
        (b, 2p) DRIVE and TSLS, centred at the TSLS estimate (``recentre``) or at the estimates themselves.
    problem : DriveProblem
        The fitted problem.
    rho : float
        Squared radius.
    refitted : int
        Columns of the controls that the draws partial out again.
    recentre : bool
        Where the draws are centred.

    Returns
    -------
    Draws
        ``notes`` have "held_factor", the factor of the variance, and "flags" where there is one.
    """
    factor, words = _shortfall(problem.rows, draws, refitted)
    if factor == 1.0:
        return draws
    tsls = problem.b_tsls
    centre = np.concatenate([tsls if recentre else solve_drive(problem, rho).b, tsls])
    values = centre[None, :] + np.sqrt(factor) * (draws.values - centre[None, :])
    notes = draws.notes | {"held_factor": factor, "flags": (*draws.notes.get("flags", ()), words)}
    return replace(draws, values=values, notes=notes)


def tail_factors(rows: IvRows, draws: Draws) -> np.ndarray:
    """(b, 1) factors sqrt((g - 1)/chi2_{g - 1}) of the shifts of draws of g whole clusters; ones for other draws.

    The spread of such draws comes from g clusters and is as uncertain as the standard errors of Wald intervals, which
    take t(g - 1) quantiles for that reason. One uniform per draw from a stream of its own: a longer run starts with
    the bits of a shorter one.
    """
    if not by_cluster(rows, draws):
        return np.ones((len(draws), 1))
    factors = t_factors(draws.first + len(draws), _clusters(rows) - 1.0, draws.seed, DRAW_T_STREAM)
    return factors[draws.first :, None]


def by_cluster(rows: IvRows, draws: Draws) -> bool:
    """Whether the units of the draws are the clusters of the study."""
    return draws.scheme in ("cluster", "bayes", "multiplier") and rows.sampling.cluster is not None


def _shortfall(rows: IvRows, draws: Draws, refitted: int) -> tuple[float, str]:
    """Factor on the variance of the draws, and the sentence that tells it; 1 and "" without one."""
    whole = by_cluster(rows, draws)
    counted = rows.n_partialled_clustered if whole else rows.n_partialled
    held = counted - refitted
    # Draws of whole clusters leave effects inside them as they were; what counts of those is one constant.
    none_held = held <= int(whole)
    if rows.dof == "none" or (none_held and not (whole and draws.scheme in ("bayes", "multiplier"))):
        return 1.0, ""
    n, k = rows.n, held + rows.p
    if not whole:
        times = _root_of(f"n/(n - {k})", n / (n - k))
        return n / (n - k), f"{_HELD}, so their shifts are {times}, the degrees of freedom left"
    g = float(_clusters(rows))
    rest = (n - 1.0) / (n - k)
    if draws.scheme == "bayes":
        factor = (g + 1.0) / (g - 1.0) * (1.0 if none_held else rest)
        times = _root_of("(g + 1)/(g - 1)" + ("" if none_held else f" (n - 1)/(n - {k})"), factor)
        why = "Bayesian weights of clusters are never zero and spread too little"
        return factor, f"{why if none_held else f'{why}, and {_HELD}'}: their shifts are {times}"
    factor = g / (g - 1.0) * rest
    times = _root_of(f"g/(g - 1) (n - 1)/(n - {k})", factor)
    return factor, f"{_HELD}, so their shifts are {times}, the factor of clustered covariances"


def _root_of(formula: str, factor: float) -> str:
    return f"multiplied by the root of {formula} = {factor:.6g}"


def _clusters(rows: IvRows) -> int:
    return int(np.unique(np.asarray(rows.sampling.cluster)).size)
