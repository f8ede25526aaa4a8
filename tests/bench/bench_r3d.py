"""R3D: fit, bands and tests at a given bandwidth, against the same analysis written plainly in NumPy.

Standard errors and critical values are compared before anything is timed. The plain version regresses quantile by
quantile and side by side, draws one normal per unit and replicate, and takes sups over all draws.
``CAUSALSAT_BENCH_SHORT=1`` takes the small case only and gates nothing.
"""

import math
import os
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

SHORT = os.environ.get("CAUSALSAT_BENCH_SHORT") == "1"
M, B, ROUNDS = 99, 3000, 15
# (units, bandwidth, what is added, multiplier draws, wall milliseconds it must stay under on two free cores).
CASES = [
    (500, 0.43, "", B, 50.0),
    (5_000, 0.31, "", B, 250.0),
    (5_000, 0.31, "", 5_000, 300.0),
    (5_000, 0.31, "clusters", B, 250.0),
]


def sample(n: int, clusters: int = 0) -> dict[str, np.ndarray]:
    """Quantiles (n, M) of units with random location and scale, 500 draws each; places; cluster codes."""
    g = np.random.default_rng(0)
    x = g.uniform(-1, 1, n)
    mean, scale = 5 + 5 * x + g.normal(size=n) + (x >= 0), np.abs(1 + x + g.normal(size=n))
    Q = np.empty((n, M))
    levels = np.arange(1, M + 1) / (M + 1)
    for first in range(0, n, 500):
        rows = slice(first, first + 500)
        z = np.sort(mean[rows, None] + scale[rows, None] * g.normal(size=(x[rows].size, 500)), axis=1)
        at = 499 * levels
        low = np.floor(at).astype(int)
        Q[rows] = z[:, low] + (at - low) * (z[:, np.minimum(low + 1, 499)] - z[:, low])
    codes = g.integers(0, clusters, n) if clusters else np.arange(n)
    return {"x": x, "Q": Q, "levels": levels, "codes": codes}


def plain(
    data: dict[str, np.ndarray], h: float, seed: int, draws: int = B
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Effect, hc2 standard errors, critical value of the band and p of nullity (normal critical values)."""
    x, Q, n = data["x"], data["Q"], data["x"].size
    k = np.maximum(1 - np.abs(x) / h, 0)
    tau, C = np.zeros(M), np.zeros((n, M))
    for sign, side in ((1, x >= 0), (-1, x < 0)):
        for j in range(M):
            R = x[side, None] ** np.arange(3)
            S = np.linalg.solve(R.T @ (k[side, None] * R), R.T * k[side])
            beta = S @ Q[side, j]
            leverage = np.einsum("ij,ji->i", R, S)
            tau[j] += sign * beta[0]
            C[side, j] = sign * S[0] * (Q[side, j] - R @ beta) / np.sqrt(np.where(k[side] > 0, 1 - leverage, 1.0))
    if np.unique(data["codes"]).size < n:
        C = np.stack([np.bincount(data["codes"], C[:, j]) for j in range(M)], axis=1)
    se = np.sqrt((C**2).sum(axis=0))
    G = np.random.default_rng(seed).standard_normal((draws, C.shape[0])) @ C
    sups = np.sort((np.abs(G) / se).max(axis=1))
    statistic = (np.abs(tau) / se).max()
    return tau, se, sups[math.ceil(0.95 * (draws + 1)) - 1], (1 + (sups >= statistic).sum()) / (draws + 1)


def ours(data: dict[str, np.ndarray], clustered: bool, draws: int) -> Callable[..., Any]:
    """The library's fit, bands, nullity and homogeneity."""
    from causalsat.estimators.r3d_fit import fit_curves
    from causalsat.estimators.r3d_inference import infer
    from causalsat.inference.options import Bootstrap
    from tests.estimators.r3d_cases import arrays, chosen

    design = arrays(data["x"], data["Q"], quantiles=data["levels"], cluster=data["codes"] if clustered else None)

    def call(h: float, **options: Any) -> Any:
        choices = chosen(
            **{"inference": Bootstrap(n=draws, scheme="multiplier"), "tests": ("nullity", "homogeneity"), **options}
        )
        return infer(design, fit_curves(design, np.full(2, h)), choices)

    return call


def clocked(call: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Smallest and median wall, and smallest CPU milliseconds."""
    wall, cpu = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        call()
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - used))
    return min(wall), float(np.median(wall)), min(cpu)


def case(n: int, h: float, what: str, draws: int, limit: float) -> bool:
    """Answers, then times; whether the gate is met."""
    from rdrobust import rdrobust

    data = sample(n, 100 if what == "clusters" else 0)
    call = ours(data, what == "clusters", draws)
    start = time.perf_counter()
    call(h)
    first = time.perf_counter() - start
    tau, se, c, _ = plain(data, h, 1, draws)
    found = call(h, critical="normal")
    spread = 4 * math.sqrt(2 * 0.95 * 0.05 / draws) / 0.1  # two quantiles of B draws, density at least .1
    raw = found.fit.columns.raw
    np.testing.assert_allclose(raw[0] - raw[1], tau, rtol=1e-8)
    if what != "clusters":  # hc2 of a cluster is CR2, which the plain version does not have
        np.testing.assert_allclose(found.se, se, rtol=1e-8)
    if abs(found.curve.critical - c) > spread:
        raise SystemExit(f"critical values {found.curve.critical:.3f} and {c:.3f} are further apart than {spread:.3f}")
    mine = clocked(lambda: call(h), ROUNDS)
    sides = clocked(lambda: call(h).sides(), 5)
    peer = clocked(lambda: plain(data, h, 1, draws), 3)
    one, _, _ = clocked(lambda: rdrobust(data["Q"][:, 49], data["x"], h=h, p=2), 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  n={n} {what or 'units'}, window {found.n_window.sum()}, M={M}, B={draws}: first call {first:.2f} s; fit, bands "
        f"and 2 tests {mine[0]:.1f} ms (median {mine[1]:.1f}, CPU {mine[2]:.1f}) = "
        f"{mine[0] / one:.1f} calls of rdrobust at the same h ({one:.1f} ms); with bands of both averages "
        f"{sides[0]:.1f} ms; plain NumPy {peer[0]:.1f} ms (CPU {peer[2]:.1f}), {peer[2] / mine[2]:.1f} times the CPU; peak {peak:.0f} MiB; gate "
        f"{limit:g} ms"
    )
    return mine[0] <= limit


def whole(n: int, draws: int) -> bool:
    """Everything from draws on (quantiles, bandwidth, bands, tests) against NumPy and calls of rdrobust at a given h."""
    from rdrobust import rdrobust

    import causalsat as cs

    g = np.random.default_rng(0)
    x = g.uniform(-1, 1, n)
    values = (5 + 5 * x + g.normal(size=n) + (x >= 0))[:, None] + g.standard_normal((n, draws), dtype=np.float32)
    values = values.astype(np.float32)
    table = {"x": x}

    def run() -> Any:
        return cs.r3d(table, outcome=values, running="x", quantiles=M, n_boot=B, checks=None)

    started = time.perf_counter()
    result = run()
    compiled = time.perf_counter() - started
    h = float(result.meta["h"])
    levels = result.table.where(term="laqte")["quantile"]
    made = np.quantile(values, levels, axis=1).T
    assert np.allclose(result.table.where(term="laqte")["estimate"], _isotonic(plain_curves(x, made, h)), atol=1e-4)
    wall, _, cpu = clocked(run, 3)
    sorting, _, _ = clocked(lambda: np.quantile(values, levels, axis=1), 1)
    peer, _, _ = clocked(lambda: plain({"x": x, "Q": made, "levels": levels, "codes": np.arange(n)}, h, 0), 1)
    one, _, _ = clocked(lambda: rdrobust(made[:, 49], x, h=h, p=2), 3)
    print(
        f"  whole, n={n}, {draws} draws a unit: {wall:.0f} ms wall, {cpu:.0f} ms CPU after {compiled:.1f} s at "
        f"first; np.quantile alone {sorting:.0f} ms, plain NumPy after it {peer:.0f} ms; one rdrobust call "
        f"{one:.0f} ms: {wall / one:.1f} calls, most of it sorting the draws; gate: NumPy's total"
    )
    return wall < sorting + peer


def plain_curves(x: np.ndarray, Q: np.ndarray, h: float) -> list[np.ndarray]:
    """Raw curves right and left of the cutoff."""
    k = np.maximum(1 - np.abs(x) / h, 0)
    curves = []
    for side in (x >= 0, x < 0):
        R = (x[side, None] / h) ** np.arange(3)
        curves.append(np.linalg.solve(R.T @ (k[side, None] * R), R.T @ (k[side, None] * Q[side]))[0])
    return curves


def _isotonic(curves: list[np.ndarray]) -> np.ndarray:
    from sklearn.isotonic import isotonic_regression

    return isotonic_regression(curves[0]) - isotonic_regression(curves[1])


def many(n: int, draws: int) -> bool:
    """1e5 units in a process of its own: draws in a memory map, so that what is resident is ours."""
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_r3d", folder, str(n), str(draws)], capture_output=True, text=True
        )
    print(f"  many units: {run.stdout.strip() or run.stderr.strip()[-300:]}")
    return run.returncode == 0


def resident(folder: str, n: int, draws: int) -> None:
    """Time and peak memory of a whole call on a memory map."""
    import causalsat as cs

    g = np.random.default_rng(0)
    x = g.uniform(-1, 1, n)
    path = os.path.join(folder, "draws.f4")
    values = np.memmap(path, dtype=np.float32, mode="w+", shape=(n, draws))
    for first in range(0, n, 1000):
        rows = slice(first, min(first + 1000, n))
        values[rows] = (5 + 5 * x[rows] + (x[rows] >= 0))[:, None] + g.standard_normal((x[rows].size, draws))
    values.flush()
    small = np.random.default_rng(1).normal(size=(200, 50))
    cs.r3d({"x": np.linspace(-1, 1, 200)}, outcome=small, running="x", quantiles=M, n_boot=199, checks=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    cs.r3d({"x": x}, outcome=values, running="x", quantiles=M, n_boot=B, checks=None)
    wall = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"n={n}, {draws} draws a unit: {wall:.1f} s with compilation, peak {peak:.0f} MiB ({peak - before:.0f} above before)"
    )


def main() -> int:
    """Run the cases; the number of missed gates."""
    import sys

    if len(sys.argv) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resident(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        return 0
    import jax

    print(f"r3d at a given bandwidth, BLAS threads {os.environ.get('OMP_NUM_THREADS', 'free')}, short={SHORT}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        met = [case(*given) for given in (CASES[:1] if SHORT else CASES)]
        met.append(whole(500, 500))
        if not SHORT:
            met += [whole(5_000, 5_000), many(100_000, 1_000)]
    print(f"  versions: jax {jax.__version__}, numpy {np.__version__}, CPUs {os.cpu_count()}")
    return 0 if SHORT else met.count(False)


if __name__ == "__main__":
    raise SystemExit(main())
