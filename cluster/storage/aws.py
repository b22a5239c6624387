"""How S3 is reached, by AWS's usual variables and files: endpoint, region, keys, and who pays.

They are read once for both clients: obstore, which does the work, and boto3, for the keys that obstore cannot
express and for what it does not pass on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider

from cluster.storage.store_errors import (
    Answer,
    Outage,
    StoreError,
    as_code,
    clean,
    no_store,
    of_answer,
    of_keys,
)
from cluster.storage.store_fixes import fix_of
from originality.contract.redaction import as_cause, remember

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_DEFAULT_REGION = "us-east-1"
"""As AWS's own tools have it."""
_REGION = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")
"""botocore's rule, as a region becomes a part of a host's name."""
_FLAGS = dict.fromkeys(("1", "true", "yes", "on", "y"), True) | dict.fromkeys(
    ("", "0", "false", "no", "off", "n"), False
)
_KEY_SERVER_ATTEMPTS = 3
"""boto3's single request for an instance's keys fails when many workers start at once."""

_one_at_a_time = threading.Lock()
"""boto3 may not make two clients at once."""


@dataclass(frozen=True)
class S3Access:
    """The way to S3 from here."""

    session: boto3.Session
    endpoint: str | None
    """None for AWS itself."""
    region: str
    unsigned: bool
    """Whether requests carry no keys, as for public buckets."""
    requester_pays: bool

    def options(self) -> dict[str, Any]:
        """For obstore's S3Store, beside its client_options."""
        options: dict[str, Any] = {"region": self.region, "request_payer": self.requester_pays}
        if self.endpoint:
            options["endpoint"] = self.endpoint
        if self.unsigned:
            return options | {"skip_signature": True}
        return options | {"credential_provider": Boto3CredentialProvider(self.session)}

    @cached_property
    def client(self) -> Any:
        """boto3's."""
        config = Config(
            retries={"mode": "standard", "max_attempts": 8},
            signature_version=UNSIGNED if self.unsigned else None,
            s3={"addressing_style": "path"} if self.endpoint else None,
        )
        with _one_at_a_time:
            return self.session.client(
                "s3", region_name=self.region, endpoint_url=self.endpoint, config=config
            )

    @property
    def payer(self) -> dict[str, str]:
        """A parameter of boto3's requests; who sends no keys cannot pay."""
        return {"RequestPayer": "requester"} if self.requester_pays and not self.unsigned else {}

    def region_of(self, bucket: str) -> str | None:
        """Where a bucket is, if S3 tells; it does so in a header of whatever it answers."""
        try:
            answer = self.client.head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
        except BotoCoreError:
            return None
        region: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return region


def s3_access() -> S3Access:
    """Reads the environment and AWS's files, and looks for keys.

    Raises:
        StoreError: something there is wrong or missing.
        Outage: whoever gives the keys does not answer.
    """
    unsigned = _flag("AWS_SKIP_SIGNATURE")
    requester_pays = _flag("AWS_REQUEST_PAYER")
    with _key_errors():
        core = botocore.session.Session()
        if "AWS_METADATA_SERVICE_NUM_ATTEMPTS" not in os.environ:
            core.set_config_variable("metadata_service_num_attempts", _KEY_SERVER_ATTEMPTS)
        session = boto3.Session(botocore_session=core, region_name=os.environ.get("AWS_REGION") or None)
        endpoint = _endpoint(core)
        region = session.region_name or _DEFAULT_REGION
        if not _REGION.fullmatch(region):
            raise StoreError(f"AWS_REGION or AWS_DEFAULT_REGION is {region!r}; write a region as eu-west-1")
        if not unsigned:
            keys = session.get_credentials()
            if keys is None:
                raise StoreError(
                    "no AWS keys are set, and no metadata service (IMDS) of this machine gives any; "
                    + fix_of("NoKeys", None, "", "s3://")
                )
            frozen = keys.get_frozen_credentials()
            remember(frozen.access_key, frozen.secret_key, frozen.token)
            _check_blanks(frozen)
    return S3Access(session, endpoint, region, unsigned, requester_pays)


def _check_blanks(keys: Any) -> None:
    """A line break is easily copied with a key, and cannot be sent in a header."""
    named = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }
    for name, value in named.items():
        if any(c.isspace() for c in value or ""):
            raise StoreError(
                f"{name} (or what the profile has for it) holds a blank or a line break; remove it"
            )


@contextmanager
def _key_errors() -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except (BotoCoreError, ClientError, OSError, ValueError, KeyError, TypeError) as error:
        raise of_keys(type(error).__name__, str(error), "") from as_cause(error)


def _flag(name: str) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if name == "AWS_REQUEST_PAYER" and value == "requester":
        return True
    if value not in _FLAGS:
        raise StoreError(f"{name} is {value!r}; write true or false")
    return _FLAGS[value]


def _endpoint(core: botocore.session.Session) -> str | None:
    """Of the environment, else of the profile, as boto3 has it."""
    for name in _ENDPOINTS:
        if os.environ.get(name):
            return checked_endpoint(os.environ[name], name)
    profile = core.get_scoped_config()
    services = core.full_config.get("services", {}).get(profile.get("services"), {})
    of_service = services.get("s3", {}) if isinstance(services, dict) else {}
    value = (of_service.get("endpoint_url") if isinstance(of_service, dict) else None) or profile.get(
        "endpoint_url"
    )
    return checked_endpoint(str(value), "endpoint_url in AWS's config file") if value else None


def checked_endpoint(value: str, name: str) -> str:
    """An endpoint's URL without what surrounds it.

    Raises:
        StoreError: it is none.
    """
    value = value.strip()
    if "@" in value:
        raise StoreError(
            f"{name} holds a user or key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    if not re.match(r"https?://", value, re.IGNORECASE):
        # "minio:9000" reads as the scheme "minio"; other schemes are not spoken
        bare = value.partition("://")[2] or value.lstrip("/")
        raise StoreError(
            f"{name}={clean(value)} needs http:// or https:// before it; write "
            f"http://{clean(bare) or 'host:port'}"
        )
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise StoreError(f"{name}={clean(value)}: {error}; write it as http://host:port") from error
    if port == 0 or not re.fullmatch(r"[\w.:-]+", parts.hostname or "") or parts.query or parts.fragment:
        raise StoreError(f"{name}={clean(value)} is no address of a store; write it as http://host:port")
    return value


@contextmanager
def s3_errors(where: str, operation: str) -> Iterator[None]:
    """Turns boto3's exceptions into ours. ``operation``: GET, HEAD or LIST."""
    try:
        yield
    except ClientError as error:
        said, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        status, code = int(about.get("HTTPStatusCode", 0)), as_code(said.get("Code", ""))
        region = said.get("Region") or about.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        # of an answer without a body boto3 gives the status as code
        answer = Answer(status, "", "" if code.isdecimal() else code, clean(said.get("Message", "")), region)
        raise of_answer(answer, operation, where, "s3://") from as_cause(error)
    except BotoCoreError as error:
        if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
            raise of_keys(type(error).__name__, str(error), where) from as_cause(error)
        if "Parser" in type(error).__name__:
            raise no_store(where, "not the XML of S3") from as_cause(error)
        raise Outage(f"{where}: {clean(str(error))}") from as_cause(error)
