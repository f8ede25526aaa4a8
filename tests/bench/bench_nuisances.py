"""Ridge nuisances of both arms against scikit-learn loops with the same nested rule.

The answers are compared first. The default is a short form; ``CAUSALSAT_BENCH=full`` runs n = 20,000, d = 512, five
folds, 30 penalties, with the scikit-learn loop timed on a few of its fits and scaled to all of them.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV

from causalsat.estimators.nuisances import NuisanceOptions, cross_fit_nuisances

FULL = os.environ.get("CAUSALSAT_BENCH") == "full"
N, D = (20_000, 512) if FULL else (3_000, 48)
K, PENALTIES, REPEATS = 5, 30, 1 if FULL else 3
RATIOS = 10.0 ** np.linspace(-4, 4, PENALTIES)


def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Standard normal embedding, logistic assignment, linear outcome."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    treated = (rng.random(N) < 1 / (1 + np.exp(-x[:, :5].sum(axis=1) / 3))).astype(float)
    y = x @ rng.normal(size=D) / np.sqrt(D) + treated + 2 * rng.normal(size=N)
    return x, y, treated, rng.permutation(N) % K


def scaled(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The embedding in the means and deviations of the training rows."""
    return (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)


def loop_fold(x: np.ndarray, y: np.ndarray, arm: np.ndarray, fold: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """One outer fold of one arm: scikit-learn's Ridge for every inner fold and penalty, then the final fit."""
    error, test = np.zeros(PENALTIES), fold == k
    for j in (j for j in range(K) if j != k):
        rows, held = (fold != k) & (fold != j) & arm, (fold == j) & arm
        z = scaled(x, rows)
        for i, ratio in enumerate(RATIOS):
            fit = Ridge(alpha=ratio * rows.sum()).fit(z[rows], y[rows])
            error[i] += np.sum((y[held] - fit.predict(z[held])) ** 2)
    rows, best = ~test & arm, int(error.argmin())
    z = scaled(x, rows)
    return Ridge(alpha=RATIOS[best] * rows.sum()).fit(z[rows], y[rows]).predict(z[test]), best


def ridge_cv(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> None:
    """RidgeCV as its authors mean it (leave-one-out, another rule) on one training part."""
    RidgeCV(alphas=RATIOS * rows.sum()).fit(scaled(x, rows)[rows], y[rows])


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Equal answers, then interleaved timings and ratios."""
    x, y, treated, fold = sample()

    def ours(need: tuple[str, ...] = ("g0", "g1")) -> object:
        return cross_fit_nuisances(None, x, y, treated, fold, options=NuisanceOptions(), need=need)

    first = timed(ours)
    found = cross_fit_nuisances(None, x, y, treated, fold, need=("g0", "g1"))
    arm = treated == 1
    start = time.process_time(), time.perf_counter()
    expected, best = loop_fold(x, y, arm, fold, 0)
    one_fold = time.perf_counter() - start[1], time.process_time() - start[0]
    np.testing.assert_allclose(found.g1[fold == 0], expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.penalties["g1"][0], RATIOS[best] * (arm & (fold != 0)).sum(), rtol=1e-9)
    print(f"equal answers; n={N} d={D} folds={K} penalties={PENALTIES}; first call {first[0]:.2f} s wall")
    mine, cv = [], []
    for _ in range(REPEATS):
        mine.append(timed(ours)[1])
        cv.append(timed(lambda: ridge_cv(x, y, arm & (fold != 0)))[1])
    cpu, cv_cpu = statistics.median(mine), statistics.median(cv)
    loop = one_fold[1] * 2 * K
    print(f"ours, both arms, all folds     {cpu:9.3f} CPU s")
    print(f"scikit-learn Ridge, same rule  {loop:9.3f} CPU s (one of {2 * K} arm-folds timed) ratio {loop / cpu:7.1f}")
    print(
        f"RidgeCV, leave-one-out rule    {cv_cpu * 2 * K:9.3f} CPU s (same scaling) ratio {cv_cpu * 2 * K / cpu:7.1f}"
    )
    all_three = timed(lambda: ours(("g0", "g1", "m"))), timed(lambda: ours(("g0", "g1", "m")))
    print(f"with the logistic propensity   {all_three[1][1]:9.3f} CPU s, {all_three[1][0]:.3f} s wall")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, threads {os.cpu_count()}")
    if loop / cpu < 5:
        raise SystemExit("slower than a fifth of the scikit-learn loop's time")


if __name__ == "__main__":
    main()
