"""How uncertainty is computed: frozen options, validated when they are made."""

from dataclasses import dataclass

from causalsat.errors import OptionError, count, number, one_of
from causalsat.public import public

SCHEMES = ("iid", "cluster", "block", "bayes", "multiplier", "wild", "dependent")
LAWS = ("rademacher", "mammen", "normal", "webb", "exponential")
SANDWICHES = ("classical", "hc0", "hc1", "hc3", "cluster", "crv3", "twoway", "conley")
CONLEY_KERNELS = ("bartlett", "uniform", "epanechnikov", "askey")
SMALL_SAMPLE = ("auto", "none", "cluster", "crv1", "pyfixest")


@public
@dataclass(frozen=True)
class Bootstrap:
    """A resampling scheme (specification: inference, section 7).

    Attributes
    ----------
    n : int
        Number of draws.
    scheme : str
        "iid", "cluster", "block", "bayes", "multiplier", "wild" or "dependent".
    block_km : float, optional
        Side of the tiles of the block scheme, or the cutoff of the dependent one, in kilometres.
    refit : bool
        Estimate everything again in each draw (True), or hold nuisances fixed (False; orthogonal scores only).
    law : str, optional
        Law of the multipliers; None takes the scheme's default (webb under 12 clusters, rademacher for wild,
        normal for multiplier).
    strata : str, optional
        Column within whose levels rows or clusters are resampled.
    fold_policy : str
        "fixed" keeps the folds over draws; "redraw" deals them again by group.
    """

    n: int = 999
    scheme: str = "iid"
    block_km: float | None = None
    refit: bool = True
    law: str | None = None
    strata: str | None = None
    fold_policy: str = "fixed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", count("Bootstrap.n", self.n, minimum=1))
        one_of("Bootstrap.scheme", self.scheme, SCHEMES)
        one_of("Bootstrap.fold_policy", self.fold_policy, ("fixed", "redraw"))
        if self.law is not None:
            one_of("Bootstrap.law", self.law, LAWS)
        if self.scheme in ("block", "dependent") and self.block_km is None:
            raise OptionError(f'Bootstrap(scheme="{self.scheme}") needs block_km, the distance in kilometres.')
        if self.block_km is not None:
            number("Bootstrap.block_km", self.block_km, 0.0, 20_000.0)


@public
@dataclass(frozen=True)
class Sandwich:
    """A covariance of scores (specification: inference, section 6).

    Attributes
    ----------
    kind : str
        "classical", "hc0", "hc1", "hc3", "cluster", "crv3", "twoway" or "conley".
    cutoff_km : float, optional
        Conley cutoff in kilometres; None takes the range of the residual covariogram.
    kernel : str
        "bartlett", "uniform", "epanechnikov" or "askey".
    small_sample : str
        "auto", "none", "cluster", "crv1" or "pyfixest".
    lag : int
        Serial lag in periods (panels with a Conley covariance).
    """

    kind: str = "cluster"
    cutoff_km: float | None = None
    kernel: str = "bartlett"
    small_sample: str = "auto"
    lag: int = 0

    def __post_init__(self) -> None:
        one_of("Sandwich.kind", self.kind, SANDWICHES)
        one_of("Sandwich.kernel", self.kernel, CONLEY_KERNELS)
        one_of("Sandwich.small_sample", self.small_sample, SMALL_SAMPLE)
        object.__setattr__(self, "lag", count("Sandwich.lag", self.lag))
        if self.cutoff_km is not None:
            number("Sandwich.cutoff_km", self.cutoff_km, 0.0, 20_100.0)
