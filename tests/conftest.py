"""Strict settings for every test, and the real data where it is present."""

import os
from pathlib import Path

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")


def data_folder() -> Path:
    """The folder named by CAUSALSAT_DATA, else the user's cache folder."""
    named = os.environ.get("CAUSALSAT_DATA")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "causalsat"


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_do_not_pile_up():
    """Thousands of programs in one process exhaust the kernel's memory maps, and the compiler then crashes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def real_data():
    """``real_data("uganda/people.csv")`` is that file, or the test is skipped with the reason."""

    def find(name: str) -> Path:
        path = data_folder() / name
        if not path.exists():
            pytest.skip(f"real data absent: {name} is not in {data_folder()} (set CAUSALSAT_DATA)")
        return path

    return find


def pytest_collection_modifyitems(config, items):
    if config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="long coverage run: make calibration")
    for item in items:
        if item.get_closest_marker("calibration"):
            item.add_marker(skip)
