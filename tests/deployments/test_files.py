"""What the files in deployments/ name must be there; tests/e2e/compose.py starts them all, where there is an engine."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import prefect
import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields

from flows.watch.watched_folder import FOLDER_OPTIONS
from tasks.executors.pool import AUTOMATIONS, REFUSED

FOLDER = Path(__file__).parents[2] / "deployments"
TOP = FOLDER.parent
DEPLOYMENTS = {one["name"]: one for one in yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]}
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
IMAGE_ENVIRONMENT = {
    name: value
    for line in (FOLDER / "Dockerfile").read_text().splitlines()
    if line.startswith("ENV ")
    for name, value in (pair.split("=", 1) for pair in line.split()[1:])
}
POOLS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "pools").glob("*.json"))}
DEFAULTS = {
    kind: found["default_base_job_configuration"]
    for workers in json.loads(
        (Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json").read_text()
    ).values()
    for kind, found in workers.items()
}


def flow_of(name: str) -> Flow[..., Any]:
    module, _, function = DEPLOYMENTS[name]["entrypoint"].rpartition(".")
    return getattr(import_module(module), function)


def is_command(word: str) -> bool:
    """Whether it is installed with narrowcast, or with the image's Debian."""
    return (Path(sys.executable).parent / word).exists() or word in ("sh", "python") or (TOP / word).is_file()


# --- prefect.yaml --------------------------------------------------------------------------------------------------


def test_there_is_a_deployment_of_every_flow():
    assert set(DEPLOYMENTS) == {
        "auto-mixed-precision",
        "auto-with-approval",
        "layer-wise",
        "watch-models",
        "probe-shard",
    }


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_is_of_a_flow_and_gives_it_parameters_it_has(name):
    flow = flow_of(name)
    assert isinstance(flow, Flow) and flow.name == name
    assert DEPLOYMENTS[name].get("parameters", {}).keys() <= inspect.signature(flow.fn).parameters.keys()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_form_explains_every_parameter(name):
    schema = flow_of(name).parameters.model_dump()
    fields = dict(schema["properties"])
    for kind, inner in schema.get("definitions", {}).items():
        fields |= {f"{kind}.{field}": facts for field, facts in inner.get("properties", {}).items()}
    assert [field for field, facts in fields.items() if not facts.get("description")] == []
    assert [field for field, facts in fields.items() if not facts.get("title") and "$ref" not in str(facts)] == []


def test_runs_and_their_shards_wait_in_different_queues():
    queues = {name: one["work_pool"]["work_queue_name"] for name, one in DEPLOYMENTS.items()}
    assert queues.pop("probe-shard") == "shards"
    assert set(queues.values()) == {"runs"}
    assert "set-concurrency-limit runs" in (FOLDER / "setup.sh").read_text()


def test_schedule_and_trigger_are_what_prefect_understands():
    watch = DEPLOYMENTS["watch-models"]
    assert [CronSchedule(**one).cron for one in watch["schedules"]] == ["*/10 * * * *"]
    (trigger,) = [DeploymentEventTrigger.model_validate(one) for one in watch["triggers"]]
    assert trigger.expect == {"narrowcast.model.arrived"}
    assert trigger.parameters.keys() <= inspect.signature(flow_of("watch-models").fn).parameters.keys()


def test_lost_runs_are_marked_by_automations_that_setup_makes_and_runs_send_heartbeats():
    automations = yaml.safe_load((FOLDER / "automations.yaml").read_text())["automations"]
    setup = (FOLDER / "setup.sh").read_text()
    heard = {
        "prefect.flow-run." + name for name in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", REFUSED)
    }
    for automation in map(AutomationCore.model_validate, automations):
        assert f'"{automation.name}"' in setup
        assert heard <= automation.trigger.expect
    assert tuple(automation["name"] for automation in automations) == AUTOMATIONS
    assert "deployments/automations.yaml" in setup
    assert f"within: {automations[1]['trigger']['within']}/" in setup
    related = [automation["trigger"]["match_related"] for automation in automations]
    modules = (import_module(f"flows.{path.stem}") for path in (TOP / "flows").glob("*.py") if path.stem != "__init__")
    flows = {found.name for module in modules for found in vars(module).values() if isinstance(found, Flow)}
    assert {*related[0]["prefect.resource.name"]} == flows > DEPLOYMENTS.keys()
    assert related[1]["prefect.resource.id"] == "prefect.tag.narrowcast"
    assert all("narrowcast" in one["tags"] for one in DEPLOYMENTS.values())
    for deployment in DEPLOYMENTS.values():
        seconds = int(deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert 2 * seconds < automations[0]["trigger"]["within"]


@pytest.mark.parametrize(("kind", "action"), [("message", "send-notification"), ("webhook", "call-webhook")])
def test_notifications_are_automations_on_the_events_of_runs_that_went_wrong(kind, action):
    content = (FOLDER / "notifications" / f"{kind}.yaml").read_text()
    (one,) = yaml.safe_load(content.replace("block_document_id: BLOCK", f"block_document_id: {UUID(int=1)}"))[
        "automations"
    ]
    automation = AutomationCore.model_validate(one)
    assert automation.name == f"narrowcast {kind}" and 'delete "narrowcast $kind"' in (FOLDER / "notify.sh").read_text()
    assert automation.trigger.expect == {f"narrowcast.run.{ending}" for ending in ("missed", "failed", "waiting")}
    assert [(done.type, done.block_document_id) for done in automation.actions] == [(action, UUID(int=1))]
    assert os.access(FOLDER / "notify.sh", os.X_OK)


# --- work pools ----------------------------------------------------------------------------------------------------


def leaves(value: Any, place: tuple[str, ...] = ()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, place)
    else:
        yield place, value


@pytest.mark.parametrize("kind", POOLS)
def test_a_template_is_prefects_own_with_less_in_it(kind):
    ours, theirs = POOLS[kind], DEFAULTS[kind]
    assert ours["job_configuration"].keys() <= theirs["job_configuration"].keys()
    for name, variable in ours["variables"]["properties"].items():
        if name in theirs["variables"]["properties"]:
            assert variable.keys() - {"default"} <= theirs["variables"]["properties"][name].keys()
    placeholders = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(ours["job_configuration"])))
    assert placeholders == ours["variables"]["properties"].keys()


def test_containers_find_the_cache_where_their_image_has_it():
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for kind in ("docker", "kubernetes"):
        assert POOLS[kind]["variables"]["properties"]["env"]["default"]["NARROWCAST_CACHE"] == "/cache"
        assert "/cache" in json.dumps(POOLS[kind]["job_configuration"]) + json.dumps(
            POOLS[kind]["variables"]["properties"].get("volumes", {})
        )
    assert "NARROWCAST_CACHE=/cache" in dockerfile


# --- containers ----------------------------------------------------------------------------------------------------


def test_the_image_is_made_of_files_that_are_there():
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    allowed = {line[1:] for line in (TOP / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [source for verb, rest in instructions if verb == "COPY" for source in rest.split()[:-1]]
    assert {"pyproject.toml", "quant_core", "tasks", "flows", "deployments"} <= set(copied) <= allowed
    assert all((TOP / source).exists() for source in copied)
    (install,) = [rest for verb, rest in instructions if verb == "RUN" and "pip install" in rest]
    constraints = shlex.split(install)[shlex.split(install).index("--constraint") + 1]
    assert (TOP / constraints).is_file()
    (command,) = [json.loads(rest) for verb, rest in instructions if verb == "CMD"]
    assert is_command(command[0])


def test_the_image_writes_where_its_user_may():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    (owned,) = [line.rpartition(" ")[2] for line in lines if "install --directory --owner narrowcast" in line]
    assert IMAGE_ENVIRONMENT["PREFECT_SERVER_UI_STATIC_DIRECTORY"] != owned, "Prefect removes the folder first"
    folders = [value for name, value in IMAGE_ENVIRONMENT.items() if value.startswith("/") and "URL" not in name]
    assert len(folders) == 3 and all(Path(folder).is_relative_to(owned) for folder in folders)


def test_what_containers_set_is_what_prefect_knows():
    given = {name for one in SERVICES.values() for name in one.get("environment", {})} | IMAGE_ENVIRONMENT.keys()
    assert {name for name in given if name.startswith("PREFECT_")} <= _get_settings_fields(Settings).keys()


@pytest.mark.parametrize("name", [name for name, one in SERVICES.items() if one["image"] == "narrowcast:latest"])
def test_a_service_of_ours_runs_what_the_image_has(name):
    service = SERVICES[name]
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert is_command(service["command"][0])
    if service["command"][0] == "sh":
        for part in service["command"][2].split("&&"):
            assert is_command(shlex.split(part)[0])


def test_services_wait_for_services_and_use_volumes_that_are_there():
    assert {"postgres", "store", "server", "setup", "worker"} == set(SERVICES)
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])


def test_every_variable_is_in_the_example_of_the_environment():
    wanted = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    given = re.findall(r"^(\w+)=", (FOLDER / "compose.env.example").read_text(), re.M)
    assert wanted == set(given)


def test_the_places_of_the_deployments_are_set_where_they_are_made():
    wanted = set(re.findall(r"\{\{ \$(\w+) \}\}", (FOLDER / "prefect.yaml").read_text()))
    assert wanted <= SERVICES["setup"]["environment"].keys()
    assert all(name in (FOLDER / "README.md").read_text() for name in wanted)


def test_the_setup_is_a_program_that_names_files_that_are_there():
    script = FOLDER / "setup.sh"
    assert os.access(script, os.X_OK)
    if shell := shutil.which("sh"):
        subprocess.run([shell, "-n", script], check=True)
    assert set(POOLS) == {"process", "docker", "kubernetes"}
    assert (TOP / "deployments/prefect.yaml").is_file()


def test_the_readme_names_the_files_there_are():
    text = (FOLDER / "README.md").read_text()
    for name in (
        "setup.sh",
        "prefect.yaml",
        "automations.yaml",
        "compose.yaml",
        "Dockerfile",
        "pools/",
        "constraints.txt",
        FOLDER_OPTIONS,
    ):
        assert name in text, name
