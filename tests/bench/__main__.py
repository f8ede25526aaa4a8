"""``make bench``: every benchmark in a process of its own, one after the other, on pinned BLAS threads."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run every ``bench_*.py`` and return the number that failed."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    failed = 0
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"== {path.stem}", flush=True)
        run = subprocess.run([sys.executable, "-m", f"tests.bench.{path.stem}"], env={**os.environ, **threads})
        failed += run.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
