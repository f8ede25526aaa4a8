"""A verb leaves the user's process as it found it, and gives the same bits under the user's default settings."""

import json
import subprocess
import sys

import numpy as np
import pytest

import causalsat as cs

PROGRAM = """
import json, logging, warnings
import jax, jax.numpy as jnp, numpy as np

def state():
    return {"x64": jax.config.jax_enable_x64, "ones": str(jnp.ones(2).dtype), "normal": float(jax.random.normal(jax.random.key(0))),
            "errors": np.geterr(), "filters": [str(f) for f in warnings.filters], "handlers": [str(h) for h in logging.getLogger().handlers],
            "numpy": float(np.random.get_state()[1][0])}

before = state()
import causalsat as cs
from tests.estimators.test_image_ate import BASE, study
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    data, images = study(2)
    result = cs.image_ate(data, embeddings=images, **BASE, adjust=("none", "image"), reference="none", n_boot=60)
print(json.dumps({"same": before == state(), "estimate": result.table["estimate"].tolist(), "draw": result.table.draws[-1].tolist()}))
"""


@pytest.mark.filterwarnings("ignore::causalsat.errors.PenaltyEdgeWarning")
def test_image_ate_in_a_process_with_default_settings():
    from tests.estimators.test_image_ate import BASE, study

    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["same"]
    data, images = study(2)
    result = cs.image_ate(data, embeddings=images, **BASE, adjust=("none", "image"), reference="none", n_boot=60)
    np.testing.assert_array_equal(result.table["estimate"], answer["estimate"])
    np.testing.assert_array_equal(result.table.draws[-1], answer["draw"])
