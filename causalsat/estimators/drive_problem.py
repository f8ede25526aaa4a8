"""What DRIVE sees of the data: a root of the moments, on the scale on which the radius is measured."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from causalsat.errors import OptionError
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_weight import weight_variance
from causalsat.inference.options import Sandwich


@dataclass(frozen=True, eq=False)
class DriveProblem:
    """Minimise ||w - B b|| + sqrt(rho) * penalty(b) over b (p,).

    Attributes
    ----------
    rows : IvRows
        The study with outcome and treatments divided by ``sd_y`` and ``sd_x``.
    root : np.ndarray
        (q, q) float64 R with R'R the metric of the moments: L^{-1} for "tsls", W^{1/2} for "gmm".
    B : np.ndarray
        (q, p) float64 R Z'X/n.
    w : np.ndarray
        (q,) float64 R Z'y/n.
    shrink_to : str
        "zero" (penalty sqrt(1 + ||b||^2)) or "ols" (penalty ||M_Z(y - X b)||/sqrt(n)).
    metric : str
        "tsls" or "gmm".
    sd_y : float
        Scale of the outcome.
    sd_x : np.ndarray
        (p,) scales of the treatments.
    flags : tuple of str
        What a reader must know about the metric.
    """

    rows: IvRows
    root: np.ndarray
    B: np.ndarray
    w: np.ndarray
    shrink_to: str
    metric: str
    sd_y: float
    sd_x: np.ndarray
    flags: tuple[str, ...] = ()

    @property
    def just_identified(self) -> bool:
        """Whether there are as many instruments as treatments, so that J0 is exactly zero."""
        return self.rows.q == self.rows.p

    @cached_property
    def A(self) -> np.ndarray:
        """(p, p) B'B; with one treatment on unit scale, the partial R^2 of the first stage."""
        return np.asarray(self.B.T @ self.B)

    @cached_property
    def b_tsls(self) -> np.ndarray:
        """(p,) minimiser at rho = 0: TSLS, or two-step GMM for metric="gmm"."""
        return np.asarray(np.linalg.lstsq(self.B, self.w, rcond=None)[0])

    @cached_property
    def j0(self) -> float:
        """||w - B b_tsls||^2, exactly zero when just identified."""
        if self.just_identified:
            return 0.0
        left = self.w - self.B @ self.b_tsls
        return float(left @ left)

    @cached_property
    def V(self) -> np.ndarray:
        """(p, p) X'M_Z X/n."""
        return self.rows.moments.XMX

    def gradient(self, b: np.ndarray) -> np.ndarray:
        """(p,) gradient c(b) of the penalty."""
        if self.shrink_to == "zero":
            return np.asarray(b / np.sqrt(1.0 + b @ b))
        moments = self.rows.moments
        slope = moments.XMy - moments.XMX @ b
        size = moments.yMy - 2.0 * moments.XMy @ b + b @ moments.XMX @ b
        return np.asarray(-slope / np.sqrt(size))

    def to_raw(self, b: np.ndarray) -> np.ndarray:
        """Coefficients (..., p) in units of the outcome per unit of each treatment."""
        return np.asarray(b * (self.sd_y / self.sd_x))

    def to_solver(self, b: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_raw`."""
        return np.asarray(b * (self.sd_x / self.sd_y))


def drive_problem(
    rows: IvRows,
    *,
    scale: str = "unit",
    shrink_to: str = "zero",
    metric: str = "tsls",
    sandwich: Sandwich | None = None,
) -> DriveProblem:
    """The problem on unit or raw scale.

    Parameters
    ----------
    rows : IvRows
        The study in raw units.
    scale : str
        "unit" divides outcome and treatments by their weighted standard deviations (denominator n); "raw" does not.
    shrink_to, metric : str
        See :class:`DriveProblem`.
    sandwich : Sandwich, optional
        Covariance that gives metric="gmm" the variance V of sqrt(n) Z'(y - X b_tsls)/n, without small-sample factor:
        W = sigma^2 V^{-1} with sigma^2 the mean squared TSLS residual. n j0/sigma^2 is then Hansen's J; of
        "classical" it is Sargan's statistic, which takes unequal weights for precisions.

    Raises
    ------
    OptionError
        metric="gmm" without ``sandwich``.
    DataError, NumericalError
        A variance of the moments without an inverse, as with no more clusters than instruments.
    """
    sd_y, sd_x = 1.0, np.ones(rows.p)
    if scale == "unit":
        sd_y = float(np.sqrt(np.mean(rows.weights * rows.y**2)))
        sd_x = np.sqrt(np.mean(rows.weights[:, None] * rows.X**2, axis=0))
    scaled = rows.scaled(sd_y, sd_x)
    moments = scaled.moments
    if metric == "tsls":
        return DriveProblem(scaled, np.linalg.inv(moments.L), moments.B, moments.w, shrink_to, metric, sd_y, sd_x)
    if sandwich is None:
        raise OptionError('metric="gmm" needs sandwich=, the covariance that gives the variance of the moments.')
    variance, flags = weight_variance(scaled, moments.b_tsls, sandwich)
    spread = float(np.mean(scaled.weights * scaled.residuals(moments.b_tsls) ** 2))
    root = np.sqrt(spread) * np.linalg.inv(np.linalg.cholesky(variance))
    turn = root @ moments.L
    return DriveProblem(scaled, root, turn @ moments.B, turn @ moments.w, shrink_to, metric, sd_y, sd_x, flags)
