"""Cluster bootstrap of least squares, in units of one statsmodels fit with clustered errors, side by side.

Answers are checked before anything is timed. ``CAUSALSAT_BENCH_SHORT=1`` takes a tenth of the rows; the draws then cost
as much as before and the fit a tenth, so the short form checks answers and gates nothing.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import scipy
import statsmodels
import statsmodels.api as sm

from causalsat.inference.moments import OlsMoments
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import resampling_weights
from causalsat.inference.sampling import Sampling
from causalsat.inference.seam import Draws, bootstrap_draws

SHORT = os.environ.get("CAUSALSAT_BENCH_SHORT") == "1"
N, CLUSTERS, COLUMNS, B = (10_000 if SHORT else 100_000), 200, 10, 999
ROUNDS = 5
# The goal is a bootstrap of 999 draws for at most one peer fit; the gate leaves a factor of two for a busy machine.
GATE_FITS = 2.0


def study() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 10) columns with a constant, outcome, cluster codes."""
    g = np.random.default_rng(0)
    cluster = g.integers(0, CLUSTERS, N)
    X = np.column_stack([np.ones(N), g.normal(size=(N, COLUMNS - 1)) + 0.3 * g.normal(size=(CLUSTERS, 1))[cluster]])
    y = X @ np.linspace(0.0, 1.0, COLUMNS) + g.normal(size=CLUSTERS)[cluster] + g.normal(size=N)
    return X, y, cluster


def ours(X: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> Draws:
    """999 draws from raw arrays: sums per cluster, weights, product, solves."""
    sampling = Sampling(X.shape[0], cluster=cluster)
    return bootstrap_draws((X, y), Bootstrap(B, "cluster"), sampling, seed=1, moments=OlsMoments(COLUMNS))


def peer(X: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One statsmodels fit with the cluster sandwich."""
    fit = sm.OLS(y, X).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    return fit.params, fit.bse


def check(X: np.ndarray, y: np.ndarray, cluster: np.ndarray, draws: Draws) -> dict[str, float]:
    """Draw 0 equals least squares on repeated rows; the spread of the draws is the sandwich up to simulation."""
    w = resampling_weights(Bootstrap(B, "cluster"), Sampling(N, cluster=cluster), seed=1, count=1)[0].astype(int)
    rows = np.repeat(np.arange(N), w)
    refit = np.linalg.lstsq(X[rows], y[rows], rcond=None)[0]
    apart = float(np.abs(draws.values[0] - refit).max())
    ratio = draws.values.std(axis=0) / peer(X, y, cluster)[1]
    # 3.3 Monte Carlo errors of a standard deviation from 999 draws, and 3% for the second-order difference of the two.
    room = 3.3 / np.sqrt(2 * B) + 0.03
    if apart > 1e-8 or np.abs(ratio - 1.0).max() > room:
        raise SystemExit(f"answers differ: draw 0 by {apart:.2e}, standard errors by ratios {ratio.round(3)}")
    return {"draw 0 against refit": apart, "largest SE ratio - 1": float(np.abs(ratio - 1.0).max())}


def clocked(call: Callable[..., object], *arguments: np.ndarray) -> tuple[float, float]:
    """Wall and CPU seconds of one call (results come back as NumPy, so the device is done)."""
    wall, cpu = time.perf_counter(), time.process_time()
    call(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> int:
    """Check, time interleaved, print one table; 1 if the ratio misses its gate."""
    data = study()
    first = clocked(ours, *data)
    facts = check(*data, ours(*data))
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times: dict[str, list[tuple[float, float]]] = {"peer": [], "ours": []}
    for _ in range(ROUNDS):
        times["peer"].append(clocked(peer, *data))
        times["ours"].append(clocked(ours, *data))
    median = {name: [statistics.median(t[i] for t in rows) for i in (0, 1)] for name, rows in times.items()}
    fits = median["ours"][1] / median["peer"][1]
    print(
        f"cluster bootstrap, n={N}, clusters={CLUSTERS}, columns={COLUMNS}, B={B}, BLAS threads {os.environ.get('OMP_NUM_THREADS', 'free')}, short={SHORT}"
    )
    for name, value in facts.items():
        print(f"  {name}: {value:.2e}")
    for name, label in (("peer", "one statsmodels fit, clustered"), ("ours", f"{B} draws")):
        print(f"  {label}: {median[name][0]:.4f} s wall, {median[name][1]:.4f} s CPU (median of {ROUNDS})")
    print(f"  ratio: {fits:.2f} fits (CPU), {median['ours'][0] / median['peer'][0]:.2f} fits (wall); gate {GATE_FITS}")
    print(f"  first call with tracing and compiling: {first[0]:.2f} s wall, {first[1]:.2f} s CPU")
    print(f"  peak memory of the process: {peak_before:.0f} MiB before timing")
    print(f"  versions: jax {jax.__version__}, numpy {np.__version__}, scipy {scipy.__version__}", end=", ")
    print(f"statsmodels {statsmodels.__version__}, CPUs {os.cpu_count()}")
    return int(not SHORT and fits > GATE_FITS)


if __name__ == "__main__":
    raise SystemExit(main())
