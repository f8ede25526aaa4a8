"""The statistics of a table of `drive` are named with their law, and the law gives the row's p-value."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import causalsat as cs
from causalsat.errors import WeakInstrumentWarning
from causalsat.estimators.drive_table import _test_name
from causalsat.inference.iv_sets import SetRow


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    z, u = rng.normal(size=(200, 3)), rng.normal(size=200)
    x = z @ [0.15, 0.1, 0.05] + u + rng.normal(size=200)
    return pd.DataFrame({"y": 0.3 * x + u + rng.normal(size=200), "x": x, **{f"z{j}": z[:, j] for j in range(3)}})


def p_of(statistic, name):
    """p-value of a statistic under the law in its name."""
    df, rest = re.fullmatch(r"(?:chi2|F)\((\d+)(?:, (\d+))?\)(?:/\d+)?", name).groups()
    if name.startswith("F"):
        return stats.f.sf(statistic, int(df), int(rest))
    return stats.chi2.sf(statistic * (int(df) if "/" in name else 1), int(df))


@pytest.mark.parametrize("law", ["chi2", "f"])
@pytest.mark.parametrize("q", [1, 3])
def test_names_give_the_p_values(study, law, q):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakInstrumentWarning)
        result = cs.drive(
            study, outcome="y", treatment="x", instruments=[f"z{j}" for j in range(q)], sets=("ar", "clr", "lm"),
            seed=1, options=cs.DriveOptions(ar_law=law), interval="limit",
        )  # fmt: skip
    table = result.table
    found = {
        f"{m} {i}": (s, n, p)
        for m, i, s, n, p in zip(
            *(table[c].tolist() for c in ("method", "interval", "statistic", "statistic_name", "p_value"))
        )
    }
    assert found["tsls wald"][1] == "t" and found["drive limit"][1] == ""
    expected = {"chi2": "chi2(3)/3" if q == 3 else "chi2(1)", "f": f"F({q}, {200 - q - 1})"}[law]
    assert found["ar homoskedastic"][1] == expected and found["ar robust"][1] == f"chi2({q})"
    assert found["lm homoskedastic"][1] == "chi2(1)" and found["clr homoskedastic"][1] == "conditional LR"
    for row in ("ar homoskedastic", "ar robust", "lm homoskedastic"):
        statistic, name, p = found[row]
        assert p_of(statistic, name) == pytest.approx(p, rel=1e-9)
    assert "Statistic  Test" in repr(result)


def test_a_statistic_without_p_value_claims_no_law():
    rows, choices = SimpleNamespace(p=1, q=3, d1=90), SimpleNamespace(fine=SimpleNamespace(ar_law="chi2"))
    told = {m: _test_name(SetRow(m, "x", "homoskedastic", 2.5, np.nan, None, "why"), rows, choices)
            for m in ("ar", "clr", "lm")}  # fmt: skip
    assert told == {"ar": "AR", "clr": "LR", "lm": "LM"}
    assert _test_name(SetRow("ar", "x", "homoskedastic", 2.5, 0.1, None), rows, choices) == "chi2(3)/3"
