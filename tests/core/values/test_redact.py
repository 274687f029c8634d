"""Secrets are found by name, by value and by shape, and nothing else is hidden."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flyte_nb.core.values import redact
from flyte_nb.core.values.redact import Redaction, hides, is_secret_name, scrub, scrub_code


@pytest.fixture(autouse=True)
def default_redaction() -> Iterator[None]:
    """The default rules before each test, and after."""
    redact.configure(Redaction())
    yield
    redact.configure(Redaction())


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "PASSWORD", "userPassword", "passwd", "pwd", "secret", "client_secret", "api_key", "apiKey",
        "APIKEY", "AWS_SECRET_ACCESS_KEY", "access_key", "private_key", "hf_token", "access_tokens", "token", "authorization",
        "Authorization", "cookie", "dsn", "connection_string", "credentials", "_token", "x-api-key", "db_pass",
    ],
)  # fmt: skip
def test_usual_names_of_secrets_are_recognized(name: str) -> None:
    """Snake case, camel case and environment variables."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokens", "tokenizer", "max_tokens", "n_tokens", "token_count", "key", "keys", "primary_key", "secretary", "author",
        "cwd", "passes", "compass", "password_file", "secret_name", "authors", "path", "monkey", "has_password",
    ],
)  # fmt: skip
def test_names_that_only_look_alike_are_shown(name: str) -> None:
    """Language models have tokens, dictionaries have keys."""
    assert not is_secret_name(name)


def test_a_token_that_is_no_text_is_shown() -> None:
    """``token = 17`` is a number in a program, ``password = 17`` is a bad password."""
    assert hides("token", "abc")
    assert not hides("token", 17)
    assert hides("password", 17)
    assert not hides("password", None)
    assert not hides("password", "")


def test_a_value_is_never_compared() -> None:
    """The ``==`` of a foreign class may be slow, or return an array."""

    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = object.__hash__

    assert hides("password", Touchy())


def test_values_of_secret_environment_variables_disappear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they occur, also when the variable was set a moment ago."""
    monkeypatch.setenv("SERVICE_TOKEN", "tango-42-foxtrot")
    monkeypatch.setenv("SERVICE_NAME", "a-harmless-name")

    assert scrub("login with tango-42-foxtrot to a-harmless-name") == "login with *** to a-harmless-name"


def test_short_values_of_the_environment_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hiding "dev" or "1" would garble every text."""
    monkeypatch.setenv("API_KEY", "dev")

    assert scrub("a developer") == "a developer"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgres://app:s3cret@db/x", "postgres://app:***@db/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("key ghp_0123456789abcdefghij!", "key ***!"),
        ("sk-proj-0123456789abcdefghij", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "***"),
        ("a task skewed by asking", "a task skewed by asking"),
    ],
)
def test_texts_with_the_shape_of_a_credential_are_masked(text: str, clean: str) -> None:
    """URLs with a password, bearer tokens, keys of well-known services."""
    assert scrub(text) == clean


def test_literals_assigned_to_secret_names_are_masked_in_code() -> None:
    """In source lines and in labels of actions."""
    assert scrub_code("login(user='a', password='b', n=3)") == "login(user='a', password='***', n=3)"
    assert scrub_code('c = {"token": "x", "size": "y"}') == 'c = {"token": "***", "size": "y"}'


def test_own_names_values_and_exceptions_can_be_configured() -> None:
    """Names to hide, names never to hide, texts to hide."""
    redact.configure(Redaction(names=("^customer_",), allow=("api_key",), values=("Jane Doe",)))

    assert is_secret_name("customer_id")
    assert not is_secret_name("api_key")
    assert scrub("met Jane Doe") == "met ***"


def test_redaction_can_be_switched_off() -> None:
    """For a debugging session on one's own machine."""
    redact.configure(Redaction(enabled=False))

    assert not hides("password", "x")
    assert scrub("postgres://a:b@c") == "postgres://a:b@c"


def test_a_broken_pattern_is_refused_at_once() -> None:
    """Not at the first failure on a worker."""
    with pytest.raises(ValueError, match="not a regular expression"):
        redact.configure(Redaction(names=("(",)))


def test_labels_mask_what_goes_by_a_secrets_name() -> None:
    """Labels are kept in saved notebooks: a password is not in them, given by position or by name."""
    from flyte_nb.core.values.describe import label_of

    assert label_of("login", (("me", "hunter2"), {}), ("user", "password")) == f"login('me', {redact.MASK})"
    assert label_of("login", (("me",), {"api_key": "abc"}), ("user",)) == f"login('me', api_key={redact.MASK})"
