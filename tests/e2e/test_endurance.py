"""A process stays as small as it was: after many calls, cancelled streams and clients."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_left_behind():
    """Twice the work leaves no more than once the work: no memory, objects, sockets, tasks, nor reserved money.

    `python -m benchmarks endurance` does the same with 50,000 calls, 5,000 streams and 500 clients.
    """
    work = ("--calls", "2000", "--streams", "800", "--clients", "400", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "endurance", *work], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for growth in json.loads(done.stdout):
        assert growth["times"] >= 200
        # One small object for each would be 200 objects, and 10,000 bytes at the very least.
        assert growth["objects"] < 100, growth
        assert growth["bytes"] < 10_000, growth
        assert (growth["sockets"], growth["tasks"], growth["held"]) == (0, 0, 0), growth
