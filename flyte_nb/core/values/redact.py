"""Redact secrets from failure records and labels: by name, by the environment's values, by shape. Runs in: everywhere.

Three questions are answered here: is a *name* one that holds a secret (``password``, ``api_key``), does a *text* contain
the value of an environment variable with such a name, and does a text contain something shaped like a credential
(``postgres://user:secret@host``, ``Bearer ...``, ``ghp_...``)?
"""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

#: What stands in a text in place of a secret.
MASK = "***"

#: Shortest value of an environment variable that is looked for, in characters: shorter ones ("1", "true", "dev") occur
#: everywhere and hide nothing.
MIN_SECRET = 6

#: Longest text that is searched for secrets, in characters. What is longer is cut before, by whoever shows or keeps it.
MAX_SEARCHED = 200_000

#: Words that make a name secret whatever its value is. Matched against the name in snake_case.
_ALWAYS = re.compile(
    r"(?:^|_)(?:passwords?|passwd|passphrases?|passcode|pwd|secrets?|credentials?|creds|api_?keys?|access_?keys?"
    r"|private_?keys?|secret_?keys?|signing_?keys?|encryption_?keys?|account_?keys?|auth_?keys?|authorization|bearer"
    r"|(?:access|auth|refresh|api|bearer|session|csrf|xsrf|id|oauth|jwt|sas|bot|github|gitlab|slack|hf)_?tokens?"
    r"|jwt|cookies?|dsn|conn(?:ection)?_?str(?:ing)?|(?:db|database|smtp|redis|pg|mysql)_?pass)(?:_|$)"
)
#: A bare "token" is a secret if it's text, and a word of a sentence in half of all notebooks: numbers and lists pass.
_IF_TEXT = re.compile(r"(?:^|_)(?:token|auth|pat)$")
#: Names that hold one of the words above and no secret: counts, limits, names, places and flags.
_NEVER = re.compile(
    r"^(?:max|min|n|num|number|total|count|len|has|is|use|no|need|needs|with)_|_(?:count|counts|len|length|id_type|type"
    r"|types|field|fields|column|columns|policy|hint|name|names|file|path|dir|url_name|error|errors|manager|provider|enabled)$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# Every pattern here is linear in the text it searches, since a label of the user's may be a megabyte and a regular expression
# holds the GIL: a match can begin at one place of each run of letters only (a look-behind), and gives nothing back that it took
# (``++``, ``(?>...)``).

#: Texts that are secrets by their shape; the named group is what's masked, the whole match where there is none.
_SHAPES = re.compile(
    r"(?<=://)[^\s/:@'\"]*+:(?P<url>[^\s/@'\"]++)(?=@)"
    r"|\b[Bb]earer\s++(?P<bearer>[A-Za-z0-9._~+/=-]{8,}+)"
    r"|\b(?P<key>(?:(?:gh[posu]|github_pat|glpat|xox[abprs]|sk|rk|hf)[-_]|AKIA|ASIA|AIza)[A-Za-z0-9_-]{16,}+)"
    r"|(?<![A-Za-z0-9_-])(?>[A-Za-z0-9_-]*?\b(?=eyJ))"
    r"(?P<jwt>eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+)"
    r"|(?P<pem>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z))"
)
#: Cheap test that `_SHAPES` can match at all.
_HINT = re.compile(r"://|earer|gh[posu]_|github_pat|glpat|xox|sk[-_]|rk[-_]|hf_|AKIA|ASIA|AIza|eyJ|-----BEGIN")
#: ``password="..."`` and ``'token': '...'`` in a text or in source code.
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9_])(?P<name>[A-Za-z_][A-Za-z0-9_]*+)(?P<mid>['\"]?\s*+[=:]\s*+[rbuRBU]{0,2})"
    r"(?P<q>['\"])(?P<value>[^'\"\n]++)(?P=q)"
)
#: Longest secret that is recognised where it is cut, in characters: a JSON web token takes about a thousand.
_SHAPE_CHARS = 4_000
#: Longest name that is looked at whole, in characters: of a longer one, both ends.
_LONG_NAME = 200


class Redaction(NamedTuple):
    """What counts as a secret. The default finds the usual names; widen it with `configure`."""

    #: Off: nothing is hidden.
    enabled: bool = True
    #: Further regular expressions; a variable, key or attribute whose name one of them matches is hidden.
    names: tuple[str, ...] = ()
    #: Names that are never hidden, spelled exactly.
    allow: tuple[str, ...] = ()
    #: Further texts to hide wherever they occur.
    values: tuple[str, ...] = ()


_current = Redaction()


def configure(redaction: Redaction) -> None:
    """Use this redaction in this process from now on. It is picklable: a session sends its own to the workers.

    Raises:
        ValueError: One of its patterns is not a regular expression.
    """
    global _current
    for pattern in redaction.names:
        try:
            re.compile(pattern)
        except re.error as exc:
            raise ValueError(f"{pattern!r} is not a regular expression ({exc}); see Python's `re` module") from exc
    _current = redaction
    _judged.cache_clear()


def current() -> Redaction:
    """The redaction in use in this process."""
    return _current


def _strength(name: str) -> int:
    """2: hide any value of this name, 1: hide it if it is text, 0: show it."""
    return _judged(name if len(name) <= _LONG_NAME else f"{name[: _LONG_NAME // 2]}_{name[-_LONG_NAME // 2 :]}")


@functools.lru_cache(maxsize=4096)
def _judged(name: str) -> int:
    if not _current.enabled or name in _current.allow:
        return 0
    if any(re.search(pattern, name) for pattern in _current.names):
        return 2
    snake = _CAMEL.sub("_", name).lower().replace("-", "_").replace(" ", "_").strip("_")
    if _NEVER.search(snake):
        return 0
    if _ALWAYS.search(snake):
        return 2
    return 1 if _IF_TEXT.search(snake) else 0


def is_secret_name(name: str) -> bool:
    """Whether a variable, dictionary key or attribute of this name probably holds a secret, if it holds text."""
    return _strength(name) > 0


def hides(name: str, value: object) -> bool:
    """Whether a value must be hidden because of the name it goes by.

    Args:
        name: Name of the variable, argument, key or attribute.
        value: Its value; None, booleans and empty texts are never hidden, and under a name such as ``token`` only texts are.
    """
    strength = _strength(name)
    if not strength or value is None or value is True or value is False:
        return False
    # By exact type, so that no method of a foreign class runs: its ``==`` may be slow, or return an array.
    if type(value) in (str, bytes):
        return bool(value)
    return strength == 2


def secret_values() -> tuple[str, ...]:
    """Values to hide wherever they occur: of secret environment variables, and those configured; longest first."""
    if not _current.enabled:
        return ()
    found = {value for key in os.environ if is_secret_name(key) and len(value := os.environ.get(key, "")) >= MIN_SECRET}
    found.update(value for value in _current.values if value)
    # Longest first, so that a secret which contains another one disappears whole.
    return tuple(sorted(found, key=len, reverse=True))


def scrub(text: str, secrets: tuple[str, ...] | None = None) -> str:
    """Mask what is secret in a text, by value and by shape.

    Args:
        text: Any text: a message, a label, a value.
        secrets: From `secret_values`; looked up if not given.

    Returns:
        The same text, with `MASK` in place of each secret.
    """
    if not _current.enabled or not text:
        return text
    for secret in secret_values() if secrets is None else secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    if _HINT.search(text, 0, MAX_SEARCHED):
        text = _SHAPES.sub(_mask_shape, text[:MAX_SEARCHED]) + text[MAX_SEARCHED:]
    return text


def scrub_code(text: str, secrets: tuple[str, ...] | None = None) -> str:
    """`scrub`, and mask the literals that are assigned to secret names: ``password="..."``, ``{"token": "..."}``.

    For source code, labels such as ``login(password='x')``, and messages.
    """
    if not _current.enabled or not text:
        return text
    text = scrub(text, secrets)
    return _ASSIGNED.sub(_mask_assigned, text[:MAX_SEARCHED]) + text[MAX_SEARCHED:]


def scrub_start(text: str, limit: int) -> str:
    """At least the first `limit` characters of a text, with what is secret by its shape masked: cut afterwards, not before.

    A password is recognised by the ``@`` behind it, a token by its third part. For labels: no value of a secret variable is
    looked for, which takes longer than the rest of a call.
    """
    if not _current.enabled or _HINT.search(text, 0, limit) is None:
        return text[: limit + 1]
    return _SHAPES.sub(_mask_shape, text[: limit + _SHAPE_CHARS])


def _mask_shape(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind is None:
        return MASK
    start, end = match.start(kind) - match.start(), match.end(kind) - match.start()
    whole = match.group()
    return whole[:start] + MASK + whole[end:]


def _mask_assigned(match: re.Match[str]) -> str:
    if not is_secret_name(match["name"]):
        return match.group()
    return f"{match['name']}{match['mid']}{match['q']}{MASK}{match['q']}"
