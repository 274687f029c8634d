"""Options by name: a misspelt one is refused with the nearest; what has no effect is said once; values are checked at once."""

# mypy: disable-error-code="arg-type,call-arg,dict-item"

from __future__ import annotations

import ast
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb import notify
from flyte_nb.core.settings import notices
from flyte_nb.core.settings.options import FLYTES_INIT_OPTIONS, FLYTES_RUN_OPTIONS, INIT_OPTIONS, RUN_OPTIONS


@pytest.mark.parametrize(
    ("call", "given", "meant"),
    [
        (flyte.with_runcontext, "env_var", "env_vars"),
        (flyte.with_runcontext, "projct", "project"),
        (flyte.with_runcontext, "overwrite_chache", "overwrite_cache"),
        (flyte.with_runcontext, "on_fail", "on_failure"),
        (flyte.with_runcontext, "max_concurrency", "max_action_concurrency"),
        (flyte.with_runcontext, "costum_context", "custom_context"),
        (flyte.with_runcontext, "copy_stile", "copy_style"),
        (flyte.with_runcontext, "label", "labels"),
        (flyte.init, "projct", "project"),
        (flyte.init, "workers", "n_workers"),
        (flyte.init, "memory", "memory_limit"),
        (flyte.init, "endpont", "endpoint"),
        (flyte.init, "stricts", "strict"),
        (flyte.init_from_config, "projct", "project"),
        (flyte.init_from_api_key, "domian", "domain"),
        (flyte.init_in_cluster, "insecur", "insecure"),
        (flyte.Run.listall, "in_phases", "in_phase"),
        (flyte.Run.listall, "task", "task_name"),
        (flyte.deploy, "dry_rn", "dry_run"),
        (flyte.Image.from_debian_base().with_pip_packages, "indx_url", "index_url"),
        (flyte.Image.from_debian_base().with_apt_packages, "secret_mount", "secret_mounts"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(call: Any, given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"has no option {given}\. Did you mean {meant}\?"):
        call(**{given: "x"})


env = flyte.TaskEnvironment("options")


@env.task
def task(x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("call", "given", "meant"),
    [(env.task, "retry", "retries"), (env.task, "time_out", "timeout"), (env.task, "cached", "cache"),
     (task.override, "retry", "retries"), (task.override, "resource", "resources"), (task.override, "env_var", "env_vars"),
     (flyte.TaskEnvironment, "nam", "name"), (flyte.Resources, "memroy", "memory"), (flyte.Cache, "behaviour", "behavior"),
     (flyte.map, "concurency", "concurrency"), (flyte.map.aio, "groupname", "group_name")],
)  # fmt: skip
def test_so_is_a_misspelt_keyword_of_anything_else(call: Any, given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{given}'\. Did you mean {meant}\?"):
        call(**{given: 1})


@pytest.mark.parametrize("call", [flyte.with_runcontext, flyte.init])
def test_an_unknown_option_names_those_that_there_are(call: Any) -> None:
    with pytest.raises(TypeError, match=r"has no option xyzzy\. It takes: "):
        call(xyzzy=1)


@pytest.mark.parametrize("name", sorted(RUN_OPTIONS | FLYTES_RUN_OPTIONS))
def test_every_option_of_a_run_is_taken(name: str) -> None:
    flyte.with_runcontext(**{name: None})


@pytest.mark.parametrize("name", sorted(INIT_OPTIONS | FLYTES_INIT_OPTIONS))
def test_every_option_of_init_is_taken(name: str) -> None:
    from flyte_nb.core.runs.defaults import check_cluster_options

    check_cluster_options({name: None})


def test_every_option_that_runs_read_is_listed() -> None:
    """``options.get(...)`` in the code, against the list."""
    from flyte_nb.core.runs import defaults

    tree = ast.parse(inspect.getsource(defaults.info_for))
    read = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        if isinstance(node.args[0], ast.Constant)
    }
    assert read
    assert read <= RUN_OPTIONS


def test_what_has_no_effect_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    notices._logged.clear()
    with caplog.at_level(logging.WARNING, logger="flyte"):
        for _ in range(2):
            flyte.with_runcontext(dry_run=True, queue="fast", env_vars={"A": "1"}, copy_style="loaded_modules")
            flyte.init(endpoint="dns:///x", project="p")
    said = [record.getMessage() for record in caplog.records]
    assert sorted(said) == [
        "Accepted without effect: init(endpoint=...).",
        "Accepted without effect: with_runcontext(dry_run=...).",
        "Accepted without effect: with_runcontext(queue=...).",
    ]


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: flyte.with_runcontext(max_action_concurrency=-1), ValueError, "at least 0, not -1"),
    (lambda: flyte.with_runcontext(max_action_concurrency="2"), ValueError, "not '2'"),
    (lambda: flyte.with_runcontext(env_vars=["A"]), TypeError, "a dict of texts, not ['A']"),
    (lambda: flyte.with_runcontext(env_vars={"A": 1}), TypeError, "'A': 1"),
    (lambda: flyte.with_runcontext(labels="a"), TypeError, "labels"),
    (lambda: flyte.with_runcontext(custom_context={1: "a"}), TypeError, "custom_context"),
    (lambda: flyte.with_runcontext(notifications="mail me"), TypeError, "'mail me'"),
    (lambda: flyte.TaskEnvironment("e", include="x.html"), TypeError, "include=['x.html']"),
    (lambda: flyte.TaskEnvironment("e", include=[1]), TypeError, "include"),
    (lambda: flyte.Secret("k", mount="/data/x"), ValueError, "/etc/flyte/secrets"),
    (lambda: flyte.Secret(3), TypeError, "key"),
    (lambda: flyte.Secret("k", as_env_var="lower"), ValueError, "lower"),
    (lambda: flyte.Cron("0 9 * *"), ValueError, "five fields"),
    (lambda: flyte.Cron("0 25 * * *"), ValueError, "'25' is no hour"),
    (lambda: flyte.Cron("61 * * * *"), ValueError, "'61' is no minute"),
    (lambda: flyte.Cron("* * * MAI *"), ValueError, "'MAI' is no month"),
    (lambda: flyte.Cron("*/0 * * * *"), ValueError, "'*/0'"),
    (lambda: flyte.Cron("@dayly"), ValueError, "@daily"),
    (lambda: flyte.Cron("0 9 * * *", "Europe/Londn"), ValueError, "Europe/Londn"),
    (lambda: flyte.Cron(3), TypeError, "3"),
    (lambda: flyte.FixedRate(0), ValueError, "0"),
    (lambda: flyte.FixedRate("5"), ValueError, "'5'"),
    (lambda: flyte.Trigger("t", "0 9 * * *"), TypeError, "automation"),
    (lambda: flyte.Trigger("t", max_action_concurrency=1), ValueError, "at least 2"),
    (lambda: flyte.Trigger("t", max_action_concurrency=-1), ValueError, "-1"),
    (lambda: flyte.Trigger("t", inputs={"x": flyte.TriggerTime}), ValueError, "TriggerTime"),
    (lambda: flyte.Trigger("t", flyte.FixedRate(5), inputs={"x": flyte.TriggeredArtifact}), ValueError, "OnArtifact"),
    (lambda: flyte.Trigger("t", notifications="x"), TypeError, "notifications"),
    (lambda: flyte.Trigger("t", env_vars={"A": 1}), TypeError, "env_vars"),
    (lambda: flyte.Trigger.daily(nam="x"), TypeError, "nam"),
    (lambda: notify.Slack(on_phase="faild", webhook_url="https://x"), ValueError, "'faild'"),
    (lambda: notify.Slack(on_phase="running", webhook_url="https://x"), ValueError, "'running'"),
    (lambda: notify.Slack(on_phase="failed", webhook_url=""), ValueError, "webhook_url"),
    (lambda: notify.Email(on_phase="failed", recipients="a@b.c"), TypeError, "['a@b.c']"),
    (lambda: notify.Email(on_phase="failed", recipients=()), ValueError, "recipients"),
    (lambda: notify.Webhook(on_phase="failed", url=""), ValueError, "url"),
    (lambda: notify.Slack(on_phase="failed", webhok_url="https://x"), TypeError, "webhok_url"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_makes_no_sense_is_refused_where_it_is_written(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_what_makes_sense_is_taken() -> None:
    for text in ("*/5 1-3,7 1 JAN-MAR MON", "0 0 L * *", "@daily", "0 9 * * 1-5", "5/15 * ? * SUN", "0 0 * * 7"):
        flyte.Cron(text, "Europe/London")
    flyte.Trigger("t", flyte.Cron("@hourly"), inputs={"x": flyte.TriggerTime}, max_action_concurrency=2)
    flyte.Trigger("t", flyte.OnArtifact("a"), inputs={"x": flyte.TriggeredArtifact})
    slack = notify.Slack(on_phase=("failed", "aborted"), webhook_url="https://x")
    flyte.with_runcontext(notifications=(slack, notify.NamedRule("r")), max_action_concurrency=0)
    flyte.Secret("k", mount="/etc/flyte/secrets")
    assert flyte.TaskEnvironment("e", include=["a", "b"]).include == ("a", "b")
