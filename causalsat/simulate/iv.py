"""Linear instrumental-variable studies with everything known: strength, confounding, invalid instruments, shifts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from causalsat.errors import OptionError, count, number, one_of

_HALVINGS = 200


def iv(
    n: int = 500,
    q: int = 4,
    p: int = 1,
    effect: float | Sequence[float] = 1.0,
    concentration: float | Sequence[float] = 200.0,
    confounding: float | Sequence[float] = 0.6,
    seed: int = 0,
    *,
    direct: float | Sequence[float] = 0.0,
    covariates: Sequence[float] = (),
    heteroskedastic: bool = False,
    clusters: int = 0,
    intraclass: float = 0.5,
    environments: Sequence[float] = (),
    shifts: Sequence[float] = (),
    scale: str = "unit",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    r"""A study whose treatment is confounded and whose instruments are as strong and as valid as asked.

    Z ~ N(0, I_q); (u, v) normal with unit variances; X = Z Pi + v; y = X b0 + Z eta + C delta + u. The first stage has
    Pi'Pi = diag(concentration)/n, for one treatment pi = sqrt(concentration/(n q)) (1, ..., 1)'. Population limits
    are exact (expectations of sqrt(.5 + .5 z^2) by quadrature).

    Parameters
    ----------
    n, q, p : int
        Rows, instruments, treatments (p <= q).
    effect : float or (p,)
        b0.
    concentration : float or (p,)
        mu^2, the population first-stage strength times n; its expected partial F is about 1 + mu^2/q.
    confounding : float or (p,)
        Correlations of u with the columns of v. A number c with p > 1 gives each column c/sqrt(p), so that the multiple
        correlation is c.
    seed : int
        Seed of the generator.
    direct : float or (q,)
        eta, direct effects of the instruments on y; 0 for valid instruments.
    covariates : sequence of float
        delta, one coefficient per exogenous N(0, 1) column.
    heteroskedastic : bool
        Multiply u by sqrt(.5 + .5 z1^2) (variance one on average).
    clusters : int
        Number of equal-sized clusters; every normal number is then sqrt(intraclass) times one shared inside the cluster
        plus sqrt(1 - intraclass) times its own. 0 for independent rows.
    intraclass : float
        Share of the variance that a cluster shares, in [0, 1].
    environments : sequence of float
        Scales s_e of the instruments, one per environment of equal size; () for one environment with s = 1.
    shifts : sequence of float
        Constants added to every column of v, one per environment.
    scale : str
        Scale of A, lambda_min, rho_star, j and of the radius given to ``truth["drive"]``: "unit" (y and X net of
        covariates have variance one) or "raw".

    Returns
    -------
    data : dict of str to np.ndarray
        y; x (p = 1) or x1, x2, ...; z1, z2, ...; c1, c2, ...; cluster and environment (str) where asked for.
    truth : dict
        effect (p,), first_stage (q, p), A (p, p), lambda_min, rho_star (inf at b0 = 0), j (squared distance of the
        direct effects from what the first stage spans), sd_y, sd_x (p,); ols and tsls (p,), the limits of the
        estimators in raw units; drive, a function of rho that returns DRIVE's limit (p,) in raw units.

    Raises
    ------
    OptionError
        Options out of range or of the wrong length, or correlations without a normal law.

    Examples
    --------
    >>> data, truth = iv(n=100, q=4, concentration=100.0, scale="raw")
    >>> sorted(data), float(truth["A"][0, 0]), float(truth["rho_star"].round(6)), float(truth["ols"][0].round(6))
    (['x', 'y', 'z1', 'z2', 'z3', 'z4'], 1.0, 2.0, 1.3)
    """
    one_of("scale", scale, ("unit", "raw"))
    design = _design(n, q, p, effect, concentration, confounding, direct, covariates, environments, shifts)
    groups = count("clusters", clusters)
    shared = number("intraclass", intraclass, 0.0, 1.0, open_ends=False)
    rng = np.random.default_rng(count("seed", seed))
    cluster = None if groups == 0 else np.arange(design.n) * groups // design.n
    place = np.arange(design.n) % design.scales.size
    z = _normals(rng, q, design.n, cluster, shared) * design.scales[place][:, None]
    noise = _normals(rng, 1 + p, design.n, cluster, shared)
    v = noise[:, 1:]
    u = v @ design.confounding + np.sqrt(1.0 - design.confounding @ design.confounding) * noise[:, 0]
    if heteroskedastic:
        u = u * np.sqrt(0.5 + 0.5 * z[:, 0] ** 2)
    x = z @ design.first_stage + v + design.shifts[place][:, None]
    c = rng.standard_normal((design.n, design.delta.size))
    y = x @ design.effect + z @ design.direct + c @ design.delta + u
    data = {"y": y} | {("x" if p == 1 else f"x{j + 1}"): x[:, j] for j in range(p)}
    data |= {f"z{j + 1}": z[:, j] for j in range(q)} | {f"c{j + 1}": c[:, j] for j in range(design.delta.size)}
    if cluster is not None:
        data["cluster"] = np.array([f"g{g:04d}" for g in cluster])
    if len(environments):
        data["environment"] = np.array([f"e{e}" for e in place])
    return data, _truth(design, bool(heteroskedastic), scale)


def drive_limit(rho: float, *, A: np.ndarray, b: np.ndarray, j: float, unit: np.ndarray | float = 1.0) -> np.ndarray:
    """(p,) minimiser of sqrt(j + (x - b)'A(x - b)) + sqrt(rho (1 + ||x||^2)), times ``unit``.

    Parameters
    ----------
    rho : float
        Squared radius.
    A : np.ndarray
        (p, p) first-stage strength.
    b : np.ndarray
        (p,) limit of TSLS on the scale of rho.
    j : float
        Squared distance of the moments from zero at b; 0 for valid instruments.
    unit : np.ndarray or float
        (p,) raw units per unit of the scale.

    Examples
    --------
    >>> drive_limit(1.5, A=np.eye(1), b=np.ones(1), j=0.0).tolist()  # below the threshold 2
    [1.0]
    >>> drive_limit(5.0, A=np.eye(1), b=np.ones(1), j=0.0).round(6).tolist()  # sqrt(A/(rho - A))
    [0.5]
    """
    radius = float(np.sqrt(number("rho", rho, 0.0, np.inf, open_ends=False)))
    a, turn = np.linalg.eigh(A)
    h = turn.T @ b

    def balance(lam: float) -> float:
        """Increasing in lam where it crosses zero; divided by lam when j = 0, as zero is then a root."""
        t = np.sqrt(1.0 + np.sum((a * h / (a + lam)) ** 2))
        if j == 0.0:
            return float(t - radius * np.sqrt(np.sum(a * (h / (a + lam)) ** 2)))
        return float(lam * t - radius * np.sqrt(j + np.sum(a * (lam * h / (a + lam)) ** 2)))

    low, high = 0.0, radius * float(np.sqrt(j + np.sum(a * h**2)))
    if radius == 0.0 or balance(0.0) >= 0.0:
        return np.asarray(b * unit)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if balance(middle) < 0.0 else (low, middle)
    return np.asarray((turn @ (a * h / (a + high))) * unit)


@dataclass(frozen=True)
class _Design:
    n: int
    effect: np.ndarray
    first_stage: np.ndarray
    confounding: np.ndarray
    direct: np.ndarray
    delta: np.ndarray
    scales: np.ndarray
    shifts: np.ndarray


def _design(
    n: int, q: int, p: int, effect: Any, concentration: Any, confounding: Any, direct: Any, covariates: Any,
    environments: Any, shifts: Any,
) -> _Design:  # fmt: skip
    n, p = count("n", n, 2), count("p", p, 1)
    q = count("q", q, p)
    strength = _vector("concentration", concentration, p)
    if (strength < 0.0).any():
        raise OptionError(f"concentration={concentration!r} must not be negative.")
    with_u = _vector("confounding", confounding, p)
    if np.ndim(confounding) == 0:
        with_u = with_u / np.sqrt(p)
    if with_u @ with_u > 1.0:
        raise OptionError(f"confounding={confounding!r} has a multiple correlation above one.")
    scales = np.ones(1) if len(environments) == 0 else _vector("environments", environments, len(environments))
    if (scales < 0.0).any():
        raise OptionError(f"environments={environments!r} are scales and must not be negative.")
    moved = np.zeros(scales.size) if len(shifts) == 0 else _vector("shifts", shifts, scales.size)
    # Columns of the discrete cosine transform: orthogonal, the first one constant.
    waves = np.cos(np.pi * np.outer(np.arange(q) + 0.5, np.arange(p)) / q)
    waves = waves / np.linalg.norm(waves, axis=0)[None, :]
    return _Design(
        n,
        _vector("effect", effect, p),
        waves * np.sqrt(strength / n)[None, :],
        with_u,
        _vector("direct", direct, q),
        _vector("covariates", covariates, len(covariates)),
        scales,
        moved,
    )


def _vector(argument: str, value: Any, size: int) -> np.ndarray:
    values = np.asarray(value, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(size, float(values))
    if values.shape != (size,) or not np.isfinite(values).all():
        raise OptionError(f"{argument}={value!r} must be one finite number or {size} of them.")
    return values


def _normals(rng: np.random.Generator, columns: int, n: int, cluster: np.ndarray | None, shared: float) -> np.ndarray:
    """(n, columns) standard normal numbers, correlated inside clusters."""
    own = rng.standard_normal((n, columns))
    if cluster is None:
        return own
    common = rng.standard_normal((int(cluster.max()) + 1, columns))
    return np.asarray(np.sqrt(shared) * common[cluster] + np.sqrt(1.0 - shared) * own)


def _truth(design: _Design, heteroskedastic: bool, scale: str) -> dict[str, Any]:
    """Population moments, all environments together, and the limits that follow from them."""
    pi, b0, p = design.first_stage, design.effect, design.effect.size
    share = np.bincount(np.arange(design.n) % design.scales.size) / design.n
    spread = float(share @ design.scales**2)
    error = share @ np.array([_error_moments(s) for s in design.scales]) if heteroskedastic else np.ones(2)
    around = design.shifts - share @ design.shifts
    A = spread * pi.T @ pi
    V = np.eye(p) + float(share @ around**2) * np.ones((p, p))
    vu = design.confounding * error[0]
    zy = spread * pi.T @ design.direct
    tsls = b0 + np.linalg.solve(A, zy) if np.all(np.diag(A) > 0.0) else np.full(p, np.nan)
    total = A + V
    xy = total @ b0 + zy + vu
    yy = b0 @ total @ b0 + 2.0 * b0 @ (zy + vu) + spread * design.direct @ design.direct + error[1]
    off = spread * (design.direct @ design.direct - (pi.T @ design.direct) @ (tsls - b0))
    sd_y, sd_x = (np.sqrt(yy), np.sqrt(np.diag(total))) if scale == "unit" else (1.0, np.ones(p))
    size = spread * float(design.direct @ design.direct)
    j = 0.0 if off <= 1e-12 * size else off / sd_y**2
    A, b, unit = A / np.outer(sd_x, sd_x), tsls * sd_x / sd_y, sd_y / sd_x
    drive: Callable[[float], np.ndarray] = partial(drive_limit, A=A, b=b, j=j, unit=unit)
    return {
        "effect": b0,
        "first_stage": pi,
        "A": A,
        "lambda_min": float(np.linalg.eigvalsh(A)[0]),
        "rho_star": _threshold(A, b0 / unit),
        "j": j,
        "sd_y": float(sd_y),
        "sd_x": sd_x,
        "ols": np.linalg.solve(total, xy),
        "tsls": tsls,
        "drive": drive,
    }


def _threshold(A: np.ndarray, b: np.ndarray) -> np.float64:
    """(1 + ||b||^2)/(b'A^{-1}b), infinite at b = 0 and zero without a first stage."""
    if not np.any(b):
        return np.float64(np.inf)
    if np.linalg.eigvalsh(A)[0] <= 0.0:
        return np.float64(0.0)
    return np.float64((1.0 + b @ b) / (b @ np.linalg.solve(A, b)))


def _error_moments(scale: float) -> np.ndarray:
    """E sqrt(.5 + .5 z^2) and E(.5 + .5 z^2) for z ~ N(0, scale^2)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    square = 0.5 + 0.5 * (scale * nodes) ** 2
    return np.asarray(np.array([weights @ np.sqrt(square), weights @ square]) / np.sqrt(2.0 * np.pi))
