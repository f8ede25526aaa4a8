"""RCF features: images per second and CPU time per image against the same formula in NumPy and SciPy.

512 features (256 filters of 6 x 6 x 3) on images of 64 pixels, and of 256 pixels in the long form. All sides run on one
processor with BLAS on one thread, interleaved in one process; the answers are compared before anything is timed. Medians
of CPU time; the gates are on ratios. ``CAUSALSAT_BENCH_SHORT=1`` uses fewer images and repeats.

The matrix product is common to NumPy and us, so its own time is printed too: it bounds what a sweep can gain without
another algorithm.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

BANDS, PATCH, FILTERS = 3, 6, 256
GOALS = {64: 5.0, 256: 3.0}
GATE_NUMPY, GATE_SCIPY = 1.0, 5.0


def numpy_features(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Windows and one matrix product per image."""
    features = []
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(0, 1))
        response = windows.transpose(0, 1, 3, 4, 2).reshape(-1, PATCH * PATCH * BANDS) @ filters.T
        features.append(np.concatenate([np.maximum(response, 0).mean(axis=0), np.maximum(-response, 0).mean(axis=0)]))
    return np.stack(features)


def scipy_fft_features(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """``fftconvolve`` with flipped filters, per image and all filters at once."""
    from scipy.signal import fftconvolve

    kernels = filters.reshape(-1, PATCH, PATCH, BANDS)[:, ::-1, ::-1]
    features = []
    for image in images:
        response = fftconvolve(image[None], kernels, mode="valid", axes=(1, 2)).sum(axis=3).reshape(len(filters), -1)
        features.append(np.concatenate([np.maximum(response, 0).mean(axis=1), np.maximum(-response, 0).mean(axis=1)]))
    return np.stack(features)


def scipy_direct_features(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """``correlate2d`` per image, filter and band."""
    from scipy.signal import correlate2d

    kernels = filters.reshape(-1, PATCH, PATCH, BANDS)
    features = np.empty((len(images), 2 * len(filters)), np.float32)
    for i, image in enumerate(images):
        for k, kernel in enumerate(kernels):
            response = sum(correlate2d(image[..., c], kernel[..., c], mode="valid") for c in range(BANDS))
            features[i, k] = np.maximum(response, 0).mean()
            features[i, len(filters) + k] = np.maximum(-response, 0).mean()
    return features


def our_features(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """The kernel that the encoder calls."""
    from causalsat.kernels.precision import float64
    from causalsat.kernels.rcf import rcf_features

    with float64():
        return np.asarray(rcf_features(images, np.ones(images.shape[:3], bool), filters, np.float32(0), patch=PATCH))


def seconds(call: Callable[[], np.ndarray]) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def product_only(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """The bare matrix product of NumPy's side, on windows made beforehand."""
    side = images.shape[1] - PATCH + 1
    windows, response = (
        np.ones((side * side, filters.shape[1]), np.float32),
        np.empty((side * side, len(filters)), np.float32),
    )
    for _ in images:
        np.matmul(windows, filters.T, out=response)
    return response


def main() -> int:
    """Compare, time, print; 1 when a gate is missed."""
    short = os.environ.get("CAUSALSAT_BENCH_SHORT") == "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax
    import scipy

    print(f"RCF, {2 * FILTERS} features, {PATCH} x {PATCH} x {BANDS}; one processor, BLAS on one thread")
    print(f"python {sys.version.split()[0]}, numpy {np.__version__}, scipy {scipy.__version__}, jax {jax.__version__}")
    with threadpool_limits(1):
        missed = [side for side in ((64,) if short else (64, 256)) if not one_size(side, short)]
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    return 1 if missed else 0


def one_size(side: int, short: bool) -> bool:
    """Whether the gates hold at one image size."""
    rng = np.random.default_rng(0)
    n = 32 if side <= 64 else 8
    images = rng.random((n, side, side, BANDS), dtype=np.float32) - np.float32(0.5)
    filters = rng.standard_normal((FILTERS, PATCH * PATCH * BANDS)).astype(np.float32)
    first = seconds(lambda: our_features(images, filters))
    sides = {"causalsat": (our_features, n), "NumPy windows + matmul": (numpy_features, 8 if short else n)}
    if side <= 64:
        sides |= {"SciPy fftconvolve": (scipy_fft_features, 2), "SciPy correlate2d": (scipy_direct_features, 1)}
    expected = our_features(images, filters)
    exact = numpy_features(images[:2].astype(np.float64), filters.astype(np.float64))
    np.testing.assert_allclose(expected[:2], exact, rtol=1e-5)
    for name, (run, m) in sides.items():
        # NumPy adds 63,001 float32 rows one after another at 256 pixels and loses a digit there.
        rtol = 1e-5 if side <= 64 else 5e-5
        np.testing.assert_allclose(run(images[:m], filters), expected[:m], rtol=rtol, err_msg=name)
    sides["(NumPy's product alone)"] = (product_only, n)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(3 if short else 7):
        for name, (run, m) in sides.items():
            cpu, wall = seconds(lambda run=run, m=m: run(images[:m], filters))
            times[name].append((cpu / m, wall / m))
    return report(side, times, first)


def report(side: int, times: dict[str, list[tuple[float, float]]], first: tuple[float, float]) -> bool:
    """Print one line per side; whether the gates hold."""
    medians = {name: [statistics.median(p[i] for p in pairs) for i in (0, 1)] for name, pairs in times.items()}
    ratios = {name: cpu / medians["causalsat"][0] for name, (cpu, _) in medians.items()}
    print(f"{side} px: answers equal to 1e-5 relative; first call (trace and compile) {first[0]:.2f} CPU s")
    for name, (cpu, wall) in medians.items():
        print(f"  {name:24s} {cpu * 1e3:8.2f} ms CPU/image  {1 / wall:8.1f} images/s  ratio {ratios[name]:6.2f}")
    numpy_ratio = ratios["NumPy windows + matmul"]
    verdict = "reached" if numpy_ratio >= GOALS[side] else "missed"
    print(
        f"  goal {GOALS[side]:g} x NumPy: {verdict} ({numpy_ratio:.2f}); gates {GATE_NUMPY:g} x NumPy, {GATE_SCIPY:g} x SciPy"
    )
    scipy_ratios = [ratio for name, ratio in ratios.items() if name.startswith("SciPy")]
    return numpy_ratio >= GATE_NUMPY and all(ratio >= GATE_SCIPY for ratio in scipy_ratios)


if __name__ == "__main__":
    raise SystemExit(main())
