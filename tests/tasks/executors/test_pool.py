"""Flow runs of a pool that crash, wait or come to nothing, with an API of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pyarrow as pa
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running, Scheduled

from quant_core.errors import InputError
from quant_core.storage.store import Store
from tasks.cache.keys import with_key
from tasks.cache.result_store import ResultStore
from tasks.executors import pool
from tasks.executors.executor import Step


class Api:
    """A server whose runs go through states that a test has written down, one a look; the last one stays."""

    automations = pool.AUTOMATIONS

    def __init__(self, results, lives):
        self.results, self.lives = results, [list(states) for states in lives]
        self.runs, self.ended, self.clock = {}, {}, 0.0

    def read_deployment_by_name(self, name):
        return SimpleNamespace(id=uuid4())

    def read_automations_by_name(self, name):
        return [SimpleNamespace(enabled=True)] if name in self.automations else []

    def submit(self, name, parameters, flow_run_name, timeout):
        assert parameters["stage"] == "probe"
        run = FlowRun(id=uuid4(), flow_id=uuid4(), name=flow_run_name, parameters=parameters, state=Scheduled())
        self.runs[run.id] = (run, self.lives.pop(0))
        return run

    def read_flow_runs(self, flow_run_filter, deployment_filter=None, limit=None, offset=0):
        if deployment_filter:
            return [run for run, states in self.runs.values() if states]
        return [self._next(id_) for id_ in flow_run_filter.id.any_ if id_ in self.runs]

    def _next(self, id_):
        run, states = self.runs[id_]
        state = states.pop(0) if len(states) > 1 else states[0]
        if state.name in ("Completed", "Given up"):
            key = run.parameters["key"]
            self.results.put(key, with_key(pa.table({"of": [key]}), key))
        return run.model_copy(update={"state": state})

    def set_flow_run_state(self, id_, state, force=False):
        self.ended[id_] = state.name

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass


RUNNING = Running()


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Runs as many steps as asked with runs of such states, in the order they are submitted."""
    results = ResultStore(Store(str(tmp_path)))
    workspace = SimpleNamespace(url=str(tmp_path), results=results)
    warned = []

    def run(*lives, steps=1, under_way=(), automations=pool.AUTOMATIONS, fan_outs=1):
        api = Api(results, lives)
        api.automations = automations
        monkeypatch.setattr(pool, "get_client", lambda sync_client: api)
        monkeypatch.setattr(pool, "run_deployment", api.submit)
        monkeypatch.setattr(pool, "warn", warned.append)
        monkeypatch.setattr(pool.time, "sleep", lambda seconds: setattr(api, "clock", api.clock + seconds))
        monkeypatch.setattr(pool.time, "monotonic", lambda: api.clock)
        for number, states in enumerate(under_way):
            given = {"key": f"probe-{number}", "workspace": workspace.url}
            one = FlowRun(id=uuid4(), flow_id=uuid4(), name="earlier", parameters=given, state=Scheduled())
            api.runs[one.id] = (one, list(states))
        asked = [
            Step(
                SimpleNamespace(name="probe"),
                {"key": f"probe-{n}", "label": f"probe {n}", "arguments": {}, "workspace": workspace},
                False,
            )
            for n in range(steps)
        ]
        api.done = None
        try:
            fleet = pool.PoolExecutor("a/b")
            for _ in range(fan_outs):
                api.done = [done.table["of"][0].as_py() for done in fleet.run(asked)]
        except Exception as error:
            api.error = error
        api.warned = warned
        return api

    return run


DONE = [Scheduled(), Pending(), RUNNING, Completed()]


def test_results_come_in_the_order_of_the_steps(ran):
    api = ran([Scheduled(), Scheduled(), *DONE], DONE, DONE, steps=3)
    assert api.done == ["probe-0", "probe-1", "probe-2"]
    assert api.warned == []


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ([RUNNING, Crashed()], "crashed"),
        ([RUNNING, Cancelled()], "cancelled"),
        ([RUNNING, Completed(name="Nothing")], "has left no result"),
        ([RUNNING, Crashed(message="no heartbeat")], "has crashed (no heartbeat)"),
        ([Pending(), Crashed(message="never begun")], "has crashed (never begun)"),
    ],
    ids=["crashed", "cancelled", "without result", "lost", "lost before it began"],
)
def test_a_run_that_came_to_nothing_is_replaced(ran, ending, said):
    api = ran(ending, DONE)
    assert api.done == ["probe-0"]
    assert len(api.warned) == 1 and said in api.warned[0]
    assert api.ended == {}


def test_a_run_is_waited_for_until_prefect_says_that_it_has_ended(ran):
    api = ran([*[Scheduled()] * 2000, *[Pending()] * 2000, *[RUNNING] * 2000, Completed()])
    assert api.done == ["probe-0"]
    assert [text for text in api.warned if "again" in text] == []


def test_the_result_of_a_run_that_was_wrongly_taken_for_lost_counts(ran):
    api = ran([RUNNING, Crashed(name="Given up")])
    assert (api.done, api.warned) == (["probe-0"], [])


def test_a_server_that_does_not_mark_lost_runs_is_said_once(ran):
    api = ran(DONE, DONE, automations=pool.AUTOMATIONS[:1], fan_outs=2)
    assert api.done == ["probe-0"]
    (said,) = api.warned
    assert "has no automation 'narrowcast run never begun'" in said
    assert said.endswith("deployments/setup.sh makes it")


def test_a_step_is_not_begun_for_ever(ran):
    api = ran(*[[Crashed()]] * 4)
    assert isinstance(api.error, RuntimeError)
    assert str(api.error) == "probe 0: 4 runs came to nothing; the last one has crashed"


def test_what_a_run_refuses_is_refused_and_the_others_are_cancelled(ran):
    api = ran([RUNNING, Failed(name=pool.REFUSED, message="bad model")], [RUNNING], steps=2)
    assert isinstance(api.error, InputError)
    assert str(api.error) == "probe 0: bad model"
    assert list(api.ended.values()) == ["Cancelled"]


def test_a_run_that_fails_is_a_bug(ran):
    api = ran([Failed(message="ZeroDivisionError")])
    assert type(api.error) is RuntimeError
    assert "ZeroDivisionError" in str(api.error)


def test_runs_that_an_earlier_run_of_ours_has_left_under_way_are_waited_for(ran):
    api = ran(DONE, steps=2, under_way=[DONE])
    assert api.done == ["probe-0", "probe-1"]
    assert len(api.runs) == 2


def test_no_deployment_says_what_to_do(monkeypatch):
    class Without(Api):
        def read_deployment_by_name(self, name):
            raise ObjectNotFound(None)

    monkeypatch.setattr(pool, "get_client", lambda sync_client: Without(None, []))
    with pytest.raises(InputError, match=r"has no deployment a/b; deploy it there .* set PREFECT_API_URL"):
        pool.PoolExecutor("a/b").run([Step(None, {}, False)])


def test_nobody_who_takes_the_runs_is_said_once(ran):
    api = ran([*[Scheduled()] * 300, *DONE])
    assert api.done == ["probe-0"]
    assert api.warned == ["no worker has taken a run of a/b yet: is one with a free slot there?"]
