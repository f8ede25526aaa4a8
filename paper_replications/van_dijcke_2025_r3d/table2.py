"""Simulations of Table 2: units with their deciles, the fit of `causalsat.r3d` step by step, and what came out.

A unit's type-7 deciles of N draws need 18 order statistics. Those of N uniforms are sums of gamma variables over their
total, so that a study of n units costs n times 19 gammas instead of n N draws, with the same law. `cs.r3d` itself is
called on such a study in tests/calibration/test_r3d_table2.py, to the same numbers.
"""

import functools
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from causalsat.errors import CompatibilityWarning
from causalsat.estimators.r3d_bandwidth import select_bandwidth
from causalsat.estimators.r3d_compat import compat_fit, compat_infer
from causalsat.estimators.r3d_fit import fit_curves
from causalsat.estimators.r3d_inference import infer
from causalsat.estimators.r3d_options import Bandwidth, validated_choices
from causalsat.inference.sampling import Sampling
from causalsat.simulate import r3d as simulate

DECILES = np.array(simulate.DECILES)
RATE_CHANGE = 0.5
RATES = np.linspace(0.5, 1.5 + RATE_CHANGE, 61)
LOGITS = np.linspace(-8.0, 8.0, 641)
PACKAGE = {"compat": "R3D-0.1.0"}


@dataclass(frozen=True)
class Study:
    """Units of one simulated study: running variable (n,), deciles (n, 9), treatment (n,) or None."""

    x: np.ndarray
    Q: np.ndarray
    treatment: np.ndarray | None = None


def uniform_order_statistics(rng: np.random.Generator, n: int, draws: int, ranks: np.ndarray) -> np.ndarray:
    """(n, len(ranks)) order statistics, of increasing ranks from 1, of ``draws`` uniforms."""
    gaps = np.diff(np.concatenate([[0], ranks, [draws + 1]]))
    sums = np.cumsum(rng.gamma(gaps[None, :].astype(float), size=(n, gaps.size)), axis=1)
    return np.asarray(sums[:, :-1] / sums[:, -1:])


def sample_quantiles(rng: np.random.Generator, n: int, draws: int, inverse: Any, levels: np.ndarray) -> np.ndarray:
    """(n, M) type-7 quantiles of samples whose quantile function is ``inverse`` of (n, r) levels."""
    place = 1.0 + (draws - 1) * levels
    low = np.minimum(np.floor(place + 1e-9), draws - 1).astype(int)
    ranks, back = np.unique(np.concatenate([low, low + 1]), return_inverse=True)
    values = inverse(uniform_order_statistics(rng, n, draws, ranks))[:, back]
    share = np.clip(place - low, 0.0, 1.0)[None, :]
    return np.asarray((1.0 - share) * values[:, : levels.size] + share * values[:, levels.size :])


def generator(design: str, n: int, repeat: int) -> np.random.Generator:
    """Random numbers of one repeat of one cell."""
    return np.random.default_rng([zlib.crc32(design.encode()), n, repeat])


def normal(n: int, repeat: int, draws: int | None = None) -> Study:
    """The first design of the paper, effect 0."""
    from scipy.special import ndtri

    rng = generator("normal", n, repeat)
    x = rng.uniform(-1.0, 1.0, n)
    mu = 5.0 + 5.0 * x + rng.normal(size=n)
    sigma = np.abs(1.0 + x + rng.normal(size=n))
    z = sample_quantiles(rng, n, draws or n, ndtri, DECILES)
    return Study(x, mu[:, None] + sigma[:, None] * z)


def mixture(n: int, repeat: int, draws: int | None = None) -> Study:
    """The second design of the paper, effect 0: only the rate of the exponential changes."""
    rng = generator("mixture", n, repeat)
    x = rng.uniform(-1.0, 1.0, n)
    right = (x >= 0.0).astype(float)
    mu = rng.uniform(-5.0, 5.0, n) + 2.0 * x
    rate = rng.uniform(0.5, 1.5, n) + RATE_CHANGE * right
    inner = _tail_table()

    def inverse(u: np.ndarray) -> np.ndarray:
        logit = np.log(u / (1.0 - u))
        return np.asarray(inner.ev(np.broadcast_to(rate[:, None], u.shape), logit))

    return Study(x, mu[:, None] + sample_quantiles(rng, n, draws or n, inverse, DECILES))


def fuzzy(n: int, repeat: int, draws: int | None = None) -> Study:
    """Treatment taken up by .2 left and .8 right of the cutoff; the effects of `simulate.r3d.fuzzy`."""
    from scipy.special import ndtri

    rng = generator("fuzzy", n, repeat)
    x = rng.uniform(-1.0, 1.0, n)
    eager = rng.uniform(size=n)
    treatment = (eager < np.where(x >= 0.0, 0.8, 0.2)).astype(float)
    mu = 5.0 + 3.0 * x + 2.0 * (0.5 - eager) + treatment + 0.5 * rng.normal(size=n)
    z = sample_quantiles(rng, n, draws or n, ndtri, DECILES)
    return Study(x, mu[:, None] + (1.0 + 0.5 * treatment)[:, None] * z, treatment)


@functools.cache
def _tail_table() -> Any:
    """Quantiles of N(0, 1) + 2 Exp(rate) as a spline in the rate and the logit of the level."""
    from scipy.interpolate import RectBivariateSpline
    from scipy.special import expit, log_ndtr, ndtr

    levels, rate = expit(LOGITS)[None, :], 0.5 * RATES[:, None]
    low, high = np.full((RATES.size, LOGITS.size), -10.0), np.full((RATES.size, LOGITS.size), 200.0)
    for _ in range(60):
        z = 0.5 * (low + high)
        below = ndtr(z) - np.exp(-rate * z + 0.5 * rate**2 + log_ndtr(z - rate)) < levels
        low, high = np.where(below, z, low), np.where(below, high, z)
    return RectBivariateSpline(RATES, LOGITS, 0.5 * (low + high))


DESIGNS = {"normal": normal, "mixture": mixture, "fuzzy": fuzzy}
SHIFTS = {"normal": (0.0, 1.14, 2.27), "mixture": (0.0, 1.86, 3.72), "fuzzy": (0.0,)}


@functools.cache
def truth(design: str) -> np.ndarray:
    """(9,) true effects at the deciles, shift 0."""
    make = getattr(simulate, design)
    found = make(n=4, n_draws=2, effect=1.0, long=False)[1]["tau"]
    return np.asarray(found if design == "fuzzy" else found - 1.0)


def chosen(**options: Any) -> Any:
    """The options of `cs.r3d` with its defaults, 999 draws."""
    defaults = {
        "estimator": "frechet", "order": 2, "kernel": "triangular", "bandwidth": "imse", "bandwidth_treatment": None,
        "quantile_rule": "type7", "small_sample": None, "functionals": (), "thresholds": (),
        "tests": ("nullity", "homogeneity"), "test_range": None, "band": "studentized", "critical": "t",
        "residuals": "hc2", "donut": 0.0, "tie": "treated", "level": 0.95, "inference": None, "n_boot": 999, "seed": 0,
        "checks": None, "compat": None,
    }  # fmt: skip
    return validated_choices(**(defaults | options))


def design_of(study: Study) -> Any:
    """What the pieces of `r3d` read of their design."""
    n, m = study.Q.shape
    return SimpleNamespace(
        x=study.x, treated=study.x >= 0.0, Q=study.Q, quantiles=DECILES[:m], cells=np.full(m, 0.1), omega=np.ones(n),
        treatment=study.treatment, covariates=np.zeros((n, 0)), sampling=Sampling(n),
    )  # fmt: skip


def inference_of(study: Study, **options: Any) -> Any:
    """Bandwidth, curves, draws, bands and tests of one study."""
    choices, design = chosen(**options), design_of(study)
    h, h_treatment = choices.bandwidth, choices.bandwidth_treatment
    if isinstance(h, Bandwidth):
        h = select_bandwidth(
            design.x, design.treated, design.Q, design.cells, design.omega, None, h, residuals=choices.residuals
        ).h
    if isinstance(h_treatment, Bandwidth):
        h_treatment = select_bandwidth(
            design.x, design.treated, design.treatment[:, None], np.ones(1), design.omega, None, h_treatment,
            residuals=choices.residuals,
        ).h.reshape(2, -1)[:, 0]  # fmt: skip
    if choices.compat is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompatibilityWarning)
            return compat_infer(design, compat_fit(design, h, choices), choices)
    fit = fit_curves(design, h, estimator=choices.estimator, order=choices.order, h_treatment=h_treatment)
    return infer(design, fit, choices)


def outcomes(found: Any, target: np.ndarray, shifts: Iterable[float]) -> dict[str, float]:
    """What one study returned: 1 for yes, 0 for no, and the mean length of its band.

    A common shift of all treated quantiles moves the estimate by that shift and nothing else, so one study answers for
    all of them.
    """
    curve = found.curve
    tests = {test.name: test for test in found.tests}
    scale = curve.se if found.choices.band == "studentized" else np.ones(curve.estimate.size)
    out = {
        "coverage": float(np.all((curve.band_low <= target) & (target <= curve.band_high))),
        "homogeneity": float(tests["homogeneity"].p_value > 0.05),
        "length": float(np.mean(curve.band_high - curve.band_low)),
        "h": float(np.mean(found.fit.columns.h)),
    }
    for shift in shifts:
        sup = float(np.max(np.abs(curve.estimate + shift) / scale))
        out[f"nullity_{shift:g}"] = float(sup <= tests["nullity"].critical_value)
    return out


def cell(design: str, n: int, runs: int, options: Mapping[str, Mapping[str, Any]], first: int = 0) -> dict[str, Any]:
    """(runs,) outcomes of every set of options on the same ``runs`` studies."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in options}
    for repeat in range(first, first + runs):
        study = DESIGNS[design](n, repeat)
        for name, own in options.items():
            found = inference_of(study, seed=repeat, **own)
            rows[name].append(outcomes(found, truth(design), SHIFTS[design]))
    return {name: {key: np.array([row[key] for row in found]) for key in found[0]} for name, found in rows.items()}


def share(values: np.ndarray) -> tuple[float, float]:
    """A share in percent with its Monte Carlo standard error, which an observed 0 or 1 does not make zero."""
    p = float(np.mean(values))
    smooth = (values.sum() + 1.0) / (values.size + 2.0)
    return 100.0 * p, 100.0 * float(np.sqrt(smooth * (1.0 - smooth) / values.size))
