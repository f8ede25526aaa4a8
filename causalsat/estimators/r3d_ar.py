"""Sets of effects per unit of treatment that hold however small the first stage is (Anderson and Rubin 1949)."""

from dataclasses import dataclass

from causalsat.inference.iv_quadratic import Pieces


@dataclass(frozen=True)
class RobustSets:
    """Anderson-Rubin sets of the effects on M quantiles.

    Attributes
    ----------
    pointwise, uniform : tuple of Pieces
        M sets as sorted disjoint closed pieces: ((low, high),) an interval, ((-inf, a), (b, inf)) two rays,
        ((-inf, inf),) the line; never truncated. Empty tuples where there is no standard error.
    pointwise_shape, uniform_shape : tuple of str
        "interval", "rays", "ray", "line", or "" where there is no set.
    critical : float
        Critical value of the uniform sets.
    level : float
        Confidence level.
    """

    pointwise: tuple[Pieces, ...]
    uniform: tuple[Pieces, ...]
    pointwise_shape: tuple[str, ...]
    uniform_shape: tuple[str, ...]
    critical: float
    level: float
