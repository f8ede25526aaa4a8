"""Do treated and controls overlap, given an adjustment set?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import DataError, WeakOverlapWarning, warn

BINS = 20
CURE = 'The effect is extrapolated there: use estimand="ato", fewer components (compress=), or trim=.'


@dataclass(frozen=True)
class ArmWeights:
    """How far the weights of one arm are from equal: Kish's effective size and the largest share."""

    n: int
    ess: float
    largest_share: float


def arm_weights(weights: np.ndarray) -> ArmWeights:
    """Kish's effective sample size (sum a)^2 / sum a^2 of the rows with positive weight, and the largest share.

    Examples
    --------
    >>> arm_weights(np.array([1.0, 1.0, 2.0])).ess.round(4)
    np.float64(2.6667)
    """
    positive = np.asarray(weights, dtype=np.float64)
    positive = positive[positive > 0.0]
    if positive.size == 0:
        raise DataError("an arm has no row with a positive weight.")
    total = positive.sum()
    return ArmWeights(int(positive.size), total**2 / (positive**2).sum(), float(positive.max() / total))


def inverse_propensity_weights(d: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) weights d/m and (1-d)/(1-m) of the two arms, zero in the other one."""
    d, m = np.asarray(d, dtype=np.float64), np.asarray(m, dtype=np.float64)
    return d / np.where(d > 0, m, 1.0), (1.0 - d) / np.where(d > 0, 1.0, 1.0 - m)


def overlap_check(
    label: str,
    d: np.ndarray,
    m: np.ndarray,
    weights1: np.ndarray | None = None,
    weights0: np.ndarray | None = None,
    clipped: np.ndarray | None = None,
    *,
    weights: np.ndarray | None = None,
    auc: float | None = None,
    image: bool = False,
) -> CheckResult:
    """Overlap of one treatment and one adjustment set.

    Fails when an arm's effective size is below 50 or a tenth of the arm, one row carries more than 5% of an arm's
    weight, more than 5% of propensities are clipped, or (``image``) the out-of-fold AUC exceeds .95.

    Parameters
    ----------
    label : str
        "treatment, set".
    d, m : np.ndarray
        (n,) float64 treatment (0 or 1) and propensity as used (clipped).
    weights1, weights0 : np.ndarray, optional
        (n,) float64 estimation weights of treated and control rows (their other entries are ignored); the default is
        d/m and (1-d)/(1-m).
    clipped : np.ndarray, optional
        (n,) bool, rows whose propensity was clipped.
    weights : np.ndarray, optional
        (n,) float64 row weights, multiplied into both.
    auc : float, optional
        Out-of-fold AUC of the propensity.
    image : bool
        The adjustment set holds the embedding, so the AUC rule applies.

    Returns
    -------
    CheckResult
        ``statistic``: the smaller of the two ratios effective size / arm size. ``table``: histogram of m by arm.

    Warns
    -----
    WeakOverlapWarning
        More than 5% clipped, AUC above .95 with the image, or an effective size below a tenth of its arm.
    """
    d, m = np.asarray(d, dtype=np.float64), np.asarray(m, dtype=np.float64)
    arms = _arms(d, m, weights1, weights0, weights)
    masks = (d == 1.0, d == 0.0)
    shares = [0.0, 0.0] if clipped is None else [float(np.asarray(clipped)[mask].mean()) for mask in masks]
    clip_share = 0.0 if clipped is None else float(np.asarray(clipped).mean())
    alarms = _alarms(arms, clip_share, auc if image else None)
    failures = alarms + _failures(arms)
    name = f"overlap[{label}]"
    if alarms:
        warn(f"{name}: {'; '.join(alarms)}. {CURE}", WeakOverlapWarning)
    outside = {cut: float(((m < cut) | (m > 1.0 - cut)).mean()) for cut in (0.05, 0.01)}
    text = (
        f"Effective sizes {arms[0].ess:.1f} of {arms[0].n} treated and {arms[1].ess:.1f} of {arms[1].n} controls; "
        f"largest weight shares {arms[0].largest_share:.1%} and {arms[1].largest_share:.1%}; clipped {shares[0]:.1%} "
        f"and {shares[1]:.1%}; m in [{m.min():.3f}, {m.max():.3f}], {outside[0.05]:.1%} outside [.05, .95] and "
        f"{outside[0.01]:.1%} outside [.01, .99]."
    )
    if failures:
        text += f" {'; '.join(failures).capitalize()}. {CURE}"
    statistic = float(min(arm.ess / arm.n for arm in arms))
    return CheckResult(name, not failures, statistic, text, histogram(d, m))


def _arms(
    d: np.ndarray, m: np.ndarray, weights1: np.ndarray | None, weights0: np.ndarray | None, weights: np.ndarray | None
) -> tuple[ArmWeights, ArmWeights]:
    if weights1 is None or weights0 is None:
        weights1, weights0 = inverse_propensity_weights(d, m)
    w = 1.0 if weights is None else np.asarray(weights, dtype=np.float64)
    return arm_weights((weights1 * w)[d == 1.0]), arm_weights((weights0 * w)[d == 0.0])


def _alarms(arms: tuple[ArmWeights, ArmWeights], clip_share: float, auc: float | None) -> list[str]:
    """The reasons that earn a warning as well as a failed check."""
    found = []
    if clip_share > 0.05:
        found.append(f"{clip_share:.1%} of propensities are clipped")
    if auc is not None and auc > 0.95:
        found.append(f"the embedding nearly identifies the treated (out-of-fold AUC {auc:.3f}): it encodes location")
    for word, arm in zip(("treated", "controls"), arms):
        if arm.ess < 0.1 * arm.n:
            found.append(f"the {arm.n} {word} weigh as much as {arm.ess:.1f} rows")
    return found


def _failures(arms: tuple[ArmWeights, ArmWeights]) -> list[str]:
    found = []
    for word, arm in zip(("treated", "controls"), arms):
        if 0.1 * arm.n <= arm.ess < 50.0:
            found.append(f"the {word} have an effective size of {arm.ess:.1f}, below 50")
        if arm.largest_share > 0.05:
            found.append(f"one of the {word} carries {arm.largest_share:.1%} of its arm's weight")
    return found


def histogram(d: np.ndarray, m: np.ndarray) -> dict[str, list[Any]]:
    """Counts of m by arm in 20 equal bins of [0, 1]."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = [np.histogram(m[d == arm], bins=edges)[0].tolist() for arm in (1.0, 0.0)]
    return {"low": edges[:-1].tolist(), "high": edges[1:].tolist(), "n_treated": counts[0], "n_control": counts[1]}


def normalization_check(label: str, estimate: float, rescaled: float, std_error: float) -> CheckResult:
    """How far rescaling the weights to mean one in each arm (normalize="arm") moves an AIPW estimate.

    Fails, and warns, when it moves by more than a quarter of the standard error: inverse weights whose arm means are
    far from one are a sign of weak overlap or of a propensity that is not calibrated.

    Examples
    --------
    >>> normalization_check("w, image", 1.0, 1.01, 0.1).passed
    True
    """
    moved = (rescaled - estimate) / std_error
    passed = bool(abs(moved) <= 0.25) if np.isfinite(moved) else None
    name = f"normalization[{label}]"
    text = f'normalize="arm" moves the estimate by {moved:.2f} standard errors ({estimate:.4g} to {rescaled:.4g}).'
    if passed is False:
        warn(f"{name}: {text} Overlap is weak or the propensity is not calibrated. {CURE}", WeakOverlapWarning)
    return CheckResult(name, passed, float(moved), text)


def overlap_form_check(label: str, fitted: float, orthogonal: float, std_error_difference: float) -> CheckResult:
    """Difference of the two forms of the overlap-weighted effect, in its own standard errors.

    The fitted form weights by the fitted m(1-m), the orthogonal one targets the true overlap; with heterogeneous
    effects and a slowly learned m they differ.

    Examples
    --------
    >>> overlap_form_check("w, image", 1.00, 1.02, 0.02).statistic.round(6)
    np.float64(1.0)
    """
    moved = np.float64(orthogonal - fitted) / std_error_difference if std_error_difference > 0 else np.float64("nan")
    text = f"The orthogonal ATO differs from the fitted one by {moved:.2f} standard errors of the difference."
    return CheckResult(f"ato form[{label}]", bool(abs(moved) <= 2.0) if np.isfinite(moved) else None, moved, text)
