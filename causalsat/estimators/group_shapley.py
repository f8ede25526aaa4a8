"""``group_shapley``: split a change between two studies among groups of what differs between them."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError, flag, nearest, number, one_of
from causalsat.progress import Progress
from causalsat.public import public

MISSING = ("error", "bounds", "min_norm")


def group_shapley(
    value: Callable[..., Any] | Mapping[Any, Any],
    groups: Sequence[str],
    *,
    missing: str = "error",
    low: float | Mapping[Any, float] | None = None,
    high: float | Mapping[Any, float] | None = None,
    structure: str | Sequence[str] = (),
    shares: bool = True,
    level: float = 0.95,
    interval: str = "basic",
    seed: int = 0,
    progress: Progress = None,
    cache: MutableMapping[Any, Any] | None = None,
) -> EffectTable:
    """Split the change of an outcome between A and B among m groups of parameters or components.

    With v(S) the outcome when the groups in S stand at their value in B and the others at A, and g(S) = v(S) - v(none),
    the contribution of group j is its average step over all orders in which the groups could be exchanged::

        phi_j = sum over S without j of |S|! (m-|S|-1)! / m! [g(S + j) - g(S)],      sum phi = g(all) = v_B - v_A

    the only rule that is linear, efficient and symmetric and gives nothing to a group that never matters (Shapley 1953;
    Kwon, Lee & Pouliot 2024 for groups of parameters). It is an accounting of a change, not mediation: nothing is said
    about what happens inside a group, and merging or splitting groups changes the answer of the others (this is not the
    nested rule of Owen). A contribution is causal only as far as each v(S) is.

    Parameters
    ----------
    value : callable or mapping
        A callable gets a frozenset of group names and is called once per coalition, smallest ones first; if it has a
        parameter ``seed`` it gets ``seed`` as well. A mapping has one entry per coalition; keys are sets, tuples or
        lists of names, or texts: ``""`` for none, ``"mix"``, ``"mix+outcome"``. A result is a number, a pair
        ``(number, draws (b,))``, an :class:`EffectTable` of one row, or None (NaN) when it cannot be computed. Draw r
        must come from the same resample in every coalition (same seed and number of draws). Draws of DRIVE must be the
        recentred ones shifted to its estimate.
    groups : sequence of str
        1 to 16 names.
    missing : str
        "error"; "bounds": the smallest and largest contributions that the known values allow; "min_norm": the weighted
        least squares whose solution is Shapley's rule, over the known coalitions only, and of its solutions the one of
        least norm (needs v(none) and v(all); ``meta["unique"]`` says whether the fit alone settles it).
    low, high : float or mapping, optional
        Limits of unknown values v(S), on the scale of ``value``: one number, or one per coalition.
    structure : str or sequence of str
        Inequalities believed for all coalitions: "monotone" v(S) <= v(S+j); "supermodular"
        v(S+i+j) + v(S) >= v(S+i) + v(S+j); "submodular" the reverse. With ``missing="bounds"`` only.
    shares : bool
        Add rows ``term="share"``, phi_j / g(all); NaN when the interval of g(all) contains 0.
    level : float
        Level of the intervals.
    interval : str
        "basic", "percentile" or "normal". Ends of bounds take the outer quantiles of their draws.
    seed : int
        Passed to a callable that has a parameter ``seed``, and recorded.
    progress : bool or callable, optional
        As everywhere: None shows a bar on a terminal.
    cache : mutable mapping, optional
        Filled with every result as soon as it is computed (key: frozenset of names); coalitions found in it are not
        computed again. Pass the same dict to resume after an interruption or to go from "error" to "bounds".

    Returns
    -------
    EffectTable
        Index ``group``; ``term`` contribution, share, or contribution_lower and contribution_upper (then the row
        contribution has no estimate but an interval that covers the whole identified set: outer quantiles of the draws
        of its ends, or, where values came without draws and are taken as exact, the set itself); the last rows belong
        to ``"(total)"``. Take ``table.where(term="contribution").joint()`` for simultaneous bands.

    Raises
    ------
    OptionError
        Unknown names, more than 16 groups, options that do not apply.
    DataError
        Missing or infinite values, draws of different lengths, values that contradict the structure.

    Examples
    --------
    >>> from causalsat.estimators.group_shapley import group_shapley
    >>> effect = {"": 1.0, "mix": 1.5, "dose": 2.0, "mix+dose": 3.0}  # period A, one part of B at a time, period B
    >>> table = group_shapley(effect, ["mix", "dose"])
    >>> table.row(group="mix", term="contribution")["estimate"], table.row(group="dose", term="share")["estimate"]
    (0.75, 0.625)
    >>> known = {"": 1.0, "mix": 1.5, "mix+dose": 3.0}
    >>> bounds = group_shapley(known, ["mix", "dose"], missing="bounds", low=1.0, high=3.0)
    >>> bounds.row(group="dose", term="contribution_lower")["estimate"]
    0.75
    """
    from causalsat.estimators.shapley_table import Request, decomposition
    from causalsat.estimators.shapley_values import group_names, read_values, refuse_missing

    names = group_names(groups)
    request = Request(
        missing=one_of("missing", missing, MISSING),
        low=low,
        high=high,
        structure=(structure,) if isinstance(structure, str) else tuple(structure),
        shares=flag("shares", shares),
        level=number("level", level, 0.0, 1.0),
        interval=one_of("interval", interval, ("basic", "percentile", "normal")),
        seed=seed,
        progress=progress,
    )
    request.refuse_unused()
    values = read_values(value, names, cache=cache, seed=seed, progress=progress)
    if request.missing == "error":
        refuse_missing(values)
    return decomposition(values, request)


@public
@dataclass(frozen=True)
class SwapValue:
    """The value of every coalition: ``evaluate`` with the components of B in the coalition and those of A outside.

    Attributes
    ----------
    a, b : mapping
        Group name → component, the same names in both.
    evaluate : callable
        ``evaluate(**components)``.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    evaluate: Callable[..., Any]

    @property
    def groups(self) -> list[str]:
        """Names of the groups, in the order of A."""
        return list(self.a)

    def __call__(self, coalition: frozenset[str], seed: int | None = None) -> Any:
        from causalsat.estimators.shapley_values import takes

        parts = {name: self.b[name] if name in coalition else self.a[name] for name in self.a}
        if seed is not None and "seed" not in self.a and takes(self.evaluate, "seed"):
            parts["seed"] = seed
        return self.evaluate(**parts)


def swap_value(a: Mapping[str, Any], b: Mapping[str, Any], evaluate: Callable[..., Any]) -> SwapValue:
    """The ``value`` of :func:`group_shapley` for two studies, periods, regions or sensors given as components.

    Parameters
    ----------
    a, b : mapping of str to anything
        Group name → component (covariates, treatment rule, outcome model, calibration, ...), the same names in both.
    evaluate : callable
        ``evaluate(**components)`` → number, ``(number, draws)``, one-row table, or None where the combination cannot be
        computed. A parameter ``seed`` receives the seed of :func:`group_shapley`.

    Returns
    -------
    SwapValue
        A callable on a frozenset, with ``.groups``.

    Raises
    ------
    OptionError
        Names that differ between a and b, or that ``evaluate`` does not accept.

    Examples
    --------
    >>> from causalsat.estimators.group_shapley import group_shapley, swap_value
    >>> value = swap_value({"share": 0.2, "gain": 5.0}, {"share": 0.4, "gain": 6.0}, lambda share, gain: share * gain)
    >>> group_shapley(value, value.groups, shares=False)["estimate"].round(3)
    array([1.1, 0.3, 1.4])
    """
    import inspect

    for name, part in (("a", a), ("b", b)):
        if not isinstance(part, Mapping) or not part or not all(isinstance(key, str) for key in part):
            raise OptionError(f"{name} is {part!r:.80}; pass a mapping from group names to components.")
    if set(a) != set(b):
        odd = sorted(set(a) ^ set(b))
        raise OptionError(
            f"a and b must have the same groups; only one of them has {odd}.{nearest(odd[0], {*a, *b} - {odd[0]})}"
        )
    if not callable(evaluate):
        raise OptionError(f"evaluate is a {type(evaluate).__name__}; pass a callable that takes {list(a)} by name.")
    try:
        signature = inspect.signature(evaluate)
        signature.bind(**({"seed": 0} if "seed" in signature.parameters else {}), **{k: a[k] for k in a if k != "seed"})
    except TypeError as error:
        raise OptionError(f"evaluate does not take the groups {list(a)} by name: {error}.") from error
    return SwapValue(a, b, evaluate)
