"""Out-of-fold outcome regressions g0, g1 and propensity m of a binary treatment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, count, number, one_of
from causalsat.estimators.nuisance_layout import Columns, Split, assemble, has_inner, lay_out, split_rows
from causalsat.estimators.nuisance_notes import NUISANCES, nuisance_notes, penalty_edges

OUTCOME_LEARNERS = ("ridge", "logistic")
TREATMENT_LEARNERS = ("ridge", "linear")


@dataclass(frozen=True)
class NuisanceOptions:
    """How the nuisances are learned.

    Attributes
    ----------
    outcome : str or scikit-learn regressor
        ``"ridge"``; ``"logistic"`` (logistic ridge, outcome 0/1); or any regressor with ``fit`` and ``predict``.
    treatment : str or scikit-learn classifier
        ``"ridge"``: logistic ridge; ``"linear"``: linear ridge, not calibrated; or any classifier.
    clip : float
        The propensity is held inside [clip, 1 - clip]; shares are reported.
    calibrate : {"platt", "isotonic", None}
        Calibration of the propensity on inner out-of-fold predictions of the training part.
    penalty_search : {"screened", "full"}
        Logistic penalties compared by inner log loss: 5 around the choice of the linear ridge, or all.
    n_penalties : int
        Length of the penalty grid, 1e-4 to 1e4 times the mean diagonal of the training Gram.
    tabular_penalised : bool, optional
        Whether tabular columns carry the penalty too. None: only when there are more than n/50 of them.
    """

    outcome: Any = "ridge"
    treatment: Any = "ridge"
    clip: float = 0.01
    calibrate: str | None = "platt"
    penalty_search: str = "screened"
    n_penalties: int = 30
    tabular_penalised: bool | None = None

    def __post_init__(self) -> None:
        _learner("outcome", self.outcome, OUTCOME_LEARNERS, ("fit", "predict"))
        _learner("treatment", self.treatment, TREATMENT_LEARNERS, ("fit", "predict_proba"))
        number("clip", self.clip, 0.0, 0.5, open_ends=False)
        one_of("penalty_search", self.penalty_search, ("screened", "full"))
        if self.calibrate is not None:
            one_of("calibrate", self.calibrate, ("platt", "isotonic"))
        object.__setattr__(self, "n_penalties", count("n_penalties", self.n_penalties, minimum=1))


def _learner(argument: str, value: Any, names: Sequence[str], methods: tuple[str, ...]) -> None:
    if isinstance(value, str):
        one_of(argument, value, names)
    elif not all(callable(getattr(value, method, None)) for method in methods):
        listed = ", ".join(f'"{name}"' for name in names)
        raise OptionError(
            f"{argument}={value!r} is not a learner; allowed: {listed}, or an object with {' and '.join(methods)}."
        )


@dataclass(frozen=True)
class Nuisances:
    """Nuisances of one treatment and one adjustment set.

    Attributes
    ----------
    g0, g1 : ndarray (n,) float64
        E[Y | D = 0, x] and E[Y | D = 1, x], predicted by the model that did not see the row; NaN if not asked for.
    m, m_raw : ndarray (n,) float64
        P(D = 1 | x) after and before clipping.
    m_insample : ndarray (n,) float64
        Propensity of the model fitted on all rows, not calibrated: a measure of overfitting only.
    fold : ndarray (n,) int64
        Test fold of each row; -1 in sample.
    penalties : dict
        Nuisance -> (K,) penalties chosen.
    edge : list of str
        Choices at either end of the penalty grid, in words.
    clipped : dict
        Share of rows whose propensity was clipped, per arm (``"control"``, ``"treated"``).
    notes : list of str
        What a reader should know about these fits.
    status : int
        0 ok, 2 no treatment variation, 3 empty arm, 4 not converged, 5 not finite.
    """

    g0: np.ndarray
    g1: np.ndarray
    m: np.ndarray
    m_raw: np.ndarray
    m_insample: np.ndarray
    fold: np.ndarray
    penalties: dict[str, np.ndarray] = field(default_factory=dict)
    edge: list[str] = field(default_factory=list)
    clipped: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    status: int = 0


@cache
def _compiled() -> Any:
    import jax

    from causalsat.kernels.cross_fit import cross_fit

    return jax.jit(cross_fit, static_argnames="plan")


def _plan(columns: Columns, options: NuisanceOptions, split: Split, need: Sequence[str]) -> Any:
    from causalsat.kernels.cross_fit_ridge import Plan

    inner = has_inner(columns, split)
    outcome, treatment = isinstance(options.outcome, str), isinstance(options.treatment, str)
    return Plan(
        n_free=columns.n_free,
        fills=columns.fills,
        n_penalties=options.n_penalties,
        searched=columns.searched,
        full=options.penalty_search == "full",
        platt=options.calibrate == "platt" and inner,
        logistic_outcome=options.outcome == "logistic" if outcome else False,
        linear_treatment=options.treatment == "linear" if treatment else False,
        control="g0" in need and outcome,
        treated="g1" in need and outcome,
        propensity="m" in need and treatment,
    )


def _checked(
    outcome: np.ndarray, treatment: np.ndarray, weights: np.ndarray | None, options: NuisanceOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, d = np.asarray(outcome, dtype=np.float64), np.asarray(treatment, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.ndim != 1 or d.shape != y.shape or w.shape != y.shape:
        raise DataError(f"outcome, treatment and weights must be (n,); received {y.shape}, {d.shape} and {w.shape}.")
    if not np.isin(d, (0.0, 1.0)).all():
        raise DataError(f"treatment must be 0 or 1 in every row; received {np.unique(d)[:6].tolist()}.")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0 and np.isfinite(y).all()):
        raise DataError("outcome must be finite, and weights finite, non-negative and with a positive sum.")
    if isinstance(options.outcome, str) and options.outcome == "logistic" and not np.isin(y, (0.0, 1.0)).all():
        raise DataError('outcome="logistic" needs an outcome of 0 and 1; use "ridge" for other outcomes.')
    return y, d, w / w.mean()


def cross_fit_nuisances(
    tabular: np.ndarray | None,
    image: np.ndarray | None,
    outcome: np.ndarray,
    treatment: np.ndarray,
    fold: np.ndarray | None,
    *,
    weights: np.ndarray | None = None,
    options: NuisanceOptions | None = None,
    train: np.ndarray | None = None,
    seed: int = 0,
    known_propensity: np.ndarray | float | None = None,
    need: Sequence[str] = NUISANCES,
) -> Nuisances:
    """Learn g0, g1 and m out of fold.

    Every step (imputation, scaling, penalty, calibration) happens inside the training part of each fold. Inner folds
    are the other folds, so groups stay whole; penalties are in units of the mean diagonal of their training Gram.

    Parameters
    ----------
    tabular : (n, p), optional
        Covariates; NaN is imputed by the training mean, with an indicator.
    image : (n, d), optional
        Embedding of each row's image.
    outcome, treatment : (n,)
        Y, and D in {0, 1}.
    fold : (n,) int, optional
        Test folds 0..K-1; None or -1 everywhere: in-sample nuisances, penalty by generalised cross-validation.
    weights : (n,), optional
        Row weights; only their ratios matter.
    train : (K, n) bool, optional
        Training rows of each fold (buffers); default: all other folds.
    seed : int
        Handed to scikit-learn learners that take a random state.
    known_propensity : (n,) or float, optional
        Assignment probabilities by design: used as they are, never clipped inside (0, 1).
    need : sequence of {"g0", "g1", "m"}

    Raises
    ------
    DataError
        For arrays that do not fit together, fold labels with gaps, or a training row in its own test fold.
    """
    options = NuisanceOptions() if options is None else options
    y, d, w = _checked(outcome, treatment, weights, options)
    split = split_rows(fold, len(y), train)
    columns = assemble(tabular, image, len(y), options.tabular_penalised)
    asked = [one_of("need", name, NUISANCES) for name in need]
    if known_propensity is not None:
        asked = [name for name in asked if name != "m"]
    plan = _plan(columns, options, split, asked)._replace(in_sample="m" in asked and not split.in_sample)
    found = _run(columns, y, d, w, split, plan)
    found = _learn_outcomes(found, options.outcome, asked, columns, y, d, w, split, seed)
    found = _learn_treatment(found, options, asked, columns, d, w, split, seed)
    edge = penalty_edges(found, plan, options.n_penalties)
    notes = nuisance_notes(found, columns, split, options, asked)
    return _finished(found, d, split, options, known_propensity, edge=edge, notes=notes)


def _run(columns: Columns, y: np.ndarray, d: np.ndarray, w: np.ndarray, split: Split, plan: Any) -> Any:
    """The kernel's CrossFit as NumPy arrays; nothing is compiled when no built-in learner is asked for."""
    from causalsat.kernels.cross_fit import CrossFit
    from causalsat.kernels.precision import float64

    if not (plan.control or plan.treated or plan.propensity):
        n, k = len(y), split.n_folds
        blank, unset = np.full(n, np.nan), np.full((3, k), np.nan)
        line = np.tile([[0.0, 1.0]], (k, 1))
        arrays: tuple[Any, ...] = (
            blank,
            blank,
            blank,
            np.full((3, k), -1),
            unset,
            line,
            np.zeros((n, k)),
            blank,
            np.int32(0),
        )
        return CrossFit(*arrays)
    rows, sets = lay_out(columns, y, d, split)
    with float64():
        found = _compiled()(rows, sets, w, plan=plan)
        return type(found)(*(np.asarray(a) for a in found))


def _learn_outcomes(found: Any, learner: Any, asked: Sequence[str], *data: Any) -> Any:
    """Replace g0 and g1 by the predictions of a scikit-learn learner, where there is one."""
    if isinstance(learner, str):
        return found
    from causalsat.estimators.nuisance_learners import learned_outcome

    columns, y, d, w, split, seed = data
    new = {
        name: learned_outcome(learner, columns, y, d == arm, w, split, seed)
        for arm, name in enumerate(("g0", "g1"))
        if name in asked
    }
    return found._replace(**new)


def _learn_treatment(found: Any, options: NuisanceOptions, asked: Sequence[str], *data: Any) -> Any:
    """Replace m by the predictions of a scikit-learn classifier, and calibrate what the kernel did not."""
    if "m" not in asked:
        return found
    from causalsat.estimators.nuisance_learners import isotonic_calibrated, learned_propensity, platt_calibrated

    columns, d, w, split, seed = data
    own = not isinstance(options.treatment, str)
    inner = has_inner(columns, split) and options.calibrate is not None
    if own:
        m, logits, whole = learned_propensity(options.treatment, columns, d, w, split, seed, inner=inner)
        found = found._replace(m=m, inner=logits, m_insample=whole)
    if options.calibrate == "isotonic" and inner and options.treatment != "linear":
        found = found._replace(m=isotonic_calibrated(found.m, found.inner, d, w, split))
    if options.calibrate == "platt" and inner and own:
        m, line = platt_calibrated(found.m, found.inner, d, w, split)
        found = found._replace(m=m, calibration=line)
    return found


def _finished(found: Any, d: np.ndarray, split: Split, options: NuisanceOptions, known: Any, **told: Any) -> Nuisances:
    n = len(d)
    raw = found.m if known is None else np.broadcast_to(np.asarray(known, dtype=np.float64), (n,)).copy()
    inside = known is not None and bool(((raw > 0) & (raw < 1)).all())
    m = raw if inside else np.clip(raw, options.clip, 1.0 - options.clip)
    changed = (m != raw) & np.isfinite(raw)
    whole = raw if split.in_sample or known is not None else found.m_insample
    return Nuisances(
        g0=found.g0,
        g1=found.g1,
        m=m,
        m_raw=raw,
        m_insample=whole,
        fold=np.full(n, -1, dtype=np.int64) if split.in_sample else split.fold,
        penalties={name: found.penalty[i] for i, name in enumerate(NUISANCES) if found.choice[i, 0] >= 0},
        clipped={name: float(changed[d == arm].mean()) for arm, name in enumerate(("control", "treated"))},
        status=int(found.status),
        **told,
    )


@dataclass(frozen=True, eq=False)
class NuisanceKernel:
    """A cross-fit as a pure function of the row weights, for one design.

    Attributes
    ----------
    design : tuple
        Arrays; a tree that JAX can carry through ``jit`` as an argument.
    plan : tuple
        Static choices.
    clip : float
        Bound of the propensity.
    """

    design: Any
    plan: Any
    clip: float

    def apply(self, design: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
        """``g0, g1, m`` (n,) and ``status`` () from JAX arrays, inside ``jit``, ``vmap`` or ``lax.map``."""
        import jax.numpy as jnp

        from causalsat.kernels.cross_fit import cross_fit

        rows, sets = design
        found = cross_fit(rows, sets, weights, self.plan)
        return found.g0, found.g1, jnp.clip(found.m, self.clip, 1.0 - self.clip), found.status

    def __call__(self, weights: Any) -> tuple[Any, Any, Any, Any]:
        """``apply`` with the design as constants."""
        import jax
        import jax.numpy as jnp

        return self.apply(jax.tree.map(jnp.asarray, self.design), weights)


def nuisance_kernel(
    tabular: np.ndarray | None,
    image: np.ndarray | None,
    outcome: np.ndarray,
    treatment: np.ndarray,
    fold: np.ndarray | None,
    *,
    options: NuisanceOptions | None = None,
    train: np.ndarray | None = None,
    need: Sequence[str] = NUISANCES,
) -> NuisanceKernel:
    """The computation of `cross_fit_nuisances` as one pure function of row weights, for a bootstrap that refits.

    Folds, training sets and columns are fixed; copies of a row are a weight, so they stay in one fold. Call it inside
    ``float64()``. Entries of the result that ``need`` leaves out are NaN.

    Raises
    ------
    OptionError
        For learners that are not compiled (scikit-learn, isotonic calibration).
    """
    options = NuisanceOptions() if options is None else options
    if not (isinstance(options.outcome, str) and isinstance(options.treatment, str)) or options.calibrate == "isotonic":
        raise OptionError(
            "A refit bootstrap refits inside one compiled function: outcome and treatment must be built-in learners "
            f'and calibrate "platt" or None; received outcome={options.outcome!r}, treatment={options.treatment!r}, '
            f"calibrate={options.calibrate!r}. Use Bootstrap(refit=False) with these learners."
        )
    y, d, _ = _checked(outcome, treatment, None, options)
    split = split_rows(fold, len(y), train)
    columns = assemble(tabular, image, len(y), options.tabular_penalised)
    plan = _plan(columns, options, split, [one_of("need", name, NUISANCES) for name in need])
    return NuisanceKernel(lay_out(columns, y, d, split), plan, options.clip)
