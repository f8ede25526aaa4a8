"""What must not change, or must change in a known way, when the study that `drive` is given is written differently."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.simulate.iv import iv

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")

N, Q = 120, 3
WAYS = (
    {},
    {"p": 2, "metric": "gmm"},
    {"shrink_to": "ols", "rho": 0.05, "weighted": True},
)
seeds = st.integers(0, 2**16)
ways = st.sampled_from(WAYS)
sizes = st.floats(-6.0, 6.0).map(lambda e: float(10.0**e))
signs = st.sampled_from((-1.0, 1.0))


def study(seed, way):
    """Columns as blocks: y (n,), X (n, p), Z (n, q), C (n, 2), w (n,)."""
    p = way.get("p", 1)
    data, _ = iv(n=N, q=Q, p=p, concentration=150.0, covariates=(0.5, -1.0), heteroskedastic=True, seed=seed)
    X = np.column_stack([data[k] for k in data if k.startswith("x")])
    Z = np.column_stack([data[f"z{j + 1}"] for j in range(Q)]) + 0.3 * data["c1"][:, None]
    rng = np.random.default_rng(seed)
    w = rng.integers(1, 4, N).astype(float) if way.get("weighted") else np.ones(N)
    return {"y": data["y"], "X": X, "Z": Z, "C": np.column_stack([data["c1"], data["c2"]]), "w": w}


def fitted(blocks, way, **given):
    columns = {"y": blocks["y"], "w": blocks["w"]}
    for name, letter in (("X", "x"), ("Z", "z"), ("C", "c")):
        columns |= {f"{letter}{j}": column for j, column in enumerate(blocks[name].T)}
    roles = {"treatment": "X", "instruments": "Z", "covariates": "C"}
    roles = {role: [f"{b.lower()}{j}" for j in range(blocks[b].shape[1])] for role, b in roles.items()}
    options = {k: v for k, v in way.items() if k not in ("p", "weighted")}
    return cs.drive(
        columns, outcome="y", **roles, weights="w" if way.get("weighted") else None,
        **({"n_boot": 0, "compare": ("ols", "tsls", "liml"), "options": cs.DriveOptions(n_law=1000)} | options | given),
    )  # fmt: skip


def numbers(result, *, factor=None, only=None):
    """(rows, 3) estimate and ends of every row, divided by the factor of its treatment; ends in order."""
    table = result.table
    at = [int(str(name)[1:]) for name in table["treatment"]]
    unit = np.ones(len(table)) if factor is None else np.asarray(factor)[at]
    found = np.column_stack([table[name] for name in ("estimate", "conf_low", "conf_high")]) / unit[:, None]
    found[:, 1:] = np.sort(found[:, 1:], axis=1)
    kept = np.ones(len(table), bool) if only is None else np.array([only(str(i)) for i in table["interval"]])
    return found[kept]


def alike(result, other, rel=1e-7, **how):
    np.testing.assert_allclose(numbers(other, **how), numbers(result, only=how.get("only")), rtol=rel, atol=rel)


@settings(max_examples=5)
@given(seed=seeds, way=ways, size=st.tuples(sizes, sizes, sizes, sizes), sign=st.tuples(signs, signs, signs))
def test_units_of_every_column(seed, way, size, sign):
    before = study(seed, way)
    j = np.arange(Q)
    y, x = size[0] * sign[0], size[1] * sign[1] * np.array([1.0, 7.0])[: before["X"].shape[1]]
    after = before | {
        "y": y * before["y"], "X": x * before["X"], "Z": sign[2] * size[2] ** (j - 1.0) * before["Z"],
        "C": size[3] * before["C"] + 5.0,
    }  # fmt: skip
    result, other = fitted(before, way), fitted(after, way)
    assert other.rho == pytest.approx(result.rho, rel=1e-8)
    # Draws of the limit law are normal vectors turned by the moments: a sign mirrors them, and quantiles move by noise.
    exact = None if min(sign) > 0.0 else lambda kind: kind != "limit"
    alike(result, other, factor=y / x, only=exact)
    error = result.table["std_error"][result.table["interval"] == "limit"][:, None]
    limits = [numbers(r, factor=f, only=lambda kind: kind == "limit") for r, f in ((result, None), (other, y / x))]
    assert (np.abs(limits[0] - limits[1]) < 0.5 * error).all()
    np.testing.assert_allclose(
        other.table["p_value"][other.table["interval"] != "limit"],
        result.table["p_value"][result.table["interval"] != "limit"], rtol=1e-6, atol=1e-12,
    )  # fmt: skip


@settings(max_examples=4)
@given(seed=seeds, way=ways)
def test_order_of_rows(seed, way):
    before = study(seed, way)
    order = np.random.default_rng(seed).permutation(N)
    alike(fitted(before, way), fitted({k: v[order] for k, v in before.items()}, way))


@settings(max_examples=5)
@given(seed=seeds, way=ways, turned=st.booleans())
def test_order_and_basis_of_the_instruments(seed, way, turned):
    before = study(seed, way)
    rng = np.random.default_rng(seed)
    turn = rng.standard_normal((Q, Q)) + 2.0 * np.eye(Q) if turned else np.eye(Q)[rng.permutation(Q)]
    result, other = fitted(before, way), fitted(before | {"Z": before["Z"] @ turn}, way)
    assert other.rho == pytest.approx(result.rho, rel=1e-8)
    assert other.lam == pytest.approx(result.lam, rel=1e-6)
    alike(result, other, only=lambda kind: kind != "limit", rel=1e-6)
    for name in ("f_classical", "f_robust", "partial_r2"):
        np.testing.assert_allclose(getattr(other.first_stage, name), getattr(result.first_stage, name), rtol=1e-7)


@settings(max_examples=4)
@given(seed=seeds, way=ways)
def test_repeated_rows_are_weights_two(seed, way):
    if "rho" not in way:
        way = way | {"rho": 0.05}
    before = study(seed, way)
    twice = np.random.default_rng(seed).random(N) < 0.4
    again = np.concatenate([np.arange(N), np.flatnonzero(twice)])
    weighted = fitted(before | {"w": before["w"] * np.where(twice, 2.0, 1.0)}, way | {"weighted": True}, sets=())
    repeated = fitted({k: v[again] for k, v in before.items()}, way, sets=())
    points = [t["estimate"] for t in (weighted.table, repeated.table)]
    # The metric of gmm is a variance of the moments, which counts a weight of two as more than two rows.
    kept = weighted.table["method"] != "drive" if way.get("metric") == "gmm" else slice(None)
    np.testing.assert_allclose(points[0][kept], points[1][kept], rtol=1e-10)
    if way.get("metric") != "gmm":
        radii = (0.0, 0.01, 0.3, 2.0)
        np.testing.assert_allclose(weighted.path(radii)["x0"], repeated.path(radii)["x0"], rtol=1e-9)


@settings(max_examples=4)
@given(seed=seeds, way=ways, size=st.sampled_from((1.0, 100.0)))
def test_a_linear_function_of_the_controls_changes_nothing(seed, way, size):
    before = study(seed, way)
    slopes = size * np.random.default_rng(seed).standard_normal((2, 1 + before["X"].shape[1] + Q))
    moved = before["C"] @ slopes + size
    p = before["X"].shape[1]
    after = before | {
        "y": before["y"] + moved[:, 0], "X": before["X"] + moved[:, 1 : 1 + p], "Z": before["Z"] + moved[:, 1 + p :],
    }  # fmt: skip
    alike(fitted(before, way), fitted(after, way))


def test_draws_follow_units_and_controls():
    way = {"n_boot": 99}
    before = study(3, way)
    after = before | {"y": 10.0 * before["y"] + before["C"] @ [3.0, -2.0], "X": before["X"] / 4.0}
    result, other = fitted(before, way), fitted(after, way)
    for method in ("drive", "tsls"):
        at = np.flatnonzero(
            (result.table["method"] == method) & np.isin(result.table["interval"], ("recentred", "wald"))
        )
        np.testing.assert_allclose(other.table.draws[:, at], 40.0 * result.table.draws[:, at], rtol=1e-8)


# Devices

LAST_DEVICE = """
import jax
from tests.estimators.test_drive_metamorphic import digest
devices = jax.devices()
with jax.default_device(devices[-1]):
    print(len(devices), digest())
"""


def digest():
    """Hash of every number and draw of a call per resampling scheme."""
    data = iv(n=200, q=3, concentration=150.0, covariates=(1.0,), clusters=40, seed=1)[0]
    roles = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3"], "covariates": "c1"}
    found = hashlib.sha256()
    for scheme in ({}, {"inference": cs.Bootstrap(99, "multiplier"), "cluster": "cluster"}):
        options = cs.DriveOptions(n_law=1000)
        table = cs.drive(data, **roles, **({"n_boot": 99, "sets": (), "options": options} | scheme)).table
        for name in ("estimate", "std_error", "conf_low", "conf_high"):
            found.update(np.ascontiguousarray(table[name]).tobytes())
        found.update(np.ascontiguousarray(table.draws).tobytes())
    return found.hexdigest()


def test_one_device_and_four_give_the_same_bits():
    import jax

    if jax.default_backend() != "cpu" or len(jax.devices()) != 1:
        pytest.skip("the reference needs a process with one CPU device")
    root = Path(__file__).resolve().parents[2]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LAST_DEVICE], env=os.environ | flags, cwd=root, capture_output=True,
        text=True, timeout=200, check=True,
    )  # fmt: skip
    assert found.stdout.split() == ["4", digest()]
