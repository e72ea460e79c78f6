"""A Ray cluster on this machine: `python ray_cluster.py FOLDER`, which prints its address and takes orders, by line.

Its head carries nothing; two further nodes of one CPU each do. "worker" kills one of their processes with SIGKILL, at
random; "node" kills a whole node that carries something, and adds another one. The answer is the number of processes
killed. The end of the orders ends the cluster.

Each node has a loopback address of its own, because Ray replaces 127.0.0.1 by an address of the machine.
"""

import os
import random
import signal
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

ACTOR = "ray::PipelineActor"
MEMORY = 80 * 2**20
#: A node that was killed is missed within a second instead of 15.
SYSTEM = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
addresses = (f"127.0.0.{number}" for number in count(2))
chance = random.Random(7)


def started(folder: str) -> Cluster:
    # Ray notes its newest cluster there, and expects the folder; on a machine of its own it would be /tmp/ray.
    os.environ["RAY_TMPDIR"] = folder
    Path(folder, "ray").mkdir()
    head: dict[str, Any] = {
        "node_ip_address": next(addresses),
        "num_cpus": 0,
        "include_dashboard": False,
        "object_store_memory": MEMORY,
        "_system_config": SYSTEM,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        added(cluster)
    cluster.wait_for_nodes()
    return cluster


def added(cluster: Cluster) -> None:
    cluster.add_node(wait=False, node_ip_address=next(addresses), num_cpus=1, object_store_memory=MEMORY)


def below(parent: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def actors(raylet: int) -> list[int]:
    found: list[int] = []
    for process in below(raylet):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{process}/cmdline").read_text().startswith(ACTOR):
                found.append(process)
    return found


def raylet_of(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def kill_worker(cluster: Cluster) -> int:
    at_work = [actor for node in cluster.worker_nodes for actor in actors(raylet_of(node))]
    if not at_work:
        return 0
    kill(chance.choice(at_work))
    return 1


def kill_node(cluster: Cluster) -> int:
    at_work = [node for node in cluster.worker_nodes if actors(raylet_of(node))]
    if not at_work:
        return 0
    node = chance.choice(at_work)
    processes = below(raylet_of(node))
    cluster.remove_node(node, allow_graceful=False)
    for process in processes:
        kill(process)
    added(cluster)
    return 1 + len(processes)


def say(answer: object) -> None:
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


def main(folder: str) -> None:
    cluster = started(folder)
    say(cluster.address)
    orders = {"worker": kill_worker, "node": kill_node}
    for order in sys.stdin:
        say(orders[order.strip()](cluster))
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
