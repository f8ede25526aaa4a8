"""Importing causalsat is fast and changes nothing for the user."""

import json
import re
import subprocess
import sys

PROBE = """
import json, logging, os, sys, warnings
before = {"env": dict(os.environ), "filters": list(map(str, warnings.filters)), "root": [str(h) for h in logging.getLogger().handlers],
          "level": logging.getLogger().level, "excepthook": repr(sys.excepthook)}
import causalsat
after = {"env": dict(os.environ), "filters": list(map(str, warnings.filters)), "root": [str(h) for h in logging.getLogger().handlers],
         "level": logging.getLogger().level, "excepthook": repr(sys.excepthook)}
heavy = sorted(m for m in ("jax", "numpy", "pandas", "rasterio", "geopandas", "pyarrow", "matplotlib", "scipy", "sklearn") if m in sys.modules)
print(json.dumps({"same": before == after, "heavy": heavy}))
"""


def test_import_changes_no_global_state_and_loads_nothing_heavy():
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {"same": True, "heavy": []}


def test_import_takes_under_300_ms():
    seconds = []
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import causalsat"], capture_output=True, text=True, check=True
        )
        line = [row for row in run.stderr.splitlines() if re.search(r"\|\s+causalsat$", row)][-1]
        seconds.append(int(line.split("|")[1]) / 1e6)
    assert min(seconds) < 0.3


def test_every_public_name_loads_and_names_its_home():
    import causalsat

    for name in causalsat.__all__:
        value = getattr(causalsat, name)
        if isinstance(value, type):
            assert value.__module__ == "causalsat", name
