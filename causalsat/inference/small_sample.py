"""Small-sample factors and the reference laws that go with them."""

import math
from dataclasses import dataclass

from causalsat.errors import DataError, OptionError
from causalsat.inference.options import Sandwich

CLUSTERED = ("cluster", "twoway", "crv3")


@dataclass(frozen=True)
class Correction:
    """Factor on the covariance and degrees of freedom of the t law (infinite: the normal law)."""

    factor: float
    df: float


def correction(sandwich: Sandwich, auto: str, n: int, n_parameters: int, n_clusters: int | None) -> Correction:
    """Factor and reference law of a covariance.

    Parameters
    ----------
    sandwich : Sandwich
        Kind and ``small_sample``.
    auto : str
        What ``small_sample="auto"`` means here: "none" for influence functions, "crv1" for regressions.
    n, n_parameters : int
        Rows N and counted parameters k.
    n_clusters : int, optional
        Number of clusters G; the smaller one of two ways.

    Returns
    -------
    Correction
        "none" 1 and normal; "cluster" G/(G-1) and t(G-1); "crv1" (N-1)/(N-k) G/(G-1) and t(G-1); hc1, hc3 and
        classical use t(N-k). crv3 has (G-1)/G, or with ``small_sample="pyfixest"`` the crv1 factor; always t(G-1).

    Raises
    ------
    OptionError
        A cluster factor for a covariance without clusters, or one that crv3 does not have.
    DataError
        No degree of freedom left.
    """
    kind, rule = sandwich.kind, sandwich.small_sample
    if kind not in CLUSTERED:
        if rule not in ("auto", "none"):
            raise OptionError(
                f'small_sample="{rule}" corrects for the number of clusters and kind="{kind}" has none; use '
                'small_sample="auto", or one of the kinds "cluster", "twoway", "crv3".'
            )
        return _without_clusters(kind, n, n_parameters)
    rule = auto if rule == "auto" and kind != "crv3" else rule
    g = float(n_clusters or 0)
    if kind == "crv3" and rule in ("auto", "none"):
        return Correction((g - 1.0) / g, g - 1.0)
    if kind == "crv3" and rule != "pyfixest":
        raise OptionError(
            f'small_sample="{rule}" is not defined for kind="crv3", whose factor is (G-1)/G; allowed: "auto", "none", '
            '"pyfixest" (its convention, (N-1)/(N-k) G/(G-1)).'
        )
    if rule == "none":
        return Correction(1.0, math.inf)
    if rule == "cluster":
        return Correction(g / (g - 1.0), g - 1.0)
    _positive(n - n_parameters, n, n_parameters)
    return Correction((n - 1.0) / (n - n_parameters) * g / (g - 1.0), g - 1.0)


def _without_clusters(kind: str, n: int, n_parameters: int) -> Correction:
    if kind in ("hc0", "conley"):
        return Correction(1.0, math.inf)
    _positive(n - n_parameters, n, n_parameters)
    factor = n / (n - n_parameters) if kind == "hc1" else 1.0
    return Correction(factor, float(n - n_parameters))


def _positive(df: int, n: int, n_parameters: int) -> None:
    if df < 1:
        raise DataError(
            f"{n} rows leave no degree of freedom beside {n_parameters} estimated parameters (absorbed effects "
            'included); use fewer covariates or effects, or kind="hc0" or small_sample="none".'
        )
