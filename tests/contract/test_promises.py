"""What else programs written for Flyte's SDK use: storages, configuration, contexts for tests, runs as plain values, times."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import json
import pickle
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb import config, git, models, remote, storage

env = flyte.TaskEnvironment("promises")


class Mood(enum.Enum):
    A = "B"
    B = "A"


def test_storages_take_flytes_keywords(monkeypatch):
    """And refuse others; ``auto`` reads the environment."""
    for name in ("FLYTE_AWS_ENDPOINT", "AZURE_TENANT_ID", "FLYTE_STORAGE_RETRIES"):
        monkeypatch.setenv(name, "7")
    s3 = storage.S3(endpoint="e", addressing_style="virtual", retries=5, backoff=dt.timedelta(seconds=1))
    assert (s3.addressing_style, s3.backoff, s3.attach_execution_metadata) == ("virtual", dt.timedelta(seconds=1), True)
    read: list[Any] = [storage.S3.auto(region="eu").region, storage.S3.auto().endpoint, storage.GCS.auto().retries]
    assert read == ["eu", "7", "7"]
    assert (storage.ABFS.auto().tenant_id, storage.GCS(enable_debug=True).enable_debug) == ("7", True)
    assert storage.S3.for_sandbox().access_key_id == "minio"
    wrong: list[tuple[Any, str]] = [(storage.S3, "endpont"), (storage.GCS, "region"), (storage.S3.auto, "regoin")]
    for make, keyword in wrong:
        with pytest.raises(TypeError, match="unexpected keyword"):
            make(**{keyword: "e"})


def test_a_configuration_tells_its_task_part(tmp_path, monkeypatch):
    """From a file, from the usual places, from variables; it can be given to ``init_from_config``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "repo" / ".flyte" / "config.yaml"
    file.parent.mkdir(parents=True)
    (tmp_path / "repo" / ".git").mkdir()
    (tmp_path / "repo" / "below").mkdir()
    file.write_text("admin:\n  endpoint: dns:///x\ntask:\n  org: o\n  project: p\n  domain: 'd'\n")
    assert config.auto() == config.Config()

    found = config.auto(str(file))

    assert (found.task.org, found.task.project, found.task.domain, found.source) == ("o", "p", "d", file)
    monkeypatch.chdir(tmp_path / "repo" / "below")
    assert config.auto() == found == git.config_from_root()
    monkeypatch.setenv("FLYTE_TASK_PROJECT", "other")
    assert config.auto(file).task.project == "other"
    with pytest.raises(flyte.errors.InitializationError, match="no configuration file"):
        config.auto("nowhere.yaml")


@env.task
def sum_of(a: int, *, b: int, c: int = 3) -> int:
    return 100 * a + 10 * b + c


@pytest.mark.parametrize(
    ("args", "kwargs", "result"),
    [
        ((1, 2), {}, 123),
        ((1, 2, 4), {}, 124),
        ((1, 2), {"c": 4}, 124),
        ((1,), {"b": 2}, 123),
        ((), {"a": 1, "b": 2}, 123),
        ((1, 2), {"c": 0}, 120),
        ((1,), {"b": 2, "c": 4}, 124),
        ((1,), {"c": 4, "b": 2}, 124),
        ((), {"c": 4, "b": 2, "a": 1}, 124),
        ((-1, -2, -3), {}, -123),
        ((True, False, True), {}, 101),
    ],
)
def test_keyword_only_inputs_may_be_given_by_position(run, args, kwargs, result):
    assert result == run(sum_of, *args, **kwargs)


def test_a_cache_that_is_off_has_no_version():
    for off in (flyte.Cache("disable"), flyte.Cache("disable", version_override="1"), flyte.Cache("disable", salt="s")):
        assert off.get_version() == ""
    assert flyte.Cache("override", version_override="1").get_version() == "1"


@env.task
async def mood_of(mood: Mood = "A", moods: list[Mood] = ["B"]) -> list:  # type: ignore[assignment, list-item]  # noqa: B006
    return [mood.name, *(each.name for each in moods)]


def test_text_defaults_are_members_by_name(run):
    assert ["A", "B"] == run(mood_of)
    assert ["B", "A"] == run(mood_of, "B", ["A"])


def test_action_ids_are_made_as_in_flyte():
    one = models.ActionID(name="x", project="p", domain="d")

    assert (one.run_name, one.unique_id_str(), one.unique_id_str("s")) == ("x", "p-d-x-x", "p-d-x-x-s")
    assert (one.new_sub_action("y").name, one.new_sub_action("y").run_name) == ("y", "x")
    assert models.ActionID.create_random() != models.ActionID.create_random()
    assert {one: 1}[models.ActionID("x", "x", "p", "d")] == 1


def test_tests_make_contexts_of_their_own():
    """With what Flyte needs for one; read-only, with `replace`."""
    made = models.TaskContext(
        action=models.ActionID(name="x"), version="1", raw_data_path=models.RawDataPath("/r"), output_path="/o",
        run_base_dir="/b", report=None, custom_context={"k": "v"},
    )  # fmt: skip
    assert made
    assert (made.version, made.task_action.name, made.mode, made.is_in_cluster()) == ("1", "x", "remote", True)
    assert (made.custom_context, made["none"], made.rank, made.group_data) == ({"k": "v"}, None, None, None)
    changed = made.replace(data={"a": 1}, mode="local")
    assert (changed["a"], changed.is_in_cluster(), made["a"]) == (1, False, None)
    assert pickle.loads(pickle.dumps(changed)) == changed != made
    with pytest.raises(AttributeError, match="read-only"):
        made.version = "2"
    with pytest.raises(TypeError, match="'acton'"):
        models.TaskContext(acton=1)
    assert not flyte.ctx()


@env.task
async def leaf(x: int) -> int:
    await asyncio.sleep(0.05)
    return x


@env.task(retries=1)
async def fails(x: int) -> int:
    raise ValueError("no")


@env.task
async def parent(x: int) -> int:
    with flyte.group("few"):
        await leaf(x)
    try:
        await fails(x)
    except ValueError:
        return x
    return 0


def test_runs_and_actions_are_plain_values(mode):
    """By Flyte's names, as a dictionary and as JSON; with the time in each phase."""
    run = flyte.with_runcontext(mode=mode, labels={"team": "a"}).run(parent, 3)
    run.wait()

    found = run.to_dict()
    assert found == json.loads(run.to_json())
    assert found["labels"] == {"team": "a"}
    assert found["action"]["id"] == {
        "run": {"project": run.control.info.project, "domain": run.control.info.domain, "name": run.name}, "name": "a0",
    }  # fmt: skip
    assert found["action"]["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert run.outputs().to_dict() == {"o0": 3} == json.loads(run.outputs().to_json())
    root, child, failed = (action.details() for action in remote.Action.listall(for_run_name=run.name))
    assert child.to_dict()["metadata"]["group"] == "few"
    assert failed.to_dict()["errorInfo"] == {"message": "no", "kind": "KIND_USER", "code": "ValueError"}
    assert (failed.to_dict()["status"]["attempts"], len(failed.get_phase_transitions(1))) == (2, 2)
    assert failed.get_phase_transitions(3) == []
    queued, running = child.get_phase_transitions()
    assert (queued.phase, running.phase) == (models.ActionPhase.QUEUED, models.ActionPhase.RUNNING)
    assert queued.end_time == running.start_time
    assert child.running_time == running.duration >= dt.timedelta(seconds=0.04)
    assert child.queued_time == queued.duration >= dt.timedelta(0)
    assert child.phase_durations[models.ActionPhase.RUNNING] <= root.running_time
    assert (child.is_running, child.waiting_for_resources_time, child.initializing_time) == (False, None, None)
