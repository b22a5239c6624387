"""Errors of object stores, by whose fault they are.

Each is one line: the answer of the service or the failure of the connection, and the fix.

obstore keeps a service's answer in the text of its exceptions; boto3 has it in parts. Both become an
:class:`Answer`, and that becomes one of the errors below. No secret may pass: of a body only the code,
message and region are taken, of an address only the host, and what a service writes into these is masked
(originality.contract.redaction), because some services return the key, the token or all that was signed.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, InvalidPathError

from cluster.storage.store_fixes import OF_ALL, TRANSIENT, fix_of
from originality.contract.redaction import MASK, Masked, as_cause, masked


class StoreError(Masked, OSError):
    """A request to a store that failed; the message is one line."""


class NotFound(StoreError):  # noqa: N818
    """The object or folder does not exist."""

    code = ""
    """The service's error code; empty if its answer had none."""


class Unaddressable(StoreError):  # noqa: N818
    """A name that obstore cannot express: it has a control character, an empty part or a ".."."""


class Changed(StoreError):  # noqa: N818
    """An object is not the one of which a part was to be read: its size or entity tag differs."""


class Damaged(StoreError):  # noqa: N818
    """An object of a run folder exists, but is not what was written."""

    path = ""
    """Path of the object in its store."""
    found = ""
    """Which object is damaged and how it shows, without the fix."""


class Outage(StoreError):  # noqa: N818
    """The store did not answer, or failed internally; a later request may succeed. Whether this one was
    carried out is unknown."""


class Unreachable(Outage):
    """The host is unknown, or no secure connection to it is possible. On the first contact the address is
    wrong; after that it is an outage of the network."""


class Refused(StoreError):  # noqa: N818
    """The service answered, and refused the request."""

    code = ""
    """The service's error code; empty if its answer had none."""
    refuses_all = False
    """Whether it would refuse every request: the credentials, clock, bucket or region are wrong."""


class Misdirected(Refused):
    """What answers at this address is not an object store, but a login page, a proxy or a web console."""

    refuses_all = True


_LONGEST_MESSAGE = 300
_LONGEST_CODE = 64
_CODE = re.compile(rf"[\w.: -]{{1,{_LONGEST_CODE}}}", re.ASCII)
_WORD = re.compile(r"[^\w\s]{0,3}(?:[^\W\d_]{1,30}|[\w.:'/-]{1,20})[^\w\s]{0,3}")
_HTML = re.compile(r"<!doctype html|<html|<head>|<body", re.IGNORECASE)
_STATUS = re.compile(r"(?:non-2xx status code: (\d{3}) ?([^:\n]*)|error response): ?(.*)", re.DOTALL)
_REQUEST = re.compile(r"Error performing ([A-Z]+) (\S+)")
"""A listing's text says "Error performing list request: " before it."""
_NO_STORE = ("Got invalid ", "Header missing from response", "Received non-partial response")
"""How obstore reports an answer that no store would send."""
_NO_HOST = re.compile(r"Name or service not known|nodename nor servname|No address associated|No such host")
_KEY_SERVERS = ("//169.254.169.254", "//169.254.170.2", "//metadata.google.internal")
"""Where clouds issue credentials to their own machines."""
_PROVIDER = "External AWS credential provider: "


@dataclass(frozen=True)
class Answer:
    """A service's answer to a request that it refused."""

    status: int
    reason: str
    """HTTP's name for the status."""
    code: str
    message: str
    region: str | None = None
    """The correct region, if the service names it."""
    is_page: bool = False
    """Whether the answer is a web page."""

    @classmethod
    def of_body(cls, status: int, reason: str, body: str) -> Answer:
        """Parse XML of S3, GCS and Azure, JSON of GCS and of token services, web pages and plain text."""
        reason = clean(reason)[:_LONGEST_CODE]
        code, message = as_code(_element("Code", body)), _element("Message", body)
        if code or message:
            region = _element("Region", body) or next(
                iter(re.findall(r"expecting '([\w-]+)'", message)), None
            )
            endpoint = re.search(r"s3[.-]([a-z]+-[a-z]+-\d)\.amazonaws", _element("Endpoint", body))
            constraint = re.match(r"The ([a-z]+-[a-z-]+-\d) location constraint", message)
            region = region or (endpoint[1] if endpoint else constraint[1] if constraint else None)
            return cls(status, reason, code, clean(message), region)
        if looks_like_a_page(body):
            title = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", body, re.DOTALL | re.IGNORECASE)
            return cls(status, reason, "", clean(html.unescape(title[2])) if title else "", is_page=True)
        return cls(status, reason, *_of_json(body))

    def __str__(self) -> str:
        details = ": ".join(filter(None, (self.code, self.message)))
        return ", ".join(filter(None, (f"{self.status} {self.reason}".strip(), details)))


def looks_like_a_page(body: str) -> bool:
    """Whether a body is HTML."""
    return _HTML.search(body[:2000]) is not None


def _element(name: str, body: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", body, re.DOTALL)
    return html.unescape(found[1]).strip() if found else ""


def as_code(text: object) -> str:
    """The text if it has the form of a service's error code, and holds no secret; else empty."""
    code = str(text)
    return code if _CODE.fullmatch(code) and masked(code) == code else ""


def _of_json(body: str) -> tuple[str, str]:
    """Code and message of a JSON body. For plain text, as proxies answer, no code and the words of its first
    line."""
    try:
        content: Any = json.loads(body)
    except ValueError:
        return "", _words(body)
    if not isinstance(content, dict):
        return "", ""
    error = content.get("error", content)
    if not isinstance(error, dict):  # OAuth: {"error": "invalid_grant", "error_description": …}
        return as_code(error), clean(str(content.get("error_description", "")))
    reasons = error.get("errors") or [{}]
    code = error.get("status") or reasons[0].get("reason") or error.get("code") or error.get("Code") or ""
    return as_code(code), clean(str(error.get("message") or error.get("Message") or ""))


def _words(body: str) -> str:
    """The words of a plain text's first line. XML is left out, and anything that is neither a word nor a
    number is masked: it may be a secret."""
    first = body.strip().partition("\n")[0]
    if first.startswith(("<", "{", "[")):
        return ""
    return " ".join(word if _WORD.fullmatch(word) else MASK for word in clean(first).split())


def clean(text: str) -> str:
    """The text masked, on one line of limited length, without the query or user of a URL, which may hold a
    signature or a password."""
    text = re.sub(r"\s+", " ", masked(text)).strip()
    text = re.sub(r"(?i)\s*(RequestId|Request ID|Time):\s*\S+", "", text)
    text = re.sub(r"(\w+://)[^\s/@]+@", r"\1", text)
    text = re.sub(r"(\w+://[^\s?]+)\?\S+", r"\1", text)
    return (text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…").rstrip(" .")


def error_of_driver(error: BaseException, where: str, url: str) -> StoreError:
    """Our error for an exception of obstore. ``where``: the object that was requested, below ``url``."""
    text, _, details = str(error).partition("\n\nDebug source:")
    first = clean(text.partition("\n")[0])
    if isinstance(error, InvalidPathError):  # one such name makes the listing of its folder fail
        name = str(error).encode("unicode_escape").decode()
        return Unaddressable(f"{url} contains a name that cannot be addressed; rename it: {name}")
    if first.startswith("Could not parse path"):
        return Unaddressable(f"{where} cannot be addressed; rename it")
    if _PROVIDER in text:
        name, _, message = text.partition(_PROVIDER)[2].partition(": ")
        return error_of_credentials(name, message, where)
    if any(server in text for server in _KEY_SERVERS) or "token request" in text:
        return _no_keys(text, where, url)
    request = _REQUEST.search(text)
    operation = "LIST" if "list request" in text else request[1] if request else ""
    if request and request[2].endswith("?delete"):
        operation = "DELETE"
    if (answered := _STATUS.search(text)) is not None:
        status, reason, body = answered.groups()
        return error_of_answer(Answer.of_body(int(status or 200), reason or "", body), operation, where, url)
    if "redirect without LOCATION" in text:
        return error_of_answer(
            Answer(301, "Moved Permanently", "PermanentRedirect", ""), operation, where, url
        )
    if "HTTP error" in text:
        return _unanswered(text, details, where, request[2] if request else "")
    if any(phrase in text for phrase in _NO_STORE):
        return not_a_store(where, clean(text.partition("error: ")[2]))
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{where} does not exist")
    return StoreError(f"{where}: {first or type(error).__name__}")


def error_of_answer(answer: Answer, operation: str, where: str, url: str) -> StoreError:
    """Our error for a service's answer: NotFound, Outage if a retry may succeed, or Refused."""
    status, code = answer.status, answer.code
    bucket_gone = code in ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted")
    if status == 404 and not (bucket_gone or answer.is_page) and operation in ("GET", "HEAD", "DELETE"):
        missing = NotFound(f"{where} does not exist")
        missing.code = code
        return missing
    failed = 500 <= status not in (501, 505, 511) or status in (307, 408, 425, 429)
    if failed or code in TRANSIENT or (status == 200 and code not in OF_ALL):
        fix = fix_of(answer.code, status, operation, url)
        return Outage("; ".join(filter(None, (f"{where}: {answer}", fix))))
    if status == 511 or (answer.is_page and status not in (407, 413, 501)):
        return not_a_store(where, f"an HTML page: {answer}")
    reason = str(answer)
    if operation == "HEAD" and not code:
        reason += " (answers to HEAD give no reason)"
    fix = fix_of(code, status, operation, url, answer.region)
    refused = Refused("; ".join(filter(None, (f"{where}: {reason}", fix))))
    refused.code = code or str(status)
    refused.refuses_all = code in OF_ALL or status in (401, 407)
    return refused


def not_a_store(where: str, what: str) -> Misdirected:
    """The error for an answer that no object store sends. ``what``: what answered."""
    return Misdirected(
        f"{where}: what answers here is not an object store ({what}); check the endpoint and its port "
        f"({_endpoint_of(where)}), and whether a proxy or a network's login page is in between"
    )


def _endpoint_of(where: str) -> str:
    """The environment variable that names the service of an address."""
    return "HF_ENDPOINT" if where.startswith("hf://") else "AWS_ENDPOINT_URL"


def _unanswered(text: str, details: str, where: str, address: str) -> StoreError:
    """Our error for a connection that failed or broke off."""
    parts = urlsplit(address)
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.hostname else "the store"
    named = f"host {parts.hostname} not found" if parts.hostname else "its host was not found"
    causes = re.findall(r'(?:message|error): "([^"]+)"', details)  # such as "Connection refused"
    reason = clean(": ".join([text.partition("HTTP error: ")[2].partition("\n")[0], *causes[-1:]]))
    if "kind: Builder" in details:
        return StoreError(f"{where}: {host} is not an address of a store ({reason}); check the endpoint")
    if _NO_HOST.search(details):
        return Unreachable(
            f"{where}: {named} ({reason}); check the endpoint ({_endpoint_of(where)})"
            f"{'' if where.startswith('hf://') else ', the region (AWS_REGION)'} and this machine's network"
        )
    if "InvalidContentType" in details or "WRONG_VERSION" in details:
        return Unreachable(f"{where}: {host} does not speak TLS; write the endpoint with http://")
    if re.search(r"InvalidCertificate|UnknownIssuer|invalid peer certificate", details):
        why = re.search(r"InvalidCertificate\(\s*(\w+)", details)
        return Unreachable(
            f"{where}: the certificate of {host} is not trusted ({why[1] if why else reason}); set "
            "SSL_CERT_FILE to its issuer's certificate"
        )
    return Outage(": ".join([where, *([host] if parts.hostname else []), reason]))


def error_of_credentials(name: str, message: str, where: str) -> StoreError:
    """Our error for an exception of boto3 while it looked for credentials, by its name and message."""
    # A message may quote the output of a credential process: what is long enough for a key is masked.
    reason = re.sub(r"[A-Za-z0-9/+=]{40,}", MASK, clean(message)) or "no reason given"
    text = f"{where}: no AWS credentials: {name}: {reason}".removeprefix(": ")
    if re.search("Endpoint|Timeout|ConnectionClosed|MetadataRetrieval", name):
        return Outage(f"{text}; is this machine online?")
    return StoreError(f"{text}; {fix_of(name, None, '', 's3://')}")


def _no_keys(text: str, where: str, url: str) -> StoreError:
    """Our error for a metadata or token service that issues no credentials."""
    answered = _STATUS.search(text)
    reason = clean(answered[3].partition("\n")[0]) if answered else "it does not answer"
    if answered and "token request" in text and not any(server in text for server in _KEY_SERVERS):
        answer = Answer.of_body(int(answered[1] or 200), answered[2] or "", answered[3])
        return StoreError(
            f"{where}: no credentials: {answer}; {fix_of(answer.code or 'NoKeys', None, '', url)}"
        )
    return StoreError(
        f"{where}: no credentials are set, and this machine's metadata service issues none ({reason}); "
        f"{fix_of('NoKeys', None, '', url)}"
    )


@contextmanager
def driver_errors(url: str, path: str) -> Iterator[None]:
    """Turn obstore's exceptions into ours, which name the object."""
    try:
        yield
    except StoreError:
        raise
    except (BaseError, OSError, ValueError) as error:
        raise error_of_driver(error, f"{url}/{path}" if path else url, url) from as_cause(error)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # obstore's; it is not an Exception
            raise
        raise StoreError(f"{url}: {error}; check the endpoint, and the keys for blanks") from as_cause(error)
