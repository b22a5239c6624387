"""Masks secrets before a text reaches a message, a record, a log, a report or a terminal.

Two methods are combined, as neither is sufficient. Secrets that this process knows are replaced wherever they
occur. Text in the form of a secret is replaced whoever it belongs to, since a service that refuses a request
often returns what was signed. Ordinary text stays: paths, digests, commits, image_ids, addresses, and random
names of files and folders, unless one is a secret that this process knows.
"""

from __future__ import annotations

import functools
import html
import itertools
import os
import re
from urllib.parse import quote, quote_plus, urlsplit

MASK = "***"

_SECRET_VARIABLES = re.compile(
    r"(?:^|_)(?:SECRET|SECRET_ACCESS_KEY|SECRET_KEY|ACCESS_KEY|ACCESS_KEY_ID|ACCOUNT_KEY|API_KEY|SAS_TOKEN|SAS_KEY|TOKEN"
    r"|PASSWORD|PASSWD|CLIENT_SECRET|CONNECTION_STRING|PRIVATE_KEY)$",
    re.IGNORECASE,
)
"""Names of environment variables whose value is a secret: AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY,
HF_TOKEN, RAY_AUTH_TOKEN, …"""
_URL_VARIABLES = re.compile(r"(?:^|_)(?:PROXY|ENDPOINT|ENDPOINT_URL\w*|URL)$", re.IGNORECASE)
"""Names of environment variables whose value may be an address with a password, which is then a secret."""
_SHORTEST = 8
"""Least length of a known secret that is searched for. Shorter values are placeholders, and occur inside
ordinary words."""

_EXTENSION = r"\.[A-Za-z0-9]{2,8}(?![\w+=%-])"
"""Extension of a file name. Base64 and hexadecimal digits contain no dot, so a secret has none."""
_NO_FILE = rf"(?![\w-]{{0,100}}{_EXTENSION})"
_VALUE = rf"(?:[^\s&\"'<>,;)}}\]/]+(?=/[^\s&\"'<>,;]{{0,500}}{_EXTENSION})|[^\s&\"'<>,;)}}\]]+)"
"""Value of a field. It ends at a slash if a file's path follows; otherwise it includes its slashes, which
keys may contain."""
_NAME = r"[\w-]{0,40}"
_FIELD = r"(?<![\w/-])"
"""What must precede the name of a field. After a slash it would be part of a path, such as "/year=2024/"."""
_SIGNED = (
    r"(?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid"
    r"|sharedaccess(?:key|signature)|sig|signature"
    rf"|(?:{_NAME}[_-]|client|user|db)?(?:password|passwd|secret(?:access)?(?:key)?)(?:[_-]{_NAME})?"
    rf"|(?:{_NAME}[_-])?(?:access[_-]?key(?:[_-]?id)?|account[_-]?key|api[_-]?key"
    r"|(?:session|security|access|auth|refresh|sas|hub|hf)[_-]?token|id[_-]token))"
)
"""Names of fields whose value authenticates a request."""
_SIGNED_PARTS = ("sig", "credential", "token", "key", "accessid", "passw", "secret", "sharedaccess")
_ECHOED = (
    r"(?:StringToSign|CanonicalRequest)(?:Bytes)?|SignatureProvided|AuthenticationErrorDetail|AWSAccessKeyId"
    r"|AccessKeyId|SecretAccessKey|SessionToken|Token-\d+"
)
"""Elements of an answer in which a service returns what was signed, the key, or the rejected token."""
_ECHOED_PARTS = ("tosign", "canonicalrequest", "provided", "errordetail", "accesskey", "token")
_NOT_YET = rf"(?!{re.escape(MASK)})"


_Rule = tuple[tuple[str, ...], re.Pattern[str], str]


def _rule(parts: tuple[str, ...], pattern: str, instead: str = MASK, flags: int = re.IGNORECASE) -> _Rule:
    return parts, re.compile(pattern, flags), instead


_RULES: tuple[_Rule, ...] = (
    _rule(
        ("private key",),
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)",
        MASK,
        re.DOTALL,
    ),
    # XML, plain or escaped, also where it was cut off
    _rule(
        _ECHOED_PARTS,
        rf"((?:<|&lt;)({_ECHOED})(?:>|&gt;)){_NOT_YET}.*?((?:<|&lt;)/\2(?:>|&gt;)|\Z)",
        rf"\1{MASK}\3",
        re.DOTALL,
    ),
    _rule(_ECHOED_PARTS, rf"([\"'](?:{_ECHOED})[\"']\s*:\s*[\"'])(?:[^\"'\\]|\\.)*", rf"\1{MASK}", re.DOTALL),
    _rule(("to sign",), rf"(string to sign:? *'){_NOT_YET}[^']*", rf"\1{MASK}"),
    _rule(
        ("aws4-",),
        r"\bAWS4(?:-ECDSA-P256)?-HMAC-SHA256\b(?:\s{1,9}\S{0,300}(?:Credential|Signed|Signature)\S{0,300})+",
    ),
    _rule(
        ("authorization",),
        r"((?<![\w/])(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)[^\r\n\"']+",
        rf"\1{MASK}",
    ),
    _rule(("bearer",), r"(\bbearer\s+)[\w.~+/=-]{8,}", rf"\1{MASK}"),
    # user and password of an address; one typed unescaped may hold anything but blanks
    _rule(
        ("@",),
        r"(\w://)[^\s/?#@:]{0,200}:(?!\d{1,5}(?:[/?#\s]|$))[^\s@]{0,300}@(?:[^\s/?#@]{0,300}@)*",
        rf"\1{MASK}@",
    ),
    _rule(("@",), r"(\w://)[^\s/?#@]{1,500}@", rf"\1{MASK}@"),
    _rule(("@",), r"(?<![\w./@:+-])[\w.+-]{1,100}:[^\s/@:]{1,200}@(?=[\w.-]{1,250}:\d)", f"{MASK}@"),
    _rule(("?",), r"(https?://[^\s?\"'<>]{1,1000}\?)[^\s\"'<>)]+", rf"\1{MASK}"),
    _rule(_SIGNED_PARTS, rf"{_FIELD}({_SIGNED}[\"']?=[\"']?){_NOT_YET}{_VALUE}", rf"\1{MASK}"),
    _rule(_SIGNED_PARTS, rf"{_FIELD}({_SIGNED}[\"']?:\s*[\"']?){_NOT_YET}[^\s&\"'<>,;]{{12,}}", rf"\1{MASK}"),
    _rule(
        ("akia", "asia", "goog1e"), rf"(?<![A-Za-z0-9])(?:AKIA|ASIA|GOOG1E)[A-Z0-9]{{12,}}{_NO_FILE}", MASK, 0
    ),
    _rule(
        ("hf_", "p_", "o_", "u_", "s_", "r_", "aiza", "ya29."),
        r"(?<![A-Za-z0-9])(?:(?:hf|gh[pousr])_[A-Za-z0-9]{24,}|AIza[\w-]{30,}|ya29\.[\w.-]{16,}|hf_oauth_[\w.-]{60,})"
        + _NO_FILE,
        MASK,
        0,
    ),
    # JSON Web Tokens, also where they were cut off: header and claims are JSON objects, or all is encrypted
    _rule(
        ("eyj",),
        r"(?<![A-Za-z0-9])eyJ[\w-]{8,2000}\.(?:eyJ[\w-]{8,}(?:\.[\w-]+)?|(?:[\w-]{16,}(?:\.|(?![\w.-]))){2,4})",
        MASK,
        0,
    ),
    _rule(
        ("iqoj", "fwog", "fqog"),
        r"(?<![A-Za-z0-9])(?:IQoJ|FwoG|FQoG)(?:[\w/+=]|%[0-9A-Fa-f]{2}){16,}",
        MASK,
        0,
    ),
)
"""For each rule: lower-case substrings of which a text must contain one for the rule to match, the pattern,
and its replacement. The substrings keep masking cheap. All repetitions in the patterns are bounded, since the
text comes from a service and may be arbitrarily long: an unbounded pattern could take quadratic time."""
_RUN = re.compile(r"(?<![\w/+%])(?:[A-Za-z0-9/+]|%2[BF]){40,}(?:=|%3D){0,2}(?![\w/+%=])", re.IGNORECASE)
"""Text that may be base64. Secret keys of AWS have 40 characters, of Azure 86, session tokens hundreds."""
_FILE_EXTENSION = re.compile(_EXTENSION)
_PATH_ENDS = re.compile(r"[\s\"'`<>()\[\]{}=&?,;:@|]")
_PATH_ENDS_OF_LONG = re.compile(_PATH_ENDS.pattern.replace("=", "").replace(":", ""))
"""Characters that end a path. If the run is longer than a key, its path may contain "=" and ":"."""
_FAR = 300
"""How many characters before a run are searched for the start of its path."""
_FEWEST_CHANGES = 0.38
"""Least share of neighbouring characters of different kinds (capital, small letter, digit) in a random text.
In random base64 it is two of three; in words and dates, of which paths consist, it is small. Hexadecimal
digests have no capitals."""
_FEWEST_OF_KEY, _DISTINCT_OF_KEY = 0.27, 25
"""Least share of changes, and least number of different characters, in text with the length of a key. The
share is lower because some keys are made up, such as the examples in AWS's documentation."""
_KEY, _LONG = 40, 80
"""Length of a secret key of S3 or GCS, and least length of a token or of an Azure key."""

_remembered: set[str] = set()


def remember(*secrets: str | None) -> None:
    """Add secrets that are in no environment variable: keys of a profile or of a machine's role."""
    _remembered.update(secret for secret in secrets if secret and len(secret) >= _SHORTEST)


def masked(text: str) -> str:
    """Replace all secrets in a text by MASK. Masking the result again changes nothing."""
    for secret in _literal(_environment(), frozenset(_remembered)):
        text = text.replace(secret, MASK)
    small = text.lower()
    for parts, pattern, instead in _RULES:
        if any(part in small for part in parts):
            text = pattern.sub(instead, text)
    return _RUN.sub(lambda run: MASK if _is_random(run[0]) and not _is_name(run) else run[0], text)


def as_cause(error: BaseException) -> BaseException:
    """Mask the texts of a library's exception in place, before an error is raised from it: tracebacks, such
    as those in the logs of Ray's workers, show the cause too."""
    error.args = tuple(masked(part) if isinstance(part, str) else part for part in error.args)
    return error


class Masked(Exception):  # noqa: N818 - base class, never raised itself
    """Base of exceptions whose texts are masked on creation, so that none can be raised with a secret."""

    def __init__(self, *given: object) -> None:
        super().__init__(*(masked(part) if isinstance(part, str) else part for part in given))


def _environment() -> tuple[str, ...]:
    """Values of the environment variables that are a secret, or an address that may contain one."""
    return tuple(value for name, value in os.environ.items() if _may_be_secret(name, "://" in value))


@functools.lru_cache(maxsize=4096)
def _may_be_secret(name: str, is_address: bool) -> bool:
    return bool(_SECRET_VARIABLES.search(name) or (is_address and _URL_VARIABLES.search(name)))


@functools.lru_cache(maxsize=8)
def _literal(values: tuple[str, ...], remembered: frozenset[str]) -> tuple[str, ...]:
    """All spellings of the secrets, longest first, since one may be part of another."""
    secrets = set(remembered)
    for value in values:
        secrets.update((_password(value),) if "://" in value else (value, value.strip()))
    ways = (str, quote_plus, quote, functools.partial(quote, safe=""), html.escape, _lower_percent, _in_json)
    written = {way(secret) for secret in secrets if len(secret) >= _SHORTEST for way in ways}
    return tuple(sorted(written, key=len, reverse=True))


def _password(value: str) -> str:
    try:
        return urlsplit(value).password or ""
    except ValueError:
        return ""


def _lower_percent(secret: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quote(secret, safe=""))


def _in_json(secret: str) -> str:
    return secret.replace("/", "\\/")


def _is_name(run: re.Match[str]) -> bool:
    """Whether a run of characters is a file's name or part of a path. A key may begin with a slash too; but a
    long key ends in "=", unless it has a known form and was masked by a rule."""
    text, start = run.string, run.start()
    if _FILE_EXTENSION.match(text, run.end()):
        return True
    ends = _PATH_ENDS if len(run[0]) == _KEY else _PATH_ENDS_OF_LONG
    if "/" in ends.split(text[max(0, start - _FAR) : start])[-1]:
        return True
    return len(run[0]) != _KEY and run[0].startswith("/") and not run[0].endswith(("=", "%3D", "%3d"))


def _is_random(run: str) -> bool:
    length = len(run.rstrip("="))
    if length < _LONG and (length != _KEY or run.startswith("//")):  # the path of a URL
        return False
    kinds = ["A" if c.isupper() else "a" if c.islower() else "0" if c.isdigit() else "" for c in run]
    if not {"A", "a", "0"} <= set(kinds):
        return False
    changes = sum(bool(a and b) and a != b for a, b in itertools.pairwise(kinds))
    if length == _KEY and len(set(run)) >= _DISTINCT_OF_KEY:
        return changes >= _FEWEST_OF_KEY * length
    return changes >= _FEWEST_CHANGES * length
