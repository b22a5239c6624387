"""Access to S3 by AWS's usual variables and files: endpoint, region, credentials, requester pays.

They are read once for both clients: obstore, which does the work, and boto3, for object keys that obstore
cannot express and for answers that it does not pass on.
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
    error_of_answer,
    error_of_credentials,
    not_a_store,
)
from cluster.storage.store_fixes import fix_of
from originality.contract.redaction import as_cause, remember

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_DEFAULT_REGION = "us-east-1"
"""The default of AWS's own tools."""
_REGION = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")
"""botocore's rule: a region becomes a part of a host name."""
_FLAGS = dict.fromkeys(("1", "true", "yes", "on", "y"), True) | dict.fromkeys(
    ("", "0", "false", "no", "off", "n"), False
)
_KEY_SERVER_ATTEMPTS = 3
"""By default boto3 requests an instance's credentials once, which fails when many workers start at once."""

_client_lock = threading.Lock()
"""boto3 is not thread-safe while it creates a client."""


@dataclass(frozen=True)
class S3Access:
    """Endpoint and credentials for S3, as this machine is configured."""

    session: boto3.Session
    endpoint: str | None
    """URL; None for AWS itself."""
    region: str
    unsigned: bool
    """Whether requests are sent without credentials, as to public buckets."""
    requester_pays: bool

    def options(self) -> dict[str, Any]:
        """Options for obstore's S3Store, beside its client_options."""
        options: dict[str, Any] = {"region": self.region, "request_payer": self.requester_pays}
        if self.endpoint:
            options["endpoint"] = self.endpoint
        if self.unsigned:
            return options | {"skip_signature": True}
        return options | {"credential_provider": Boto3CredentialProvider(self.session)}

    @cached_property
    def client(self) -> Any:
        """A client of boto3."""
        config = Config(
            retries={"mode": "standard", "max_attempts": 8},
            signature_version=UNSIGNED if self.unsigned else None,
            s3={"addressing_style": "path"} if self.endpoint else None,
        )
        with _client_lock:
            return self.session.client(
                "s3", region_name=self.region, endpoint_url=self.endpoint, config=config
            )

    @property
    def payer(self) -> dict[str, str]:
        """The parameter of boto3's requests for requester pays; empty without credentials, as nobody could be
        billed."""
        return {"RequestPayer": "requester"} if self.requester_pays and not self.unsigned else {}

    def region_of(self, bucket: str) -> str | None:
        """The region of a bucket; None if S3 does not tell. S3 names it in a header of any answer, refusals
        too."""
        try:
            answer = self.client.head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
        except BotoCoreError:
            return None
        region: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return region


def s3_access() -> S3Access:
    """Read the environment and AWS's files, and find credentials.

    Raises:
        StoreError: a value there is invalid or missing.
        Outage: the service that issues credentials does not answer.
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
                    "no AWS credentials are set, and this machine's metadata service (IMDS) issues none; "
                    + fix_of("NoKeys", None, "", "s3://")
                )
            frozen = keys.get_frozen_credentials()
            remember(frozen.access_key, frozen.secret_key, frozen.token)  # to be masked in every message
            _check_blanks(frozen)
    return S3Access(session, endpoint, region, unsigned, requester_pays)


def _check_blanks(keys: Any) -> None:
    """Refuse credentials with white space: a line break is easily copied with a key, and no header can hold
    it."""
    named = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }
    for name, value in named.items():
        if any(c.isspace() for c in value or ""):
            raise StoreError(
                f"{name} (or its value in the profile) contains a space or a line break; remove it"
            )


@contextmanager
def _key_errors() -> Iterator[None]:
    """Turn the errors of finding credentials into ours."""
    try:
        yield
    except StoreError:
        raise
    except (BotoCoreError, ClientError, OSError, ValueError, KeyError, TypeError) as error:
        raise error_of_credentials(type(error).__name__, str(error), "") from as_cause(error)


def _flag(name: str) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if name == "AWS_REQUEST_PAYER" and value == "requester":
        return True
    if value not in _FLAGS:
        raise StoreError(f"{name} is {value!r}; set it to true or false")
    return _FLAGS[value]


def _endpoint(core: botocore.session.Session) -> str | None:
    """The endpoint of the environment, else of the profile, with boto3's precedence."""
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
    """An endpoint's URL without surrounding white space. ``name``: of the variable, for messages.

    Raises:
        StoreError: it is not an http or https URL of a host.
    """
    value = value.strip()
    if "@" in value:
        raise StoreError(
            f"{name} contains a user name or key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    if not re.match(r"https?://", value, re.IGNORECASE):
        # "minio:9000" parses as the scheme "minio"; only http and https are supported
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
        raise StoreError(f"{name}={clean(value)} is not an address of a store; write it as http://host:port")
    return value


@contextmanager
def s3_errors(where: str, operation: str) -> Iterator[None]:
    """Turn boto3's exceptions into ours. ``operation``: GET, HEAD or LIST."""
    try:
        yield
    except ClientError as error:
        body, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        status, code = int(meta.get("HTTPStatusCode", 0)), as_code(body.get("Code", ""))
        region = body.get("Region") or meta.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        # For an answer without a body boto3 gives the status as its code.
        answer = Answer(status, "", "" if code.isdecimal() else code, clean(body.get("Message", "")), region)
        raise error_of_answer(answer, operation, where, "s3://") from as_cause(error)
    except BotoCoreError as error:
        if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
            raise error_of_credentials(type(error).__name__, str(error), where) from as_cause(error)
        if "Parser" in type(error).__name__:
            raise not_a_store(where, "no XML of S3") from as_cause(error)
        raise Outage(f"{where}: {clean(str(error))}") from as_cause(error)
