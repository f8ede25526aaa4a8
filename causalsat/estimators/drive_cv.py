"""Cross-validation of the radius over environments left out whole."""

from dataclasses import dataclass, replace

import numpy as np

from causalsat.errors import DataError, SplitClusterWarning, warn
from causalsat.estimators.drive_fit import solve_path
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.sampling import Sampling

FEWEST, SPARE_ROWS = 3, 10
_COLLINEAR = 1e-10


@dataclass(frozen=True, eq=False)
class CvCurve:
    """Losses on environments left out.

    Attributes
    ----------
    rho : np.ndarray
        (r,) squared radii.
    loss : np.ndarray
        (e, r) mean loss on each environment.
    mean, std_error : np.ndarray
        (r,) mean weighted by rows, and standard deviation over environments / sqrt(e).
    labels : tuple
        (e,) environments left out.
    skipped : tuple
        Environments with too few rows, used for fitting only.
    minimum, one_se : int
        Positions of the smallest mean, and of the largest radius within one standard error of it.
    """

    rho: np.ndarray
    loss: np.ndarray
    mean: np.ndarray
    std_error: np.ndarray
    labels: tuple[str, ...]
    skipped: tuple[str, ...]
    minimum: int
    one_se: int


def cross_validate(
    problem: DriveProblem, rhos: np.ndarray, environments: tuple[np.ndarray, np.ndarray], criterion: str
) -> CvCurve:
    """Refit without each environment and judge the coefficients on it.

    "moment" is ||P_Z(y - X b)||^2/n_e with covariates partialled out inside the environment; "prediction" the mean
    squared error with the covariates' coefficients of the training rows, which pulls towards least squares and
    validates no causal claim. The scale of the radius, and with metric="gmm" the metric of the fits, are those of all
    rows. An environment counts when n_e >= q + m + 10, m the covariates partialled out inside it. The environments are
    taken as independent: a cluster with rows in several of them is warned about.

    Parameters
    ----------
    problem : DriveProblem
        All rows.
    rhos : np.ndarray
        (r,) squared radii, increasing.
    environments : tuple of np.ndarray
        Codes (n,) int and labels (g,).
    criterion : str
        "moment" or "prediction".

    Raises
    ------
    DataError
        Fewer than three usable environments, or instruments that are collinear without one of them.
    """
    codes, labels = np.asarray(environments[0]), np.asarray(environments[1])
    rows = problem.rows
    _warn_of_split_clusters(rows.sampling, codes)
    needed = rows.q + max(rows.controls.shape[1], 1) + SPARE_ROWS
    present, sizes = np.unique(codes, return_counts=True)
    usable = present[sizes >= needed]
    skipped = tuple(str(labels[e]) for e in present[sizes < needed])
    if usable.size < FEWEST:
        raise DataError(
            f'rho="cv" needs at least {FEWEST} environments of at least {needed} rows (instruments + covariates + '
            f"{SPARE_ROWS}); {usable.size} of {present.size} are that large. Merge small environments, or use "
            'rho="theory".'
        )
    loss = np.stack([_left_out(problem, rhos, codes == e, criterion, str(labels[e])) for e in usable])
    share = sizes[sizes >= needed] / sizes[sizes >= needed].sum()
    mean = share @ loss
    std_error = loss.std(axis=0, ddof=1) / np.sqrt(usable.size)
    minimum = int(np.argmin(mean))
    within = np.flatnonzero(mean <= mean[minimum] + std_error[minimum])
    return CvCurve(
        rho=rhos,
        loss=loss,
        mean=mean,
        std_error=std_error,
        labels=tuple(str(labels[e]) for e in usable),
        skipped=skipped,
        minimum=minimum,
        one_se=int(within[-1]),
    )


def _warn_of_split_clusters(sampling: Sampling, codes: np.ndarray) -> None:
    """A cluster on both sides of the split lets the fitted rows speak for those left out."""
    for way in (sampling.cluster, sampling.second):
        if way is None:
            continue
        pairs = np.unique(np.column_stack([way, codes]), axis=0)[:, 0]
        clusters, environments = np.unique(pairs, return_counts=True)
        split = int((environments > 1).sum())
        if split:
            warn(
                f"{split} of {clusters.size} clusters have rows in several environments, so what is left out is not "
                "independent of what is fitted and the cross-validated radius follows the errors that they share. "
                'Take environments that hold whole clusters, or rho="theory".',
                SplitClusterWarning,
            )


def _left_out(problem: DriveProblem, rhos: np.ndarray, held: np.ndarray, criterion: str, label: str) -> np.ndarray:
    """(r,) loss on the rows in ``held`` of fits on the others."""
    train, slopes = _net_rows(problem.rows, ~held)
    unit = np.sqrt(problem.rows.weights @ problem.rows.Z**2)
    if np.linalg.svd(train.moments.L * (np.sqrt(train.n) / unit)[:, None], compute_uv=False)[-1] <= _COLLINEAR:
        raise DataError(
            f'rho="cv": without environment "{label}" the instruments are collinear or constant, so nothing is fitted; '
            "merge that environment with another."
        )
    b = solve_path(_trained(problem, train), rhos).b
    if criterion == "prediction":
        return _prediction_loss(problem.rows, held, slopes, b)
    test, _ = _net_rows(problem.rows, held)
    root = np.sqrt(test.weights)
    basis = _basis(test, unit)
    moments = basis.T @ (np.column_stack([test.y, test.X]) * root[:, None]) / np.sqrt(test.n)
    left = moments[:, :1] - moments[:, 1:] @ b.T
    return np.asarray(np.sum(left**2, axis=0))


def _trained(problem: DriveProblem, train: IvRows) -> DriveProblem:
    """The problem on the training rows, whose columns already carry the scale of all rows."""
    if problem.metric == "tsls":
        moments = train.moments
        return replace(problem, rows=train, root=np.linalg.inv(moments.L), B=moments.B, w=moments.w)
    turned = (train.weights[:, None] * train.Z) @ problem.root.T / train.n
    return replace(problem, rows=train, B=turned.T @ train.X, w=turned.T @ train.y)


def _net_rows(rows: IvRows, kept: np.ndarray) -> tuple[IvRows, np.ndarray]:
    """The rows in ``kept`` net of the covariates inside them, and the covariates' slopes (m, 1 + p + q).

    Where what was partialled out is held fixed, only the mean is taken out again.
    """
    weights = rows.weights[kept] / rows.weights[kept].mean()
    root = np.sqrt(weights)[:, None]
    controls = _controls(rows)[kept]
    columns = np.column_stack([rows.y, rows.X, rows.Z])[kept]
    slopes = np.linalg.lstsq(controls * root, columns * root, rcond=None)[0]
    net = columns - controls @ slopes
    p = rows.p
    fresh = replace(
        rows, y=net[:, 0], X=net[:, 1 : 1 + p], Z=net[:, 1 + p :], weights=weights, controls=controls,
        sampling=Sampling(int(kept.sum())),
    )  # fmt: skip
    return fresh, slopes


def _prediction_loss(rows: IvRows, held: np.ndarray, slopes: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(r,) weighted mean squared error of y - X b - C delta on the rows in ``held``."""
    p = rows.p
    controls, weights = _controls(rows)[held], rows.weights[held]
    y = rows.y[held] - controls @ slopes[:, 0]
    X = rows.X[held] - controls @ slopes[:, 1 : 1 + p]
    return np.asarray(weights @ (y[:, None] - X @ b.T) ** 2 / weights.sum())


def _controls(rows: IvRows) -> np.ndarray:
    return rows.controls if rows.controls.shape[1] else np.ones((rows.n, 1))


def _basis(rows: IvRows, unit: np.ndarray) -> np.ndarray:
    """(n, rank) orthonormal basis of the weighted instruments; ``unit`` (q,) their length over all rows.

    Measured against that length, a column that is constant inside an environment has rank zero and not that of its
    rounding error.
    """
    orthonormal, triangular = np.linalg.qr(rows.Z * np.sqrt(rows.weights)[:, None] / unit[None, :])
    left, sigma, _ = np.linalg.svd(triangular)
    return np.asarray(orthonormal @ left[:, sigma > _COLLINEAR])
