"""Small studies for the tests of this room."""

import numpy as np

from causalsat.study.open import Role, Study, open_study

ROLES = (
    Role("outcome", "y", "numeric"),
    Role("treatment", "w", "binary", many=True, missing="keep"),
    Role("covariates", ["x", "region", "urban"], "design", many=True),
)


def table(n: int = 120, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "y": rng.normal(size=n),
        "w": rng.permutation(np.arange(n) % 2).astype(np.int64),
        "x": rng.normal(size=n),
        "region": np.array(["north", "south", "west"], dtype=object)[rng.integers(0, 3, n)],
        "urban": rng.random(n) < 0.4,
        "site": np.array([f"s{i:02d}" for i in rng.integers(0, 30, n)], dtype=object),
        "lon": 30.0 + rng.random(n),
        "lat": 2.0 + rng.random(n),
    }


def permuted(data: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[order] for name, values in data.items()}


def opened(data: dict[str, np.ndarray], **more) -> Study:
    cluster = more.pop("cluster", None)
    roles = ROLES if cluster is None else (*ROLES, Role("cluster", cluster, "codes"))
    return open_study(data, roles, **more)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two codings group the rows alike."""
    pairs = len(np.unique(np.column_stack([a, b]), axis=0))
    return pairs == len(np.unique(a)) == len(np.unique(b))
