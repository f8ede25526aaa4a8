"""The image-confounder simulator: bias of the unadjusted, the tabular and the image-adjusted effect, and coverage.

The corpus of fields is fixed; treatment, outcome and a tabular proxy are redrawn. The image is encoded by the filter that
the simulator uses, so the embedding keeps what confounds; a second encoder (band statistics) does not, and must show it.
Run as a script for the table: ``python -m tests.calibration.test_image_confounder``.
"""

import sys
import warnings

import numpy as np
import pytest

import causalsat as cs
from causalsat.inference.coverage import binomial_gate
from causalsat.simulate.image_confounder import filter_response, gaussian_field

N_IMAGES, SIZE, EFFECT = 500, 128, 1.0
SHORT, LONG = 200, 1000


def corpus() -> tuple[np.ndarray, np.ndarray]:
    """The confounder U (J,) of a fixed corpus, and band statistics (J, 4) that do not contain it."""
    chips = gaussian_field(N_IMAGES, SIZE, np.random.default_rng(20230129))
    flat = chips.reshape(N_IMAGES, -1)
    blind = np.column_stack([flat.mean(1), flat.std(1), np.quantile(flat, 0.1, axis=1), np.quantile(flat, 0.9, axis=1)])
    return filter_response(chips, 8), blind


def one_draw(u: np.ndarray, blind: np.ndarray, seed: int) -> dict[str, tuple[float, float, float]]:
    """Estimate and interval of every set in one replicate; ``tabular`` is a survey proxy that sees a third of U."""
    rng = np.random.default_rng([7, seed])
    m = 1 / (1 + np.exp(-(u + 0.1 * rng.standard_normal(N_IMAGES))))
    w = (rng.random(N_IMAGES) < m).astype(float)
    y = u + EFFECT * w + 0.1 * rng.standard_normal(N_IMAGES)
    proxy = u + np.sqrt(2.0) * rng.standard_normal(N_IMAGES)
    keys = np.array([f"img{i:04d}" for i in range(N_IMAGES)])
    data = {"y": y, "w": w, "proxy": proxy, "image": keys}
    found = {}
    for name, matrix in (("filter", u[:, None]), ("bands", blind)):
        images = cs.Embeddings.from_matrix(matrix.astype(np.float32), ids=keys)
        adjust = ("none", "tabular", "image") if name == "filter" else ("image",)
        result = cs.image_ate(
            data,
            outcome="y",
            treatment="w",
            covariates=["proxy"],
            embeddings=images,
            embedding_key="image",
            adjust=adjust,
            reference="none" if name == "bands" else "tabular",
            seed=seed,
        )
        for row in range(len(result.table)):
            if result.table["term"][row] == "effect":
                label = result.table["adjust"][row] if result.table["adjust"][row] != "image" else f"image ({name})"
                values = (result.table[c][row] for c in ("estimate", "conf_low", "conf_high"))
                found[label] = tuple(float(v) for v in values)
    return found


def experiment(replications: int) -> dict[str, dict[str, float]]:
    """Bias, its Monte Carlo error and coverage of every set."""
    u, blind = corpus()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.errors.CausalsatWarning)
        draws = [one_draw(u, blind, seed) for seed in range(replications)]
    report = {}
    for label in draws[0]:
        values = np.array([d[label] for d in draws])
        covered = (values[:, 1] <= EFFECT) & (values[:, 2] >= EFFECT)
        report[label] = {
            "bias": float(values[:, 0].mean() - EFFECT),
            "error": float(values[:, 0].std(ddof=1) / np.sqrt(replications)),
            "coverage": float(covered.mean()),
            "covered": int(covered.sum()),
        }
    return report


def judge(report: dict[str, dict[str, float]], replications: int) -> None:
    assert 0.6 < report["none"]["bias"] < 1.0
    assert 0.2 < report["tabular"]["bias"] < report["none"]["bias"]
    image = report["image (filter)"]
    assert abs(image["bias"]) <= 3.29 * image["error"]
    assert binomial_gate("image", image["covered"], replications, 0.95).passed
    assert report["image (bands)"]["bias"] > 0.3
    assert report["none"]["coverage"] < 0.05


def test_short():
    judge(experiment(SHORT), SHORT)


@pytest.mark.calibration
def test_long():
    report = experiment(LONG)
    judge(report, LONG)
    assert 0.93 <= report["image (filter)"]["coverage"] <= 0.97


if __name__ == "__main__":
    for label, row in experiment(int(sys.argv[1]) if len(sys.argv) > 1 else LONG).items():
        sys.stdout.write(
            f"{label:16s} bias {row['bias']:+.4f} (MC {row['error']:.4f}) coverage {row['coverage']:.3f}\n"
        )
