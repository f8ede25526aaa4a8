"""Conley sum over 100,000 places: tiles against scipy's k-d tree.

Places are uniform over 2,000 x 2,000 km, the cutoff is 100 km, one column of scores. Both answers must agree to 1e-8
before anything is timed. Each side runs in its own process for the memory, both alternate in one for the times.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np

SHORT = bool(os.environ.get("CAUSALSAT_BENCH_SHORT"))
N = 20_000 if SHORT else 100_000
CUTOFF_KM = 100.0
REPEATS = 2 if SHORT else 3
# Goals of this job (8 times faster, less than 50 MB more memory), the speed halved for a busy machine.
GOAL_RATIO, GATE_RATIO, GATE_MB = 8.0, 4.0, 50.0
RTOL = 1e-8


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    side = 2000.0 / 111.195
    lonlat = np.stack([rng.uniform(0.0, side, n), rng.uniform(-side / 2, side / 2, n)], axis=1)
    return rng.normal(size=(n, 1)), lonlat


def ours(scores: np.ndarray, lonlat: np.ndarray) -> float:
    from causalsat.inference.conley import spatial_sums

    return float(spatial_sums(scores, lonlat, np.array([CUTOFF_KM])).matrix[0, 0, 0])


def scipy_tree(scores: np.ndarray, lonlat: np.ndarray) -> float:
    """All pairs at once, as a user of scipy would write it: vectorised, Bartlett weights, symmetric half."""
    from scipy.spatial import cKDTree

    lon, lat = np.radians(lonlat).T
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    radius = 6371.01
    pairs = cKDTree(vectors).query_pairs(2.0 * np.sin(CUTOFF_KM / (2.0 * radius)), output_type="ndarray")
    i, j = pairs[:, 0], pairs[:, 1]
    distance = 2.0 * radius * np.arcsin(0.5 * np.sqrt(((vectors[i] - vectors[j]) ** 2).sum(axis=1)))
    half = (scores[i, 0] * scores[j, 0] * np.maximum(0.0, 1.0 - distance / CUTOFF_KM)).sum()
    return float((scores**2).sum() + 2.0 * half)


SIDES = {"ours": ours, "scipy": scipy_tree}


def peak_mb() -> float:
    """Peak resident memory of this process; Linux counts kilobytes, macOS bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def memory(side: str) -> None:
    """In a process of its own: peak memory beyond imports, the data and a small warm-up."""
    scores, lonlat = data(N)
    SIDES[side](scores[:3000], lonlat[:3000])
    before = peak_mb()
    SIDES[side](scores, lonlat)
    sys.stdout.write(json.dumps(peak_mb() - before) + "\n")


def timed(side: str, scores: np.ndarray, lonlat: np.ndarray) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    SIDES[side](scores, lonlat)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> int:
    """Check equality, then print times, their ratio and the peak memory of each side."""
    # Before anything large lives here: on Linux a child starts from its parent's peak.
    used = {side: _memory_of(side) for side in SIDES}
    scores, lonlat = data(N)
    start = time.perf_counter()
    mine = ours(scores, lonlat)
    first = time.perf_counter() - start
    theirs = scipy_tree(scores, lonlat)
    if abs(mine - theirs) > RTOL * float((scores**2).sum()):
        raise SystemExit(f"answers differ: {mine!r} and {theirs!r}")
    runs: dict[str, list[tuple[float, float]]] = {"ours": [], "scipy": []}
    for _ in range(REPEATS):
        for side in runs:
            runs[side].append(timed(side, scores, lonlat))
    median = {side: np.median(np.array(values), axis=0) for side, values in runs.items()}
    wall, cpu = median["scipy"] / median["ours"]
    print(f"n={N}, cutoff {CUTOFF_KM:g} km, k=1, threads {os.cpu_count()}, first call {first:.2f} s, answers equal")
    for side in SIDES:
        print(
            f"  {side:6s} wall {median[side][0]:.3f} s  cpu {median[side][1]:.3f} s  peak memory +{used[side]:.0f} MB"
        )
    print(f"  ratio wall {wall:.1f}  cpu {cpu:.1f}  (goal {GOAL_RATIO:g}, gate {GATE_RATIO:g})")
    return int(not SHORT and (cpu < GATE_RATIO or used["ours"] > GATE_MB))


def _memory_of(side: str) -> float:
    command = [sys.executable, "-m", "tests.bench.bench_conley", side]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        memory(sys.argv[1])
    else:
        sys.exit(main())
