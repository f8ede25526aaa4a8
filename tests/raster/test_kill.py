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
    import sys
    import numpy as np
    import causalsat as cs
    import causalsat.raster.job, jax, pyarrow.parquet, rasterio, pyproj, geopandas
    rasters, places, out, encoder, shard_rows = sys.argv[1:]
    chosen = "bands" if encoder == "bands" else cs.Rcf(n_features=16, n_patches=400, n_fit=6)
    held = np.load(places)
    frame = {"site": held["site"], "longitude": held["longitude"], "latitude": held["latitude"]}
    print("ready", flush=True)
    cs.embed(rasters, frame, embedding_key="site", encoder=chosen, size_m=160, out=out, progress=False,
             shard_rows=int(shard_rows))
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
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors


def n_parts(out):
    return len(list((out / "parts").glob("part-*")))


def kill_at(child, out, target, delay):
    """Kill ``delay`` seconds after the job has ``target`` parts; whether it was still running."""
    while n_parts(out) < target and child.poll() is None:
        time.sleep(0.0005)
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    return child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    np.savez(folder / "places.npz", **{k: np.array(v) for k, v in jobs.table(N_PLACES).items()})
    return jobs.raster(folder), folder / "places.npz", folder


@pytest.mark.parametrize(("encoder", "kills"), [("bands", 16), ("rcf", N_KILLS - 16)])
def test_a_killed_job_resumes_to_equal_bytes(job, encoder, kills):
    scene, places, folder = job
    finish(start(scene, places, folder / f"{encoder}-whole", encoder))
    whole = jobs.contents(folder / f"{encoder}-whole")
    total = n_parts(folder / f"{encoder}-whole")
    assert total == N_PLACES // SHARD_ROWS
    rng = np.random.default_rng(20)
    done, chain, interrupted = 0, 0, 0
    while done < kills:
        out = folder / f"{encoder}-{chain}"
        alive = True
        while alive and done < kills:
            # Kills are timed by the parts on disk and not by a clock, so that a busy machine tests the same moments:
            # one in five falls into the set-up, the others a few milliseconds after a random part.
            early = rng.random() < 0.2
            target = 0 if early else n_parts(out) + int(rng.integers(1, total // 4))
            if target > total:
                break
            alive = kill_at(start(scene, places, out, encoder), out, target, rng.uniform(0.0, 0.3 if early else 0.005))
            done += alive
            interrupted += alive and 0 < n_parts(out) < total
        finish(start(scene, places, out, encoder))
        assert jobs.contents(out) == whole
        assert jobs.stored_request(out) == jobs.stored_request(folder / f"{encoder}-whole")
        chain += 1
    # The test is empty unless kills met jobs in the middle of their parts.
    assert interrupted >= kills // 2
