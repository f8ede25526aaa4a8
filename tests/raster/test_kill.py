"""Killed twenty times at random moments, an embedding job ends with the bytes of an unbroken run."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from tests.raster import jobs

N_PLACES, SHARD_ROWS, N_KILLS = 480, 4, 20

CHILD = textwrap.dedent(
    """
    import sys, time
    import numpy as np
    import causalsat as cs
    import causalsat.raster.job, jax, pyarrow.parquet, rasterio, pyproj, geopandas
    rasters, places, out, encoder, shard_rows = sys.argv[1:]
    chosen = "bands" if encoder == "bands" else cs.Rcf(n_features=16, n_patches=400, n_fit=6)
    held = np.load(places)
    frame = {"site": held["site"], "longitude": held["longitude"], "latitude": held["latitude"]}
    print("ready", flush=True)
    start = time.monotonic()
    cs.embed(rasters, frame, embedding_key="site", encoder=chosen, size_m=160, out=out, progress=False,
             shard_rows=int(shard_rows))
    print(time.monotonic() - start, flush=True)
    """
)


def start(scene, places, out, encoder):
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    command = [sys.executable, "-c", CHILD, str(scene), str(places), str(out), encoder, str(SHARD_ROWS)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    return child


def finish(child):
    """Seconds of the whole run."""
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    return float(output)


def kill_after(child, delay):
    """Whether the child was still running when it was killed."""
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    return child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    np.savez(folder / "places.npz", **{k: np.array(v) for k, v in jobs.table(N_PLACES).items()})
    return jobs.raster(folder), folder / "places.npz", folder


# Shares of an unbroken run's seconds between which kills fall; compiling takes the first half of the RCF job.
@pytest.mark.parametrize(("encoder", "kills", "span"), [("bands", 16, (0.0, 0.6)), ("rcf", N_KILLS - 16, (0.3, 1.0))])
def test_a_killed_job_resumes_to_equal_bytes(job, encoder, kills, span):
    scene, places, folder = job
    seconds = finish(start(scene, places, folder / f"{encoder}-whole", encoder))
    whole = jobs.contents(folder / f"{encoder}-whole")
    assert len(whole) > N_PLACES // SHARD_ROWS
    rng = np.random.default_rng(20)
    done, chain, interrupted = 0, 0, 0
    while done < kills:
        out = folder / f"{encoder}-{chain}"
        alive = True
        while alive and done < kills:
            alive = kill_after(start(scene, places, out, encoder), seconds * rng.uniform(*span))
            done += alive
            interrupted += alive and 0 < len(list((out / "parts").glob("part-*"))) < N_PLACES // SHARD_ROWS
        finish(start(scene, places, out, encoder))
        assert jobs.contents(out) == whole
        assert jobs.stored_request(out) == jobs.stored_request(folder / f"{encoder}-whole")
        chain += 1
    # The test is empty unless kills met jobs in the middle of their parts.
    assert interrupted >= 1
