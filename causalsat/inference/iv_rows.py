"""The rows of a linear instrumental-variable study, net of everything that was partialled out, and their moments."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling

_EQUAL = 1e-12
PRECISIONS = (
    "its law takes the unequal weights for precisions (inverse variances of the errors), which sampling weights are not"
)


@dataclass(frozen=True, eq=False)
class IvRows:
    """Outcome, treatments and instruments of n rows after covariates, absorbed effects and images are partialled out.

    Attributes
    ----------
    y : np.ndarray
        (n,) float64 outcome.
    X : np.ndarray
        (n, p) float64 treatments.
    Z : np.ndarray
        (n, q) float64 excluded instruments, linearly independent.
    weights : np.ndarray
        (n,) float64 positive, mean one; every sum over rows is weighted.
    controls : np.ndarray
        (n, m_c) float64 columns (constant included) that a bootstrap partials out again in each draw; no columns
        when what was partialled out is held fixed.
    n_partialled : int
        m: parameters partialled out, the constant and absorbed effects included.
    n_partialled_clustered : int
        The same without absorbed effects that are nested in the cluster; counted in cluster factors.
    sampling : Sampling
        What the rows are.
    outcome : str
        Name of the outcome.
    treatments, instruments : tuple of str
        Names of the columns of X and Z.
    dof : str
        "small" (degrees of freedom corrected) or "none" (n in their place).
    """

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    weights: np.ndarray
    controls: np.ndarray
    n_partialled: int
    n_partialled_clustered: int
    sampling: Sampling
    outcome: str = "y"
    treatments: tuple[str, ...] = ("x",)
    instruments: tuple[str, ...] = ("z",)
    dof: str = "small"

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.y.shape[0])

    @property
    def p(self) -> int:
        """Treatments."""
        return int(self.X.shape[1])

    @property
    def q(self) -> int:
        """Instruments."""
        return int(self.Z.shape[1])

    @property
    def m(self) -> int:
        """Parameters partialled out."""
        return self.n_partialled

    @property
    def d1(self) -> int:
        """n - q - m, the degrees of freedom of the first stage."""
        return self.n - self.q - self.m

    @property
    def d2(self) -> int:
        """n - p - m, the degrees of freedom of the second stage."""
        return self.n - self.p - self.m

    @cached_property
    def unequal(self) -> bool:
        """Whether weights differ: Var(sum w z e) is then sigma^2 sum w^2 z z', which no classical law uses."""
        return bool(np.ptp(self.weights) > _EQUAL)

    @cached_property
    def moments(self) -> "IvMoments":
        """Moments of the rows."""
        return iv_moments(self)

    def scaled(self, sd_y: float, sd_x: np.ndarray) -> "IvRows":
        """The same rows with the outcome and each treatment divided by a scale."""
        return replace(self, y=self.y / sd_y, X=self.X / np.asarray(sd_x)[None, :])

    def parameters(self, sandwich: Sandwich, columns: int) -> int:
        """Parameters counted by the factor of a covariance: ``columns`` (p or q) plus what was partialled out."""
        clustered = sandwich.kind in ("cluster", "twoway", "crv3")
        return columns + (self.n_partialled_clustered if clustered else self.n_partialled)

    def residuals(self, b: np.ndarray) -> np.ndarray:
        """(n,) y - X b."""
        return np.asarray(self.y - self.X @ np.asarray(b))


@dataclass(frozen=True, eq=False)
class IvMoments:
    """Weighted moments of the rows, all divided by n.

    With S = Z'Z/n = L L': ``B`` = L^{-1} Z'X/n and ``w`` = L^{-1} Z'y/n, so that X'P_Z X/n = B'B and
    ||P_Z(y - X b)||^2/n = ||w - B b||^2. The parts orthogonal to Z come from residual rows, never from a difference,
    so that a treatment in the span of the instruments has them at rounding level.

    Attributes
    ----------
    L : np.ndarray
        (q, q) float64 lower triangular root of S.
    B : np.ndarray
        (q, p) float64.
    w : np.ndarray
        (q,) float64.
    MX, My : np.ndarray
        (n, p), (n,) float64: M_Z X and M_Z y by rows (not scaled by weights).
    XMX, XMy, yMy : np.ndarray
        X'M_Z X/n (p, p), X'M_Z y/n (p,), y'M_Z y/n ().
    """

    L: np.ndarray
    B: np.ndarray
    w: np.ndarray
    MX: np.ndarray
    My: np.ndarray
    XMX: np.ndarray
    XMy: np.ndarray
    yMy: float

    @property
    def XPX(self) -> np.ndarray:
        """X'P_Z X/n (p, p)."""
        return np.asarray(self.B.T @ self.B)

    @property
    def XPy(self) -> np.ndarray:
        """X'P_Z y/n (p,)."""
        return np.asarray(self.B.T @ self.w)

    @property
    def yPy(self) -> float:
        """y'P_Z y/n."""
        return float(self.w @ self.w)

    @property
    def XX(self) -> np.ndarray:
        """X'X/n (p, p)."""
        return np.asarray(self.XPX + self.XMX)

    @property
    def Xy(self) -> np.ndarray:
        """X'y/n (p,)."""
        return np.asarray(self.XPy + self.XMy)

    @property
    def yy(self) -> float:
        """y'y/n."""
        return self.yPy + self.yMy

    @property
    def projected(self) -> np.ndarray:
        """Y'P_Z Y/n for Y = [y X], (1 + p, 1 + p)."""
        Y = np.column_stack([self.w, self.B])
        return np.asarray(Y.T @ Y)

    @property
    def orthogonal(self) -> np.ndarray:
        """Y'M_Z Y/n for Y = [y X], (1 + p, 1 + p)."""
        return np.block([[np.array([[self.yMy]]), self.XMy[None, :]], [self.XMy[:, None], self.XMX]])

    @cached_property
    def b_tsls(self) -> np.ndarray:
        """(p,) two-stage least squares."""
        return np.asarray(np.linalg.lstsq(self.B, self.w, rcond=None)[0])


def iv_moments(rows: IvRows) -> IvMoments:
    """Moments of the rows by a QR decomposition of the weighted instruments.

    Parameters
    ----------
    rows : IvRows
        Rows whose instruments are linearly independent.

    Returns
    -------
    IvMoments
    """
    root = np.sqrt(rows.weights)
    orthonormal, triangular = np.linalg.qr(rows.Z * root[:, None])
    sign = np.where(np.diag(triangular) < 0.0, -1.0, 1.0)
    orthonormal, triangular = orthonormal * sign[None, :], triangular * sign[:, None]
    scale = np.sqrt(rows.n)
    Y = np.column_stack([rows.y, rows.X]) * root[:, None]
    inside = orthonormal.T @ Y
    outside = Y - orthonormal @ inside
    outside -= orthonormal @ (orthonormal.T @ outside)
    across = outside.T @ outside / rows.n
    return IvMoments(
        L=triangular.T / scale,
        B=inside[:, 1:] / scale,
        w=inside[:, 0] / scale,
        MX=outside[:, 1:] / root[:, None],
        My=outside[:, 0] / root,
        XMX=across[1:, 1:],
        XMy=across[1:, 0],
        yMy=float(across[0, 0]),
    )
