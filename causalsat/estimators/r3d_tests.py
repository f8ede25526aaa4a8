"""Tests of a whole curve of effects: none anywhere, the same everywhere, nowhere negative."""

from dataclasses import dataclass


@dataclass(frozen=True)
class R3dTest:
    """One test on a range of quantiles.

    Attributes
    ----------
    name : str
        "nullity", "homogeneity" or "dominance".
    statistic, critical_value, p_value : float
        Sup statistic, order statistic of the draws' sups at the level, (1 + #{T_b >= T}) / (B + 1); NaN with a reason.
    n_levels : int
        Quantiles in the sup.
    test_range : (float, float)
        Smallest and largest quantile in the sup.
    unavailable : str
        Why there is no answer, or "".
    """

    name: str
    statistic: float
    critical_value: float
    p_value: float
    n_levels: int
    test_range: tuple[float, float]
    unavailable: str = ""
