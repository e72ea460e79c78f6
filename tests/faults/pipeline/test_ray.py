"""Runs on a Ray cluster of several nodes, whose processes and nodes are killed: exact all the same.

LLM_COMMON_KILL_RUNS=100 makes it long (some minutes); the suite kills fewer.
"""

import asyncio
import importlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_common.cli.context import NODE_PIPELINE
from llm_common.exceptions import ConfigurationError, ContentPolicyError, PipelineError
from llm_common.pipeline import Item, RayEngine
from llm_common.pipeline.engines.ray import _Crew
from llm_common.pipeline.engines.ray_actor import PipelineActor
from llm_common.pipeline.engines.ray_connection import connected
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply
from llm_common.testing.analyst import answer_search
from tests.faults.pipeline import ray_host
from tests.faults.pipeline.killed_runs import (
    MODELS,
    Provider,
    every_run_completed_once,
    expire_what_died,
    items,
    no_finished_step_was_paid_again,
    rows,
    spent,
)
from tests.support.programs import Program, running

ray: Any = pytest.importorskip("ray", reason="Ray has no wheel for this Python")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs several loopback addresses, and /proc"),
    pytest.mark.xdist_group("ray"),  # one cluster for all of them
]
_log = logging.getLogger(__name__)

RUNS = int(os.environ.get("LLM_COMMON_KILL_RUNS", "12"))
PROGRAM = str(Path(__file__).with_name("ray_cluster.py"))
BILLS, DUTIES, BROKEN, TWICE = (
    f"tests.faults.pipeline.ray_host:{name}" for name in ("bills", "duties", "broken", "twice")
)


class Cluster:
    """A program with a cluster of its own. `settings` is the file that its workers' pipelines are described by."""

    def __init__(self, program: Program, settings: Path) -> None:
        self._program, self.settings = program, settings
        self.address = program.line()

    def kill(self, what: str) -> int:
        """Kill a "worker" or a "node"; how many processes that were, 0 where none was at work."""
        self._program.send(what)
        return int(self._program.line())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not below pytest's folder: the path of a Unix socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    settings = folder / "settings.json"
    plain = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment = {**plain, "RAY_HOST_SETTINGS": str(settings), "PYTHONPATH": str(Path.cwd())}
    try:
        with running(PROGRAM, folder, env=environment) as program, pytest.MonkeyPatch.context() as patch:
            started = Cluster(program, settings)
            patch.setenv("RAY_ADDRESS", started.address)
            patch.setenv("RAY_HOST_SETTINGS", str(settings))
            yield started
            ray.shutdown()
            program.finish()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # its processes may still be writing their logs


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    with FakeProvider.serve_in_thread(answer=provider.chat, search_answer=answer_search) as provider.fake:
        yield provider


@pytest.fixture
def deploy(cluster: Cluster, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeProvider, float], None]:
    """Configures the hosts, on the nodes and here: whom they ask, how long a lease is good for."""

    def deployed(fake: FakeProvider, lease_seconds: float) -> None:
        environment = fake.environment()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        described = {"dsn": dsn, "environment": environment, "lease_seconds": lease_seconds}
        cluster.settings.write_text(json.dumps(described))

    return deployed


Deploy = Callable[[FakeProvider, float], None]


async def killed_while(working: "asyncio.Future[Any]", cluster: Cluster, provider: Provider) -> Counter[str]:
    """After every few calls a worker is killed, and sometimes a node; how many of each."""
    chance, kills, next_at = random.Random(3), Counter[str](), 4
    orders = ("worker", "node", "worker", "worker", "worker", "worker")
    while not working.done():
        if len(provider.asked) >= next_at:
            order = orders[kills.total() % len(orders)]
            kills[order] += await asyncio.to_thread(cluster.kill, order) > 0
            next_at = len(provider.asked) + chance.randint(6, 14)
        await asyncio.sleep(0.02)
    return kills


async def test_killed_at_random(cluster: Cluster, deploy: Deploy, provider: Provider, dsn: str) -> None:
    """Workers and whole nodes are killed: every run completes once, and what the provider billed is there."""
    deploy(provider.fake, 2.0)
    async with ray_host.bills() as pipeline:
        engine = RayEngine(BILLS, runs_per_actor=4)
        working = asyncio.ensure_future(pipeline.run_many(items(RUNS), MODELS, engine=engine, concurrency=8))
        kills = await killed_while(working, cluster, provider)
        results = await working
    assert kills["worker"] > 0
    assert kills["node"] > 0
    assert [result.answer().bill_id for result in results] == [f"AB-{number}" for number in range(RUNS)]
    await every_run_completed_once(dsn, RUNS)
    await no_finished_step_was_paid_again(dsn, provider, RUNS)
    await expire_what_died(dsn)
    assert await spent(dsn) >= round(provider.fake.billed_usd, 9)
    assert await rows(dsn, "SELECT count(*) FROM cost_reservations") == [(0,)]
    assert await rows(dsn, "SELECT * FROM check_cost_ledger('default')") == []
    told = (RUNS, dict(kills), len(provider.fake.requests), provider.fake.billed_usd, await spent(dsn))
    _log.info("%d runs, kills %s, %d requests, billed %.6f, spent %.6f", *told)


async def all_actors_are_gone() -> None:
    async with asyncio.timeout(30):
        while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
            await asyncio.sleep(0.05)


async def test_not_killed(deploy: Deploy, provider: Provider, dsn: str) -> None:
    """Left alone, it spends to the cent what was billed, asks for each step once, and a second time for nothing."""
    deploy(provider.fake, 60.0)
    async with ray_host.bills() as pipeline:
        results = await pipeline.run_many(items(RUNS), MODELS, engine="ray", factory=BILLS)
        assert [result.error for result in results] == [None] * RUNS
        again = await pipeline.run_many(items(RUNS), MODELS, engine="ray", factory=BILLS)
        assert [result.analysis for result in again] == [result.analysis for result in results]
        assert await pipeline.run_many(items(RUNS), MODELS) == results
    await every_run_completed_once(dsn, RUNS)
    await no_finished_step_was_paid_again(dsn, provider, RUNS)
    assert await rows(dsn, "SELECT count(*) FROM cost_reservations") == [(0,)]
    assert float(await spent(dsn)) == pytest.approx(float(provider.fake.billed_usd), abs=RUNS * 1e-8)
    assert set(Counter(call for call, _ in provider.asked).values()) == {1}
    await all_actors_are_gone()


async def test_leaving_gives_the_runs_back(deploy: Deploy, dsn: str) -> None:
    """Left in the middle, the runs under way are in the queue again, nothing is reserved, and the actors are gone."""
    hanging = threading.Event()

    def chat(request: ChatRequest) -> Reply:
        hanging.set()
        return Reply(text="{}", delay=3600.0)

    with FakeProvider.serve_in_thread(answer=chat, search_answer=answer_search) as fake:
        deploy(fake, 60.0)
        async with ray_host.bills() as pipeline:
            working = asyncio.ensure_future(pipeline.run_many(items(3), MODELS, engine="ray", factory=BILLS))
            while not hanging.is_set():
                await asyncio.sleep(0.02)
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert await rows(dsn, "SELECT status, attempts FROM pipeline_runs") == [("queued", 0)] * 3
            assert await rows(dsn, "SELECT count(*) FROM cost_reservations") == [(0,)]
            await all_actors_are_gone()


async def test_actors_out_of_service(deploy: Deploy, provider: Provider, dsn: str) -> None:
    """What an actor had in hand goes to another one if it cannot go on; without any, the run is left for later."""
    deploy(provider.fake, 1.0)
    async with ray_host.bills() as pipeline:
        ours = await pipeline.enqueue(items(2), MODELS)
        first, second = (str(run.run_id) for run in ours)
        actor_type = ray.remote(num_cpus=0.1, max_restarts=-1, max_task_retries=-1)(PipelineActor)
        actors = [actor_type.remote(TWICE, pipeline.code_version) for _ in range(2)]
        crew = _Crew(ray, actors, TWICE)
        for actor in actors:
            await actor.check.remote()
        await crew.is_ready()
        working = asyncio.ensure_future(crew.finish(first))
        while not provider.asked:
            await asyncio.sleep(0.02)
        at_work = next(actor for actor, runs in crew._in_hand.items() if runs)
        ((worker,),) = await rows(dsn, "SELECT worker FROM pipeline_runs WHERE status = 'running'")
        os.kill(int(worker.split(":")[1]), signal.SIGKILL)
        await working
        ray.kill(next(actor for actor in actors if actor is not at_work))
        with pytest.raises(PipelineError, match=f"run {second} is left: no actor"):
            await crew.finish(second)
        await crew.close()
    assert await rows(dsn, "SELECT bill_id FROM pipeline_runs WHERE status = 'completed'") == [("AB-0",)]


async def test_what_is_not_installed_on_the_nodes_is_told(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actors whose code is only here are no reason to wait, or to try without end."""
    (tmp_path / "only_here.py").write_text("class Actor:\n    async def check(self): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    actor_type = ray.remote(max_restarts=-1, max_task_retries=-1)(importlib.import_module("only_here").Actor)
    connected()
    crew = _Crew(ray, [actor_type.remote()], BILLS)
    told = "ModuleNotFoundError: No module named 'only_here'; install llm-common and the factory's module on every node"
    with pytest.raises(ConfigurationError, match=told):
        await crew.is_ready()
    await crew.close()


def answer_duties(request: ChatRequest) -> Answer | Fault:
    if "AB-1" in request.last_user_text:
        return Fault.content_filter()
    asked = set((request.schema or {}).get("properties", {}))
    if asked == {"queries"}:
        return Answer(json.dumps({"queries": ["who pays the county"]}))
    if "passed" in asked:
        return Answer(json.dumps({"passed": True, "critique": "", "missing_impacts": [], "factual_errors": []}))
    claims = [{"who": "the board", "citations": [{"source": "BILL", "quote": "The board shall pay $1,000"}]}]
    return Answer(json.dumps({"insufficient_evidence": False, "summary": "", "confidence": None, "claims": claims}))


async def test_results_and_errors_are_the_hosts_own(deploy: Deploy) -> None:
    """A schema of one's own comes back as its type; what fails is the error that the step raised, with its fields."""
    with FakeProvider.serve_in_thread(answer=answer_duties, search_answer=answer_search) as fake:
        deploy(fake, 60.0)
        async with ray_host.duties() as pipeline:
            many = [*items(2), Item("AB-2", "", "California")]
            good, refused, empty = await pipeline.run_many(many, MODELS, engine="ray", factory=DUTIES)
            (duty,) = good.answer().claims
            assert type(duty) is ray_host.Duty
            assert (duty.who, duty.citations[0].quote) == ("the board", "The board shall pay $1,000")
            assert type(refused.error) is ContentPolicyError
            assert (refused.error.provider, refused.error.model) == ("openrouter", "z-ai/glm-5.3")
            assert refused.error.attempts
            assert refused.error.__notes__ == [
                f"run {refused.run_id} is failed; it goes on from its last finished step"
            ]
            assert "bill_text is empty" in str(empty.error)


@pytest.mark.parametrize(
    ("factory", "kind", "told"),
    [
        ("tests.faults.nowhere:bills", ConfigurationError, "there is no module 'tests.faults.nowhere'"),
        (DUTIES, ConfigurationError, "gives a pipeline of code duties@"),
        (BROKEN, RuntimeError, "this host has no such setting"),
        (NODE_PIPELINE, ConfigurationError, "DATABASE_URL is not set on a node"),
    ],
    ids=["missing", "another spec", "broken", "no settings"],
)
async def test_a_factory_that_is_not_right_is_told_at_once(
    deploy: Deploy, provider: Provider, dsn: str, factory: str, kind: type[Exception], told: str
) -> None:
    """Nothing is enqueued where the workers cannot open the pipeline, or open another one; the error names why."""
    deploy(provider.fake, 60.0)
    async with ray_host.bills() as pipeline:
        with pytest.raises(kind, match=told) as raised:
            await pipeline.run_many(items(1), MODELS, engine="ray", factory=factory)
    assert raised.value.__notes__ == [f"raised by the factory {factory} on a Ray worker"]
    assert await rows(dsn, "SELECT count(*) FROM pipeline_runs") == [(0,)]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (("-c", "from llm_common.cli import main; main()", "analyze", "--engine", "ray"), "3 of 3 analysed"),
        (("examples/analysis_on_ray.py", "--concurrency", "2"), "AB-2: The board shall pay"),
    ],
    ids=["command line", "example"],
)
async def test_a_folder_in_one_command(
    cluster: Cluster, provider: Provider, dsn: str, tmp_path: Path, program: tuple[str, ...], told: str
) -> None:
    """With the settings of the nodes, shipped with the job as `ray job submit` does it."""
    for item in items(3):
        (tmp_path / f"{item.bill_id}.txt").write_text(item.bill_text)
    settings = {**provider.fake.environment(), "DATABASE_URL": dsn}
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": settings}})}
    command = [sys.executable, *program, str(tmp_path), "--jurisdiction", "California"]
    done = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **settings, **job}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
    await every_run_completed_once(dsn, 3)


@pytest.mark.parametrize(
    ("address", "told"),
    [("127.0.0.1:1", "nothing answers there"), ("local", "Ray would start a cluster of its own")],
)
async def test_without_a_cluster(
    deploy: Deploy, provider: Provider, dsn: str, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    """A cluster that is not there is told at once, with what to do, before anything is written; none is started."""
    deploy(provider.fake, 60.0)
    await asyncio.to_thread(ray.shutdown)
    monkeypatch.setenv("RAY_ADDRESS", address)
    async with ray_host.bills() as pipeline:
        with pytest.raises(ConfigurationError, match=told) as raised:
            await pipeline.run_many(items(1), MODELS, engine="ray", factory=BILLS)
    assert f"RAY_ADDRESS is {address}" in str(raised.value)
    assert "ray start --head" in str(raised.value)
    assert not ray.is_initialized()
    assert await rows(dsn, "SELECT count(*) FROM pipeline_runs") == [(0,)]
