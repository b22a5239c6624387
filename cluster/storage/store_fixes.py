"""Fixes for the usual refusals of object stores, by the services' own error codes.

Sources: the error lists of Amazon S3, Google Cloud Storage (XML API) and Azure Blob Storage.
"""

from __future__ import annotations

from datetime import UTC, datetime

TRANSIENT = frozenset(
    (
        *("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling"),
        *("ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "TemporaryRedirect"),
        *("ServerBusy", "OperationTimedOut", "KMS.ThrottlingException"),
        # A write that met a concurrent one: nothing was written, and it may be repeated.
        *("ConditionalRequestConflict", "OperationAborted"),
    )
)
"""Codes after which a retry of the same request may succeed, whatever the HTTP status."""

_LOGIN = "log in again (aws sso login, or a new AWS_SESSION_TOKEN)"
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and that AWS_ENDPOINT_URL is right"
_REGION = "set AWS_REGION to the bucket's region"
_BUCKET = "check the bucket's name, and that the endpoint and the credentials are of the account that owns it"
_AZURE_KEYS = "check AZURE_STORAGE_ACCOUNT_NAME and the key, SAS or login in use"

_OF_ALL = {
    "RequestTimeTooSkewed": "set this machine's clock; it says {now}",
    "RequestExpired": "set this machine's clock; it says {now}",
    "ExpiredToken": _LOGIN,
    "ExpiredTokenException": _LOGIN,
    "TokenRefreshRequired": _LOGIN,
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to these keys; " + _LOGIN,
    "InvalidAccessKeyId": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY: no blank, quote or line break may be around it",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "IncorrectEndpoint": _REGION,
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "AllAccessDisabled": "ask the bucket's owner",
    "AccountProblem": "ask the support of the account",
    "NotSignedUp": "the account is not signed up for S3",
    "InvalidSecurity": _KEYS,
    "UserProjectMissing": "the bucket bills requesters, which is supported for s3:// only; use a copy of it",
    "AuthenticationFailed": _AZURE_KEYS + ", and this machine's clock; it says {now}",
    "InvalidAuthenticationInfo": _AZURE_KEYS,
    "NoAuthenticationInformation": _AZURE_KEYS,
    "KeyBasedAuthenticationNotPermitted": "the account accepts no keys; use az login or a managed identity",
    "AuthorizationFailure": "the account's firewall may not let this machine in",
    "PublicAccessNotPermitted": _AZURE_KEYS,
    "AccountIsDisabled": "ask the support of the account",
    "ContainerNotFound": "check the container's name and AZURE_STORAGE_ACCOUNT_NAME",
    "ContainerBeingDeleted": "the container is being deleted; use another",
}
OF_ALL = frozenset(_OF_ALL)
"""Codes that do not concern the one object: every request would be refused."""

ARCHIVED = frozenset(("InvalidObjectState", "BlobArchived"))
"""Codes that concern one object, and never the credentials."""

_OTHERS = {
    "InvalidObjectState": "it is archived: restore it (aws s3api restore-object), or leave it out",
    "BlobArchived": "it is archived: rehydrate it (az storage blob set-tier), or leave it out",
    "SlowDown": "the store limits requests: use fewer workers (--max-workers)",
    "ServerBusy": "the store limits requests: use fewer workers (--max-workers)",
    "NotImplemented": "the store lacks what a run needs (PUT with If-None-Match, to write an object only "
    "once); use another store for --out",
    "AuthorizationPermissionMismatch": "the login needs the role Storage Blob Data Contributor "
    "(Reader for inputs)",
    "invalid_grant": "log in again: gcloud auth application-default login",
    "EntityTooLarge": "the store accepts no object of this size",
    # exceptions of boto3, where it finds no keys
    "ProfileNotFound": "check AWS_PROFILE against ~/.aws/config, or unset it",
    "ConfigParseError": "repair or remove that file",
    "PartialCredentialsError": "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY both, or neither",
    "CredentialRetrievalError": "log in again; if the profile has a credential_process, run it by hand",
    "SSOTokenLoadError": "log in: aws sso login",
    "UnauthorizedSSOTokenError": "log in: aws sso login",
    "TokenRetrievalError": "log in: aws sso login",
    "SSOError": "log in: aws sso login",
    "ExpiredLoginError": "log in: aws login",
}

_HUB = {
    **dict.fromkeys(
        (401, 403), "set HF_TOKEN to a token that may read it, and accept its terms on its page if it has any"
    ),
    429: "the hub limits requests: set HF_TOKEN, or use fewer workers (--max-workers)",
}
"""Fixes for refusals of Hugging Face's hub, by HTTP status."""

_PERMISSIONS = {
    "s3": {
        "GET": "s3:GetObject",
        "HEAD": "s3:GetObject",
        "PUT": "s3:PutObject",
        "DELETE": "s3:DeleteObject",
        "LIST": "s3:ListBucket",
    },
    "gs": {
        "GET": "storage.objects.get",
        "HEAD": "storage.objects.get",
        "PUT": "storage.objects.create and .delete",
        "DELETE": "storage.objects.delete",
        "LIST": "storage.objects.list",
    },
}
_AZURE_ROLES = {"GET": "Reader", "HEAD": "Reader", "LIST": "Reader"}
_NO_KEYS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket "
    "AWS_SKIP_SIGNATURE=true",
    "gs": "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; for a public "
    "bucket GOOGLE_SKIP_SIGNATURE=true",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or run az login and set "
    "AZURE_USE_AZURE_CLI=true; for a public container AZURE_SKIP_SIGNATURE=true",
}


def fix_of(code: str, status: int | None, operation: str, url: str, region: str | None = None) -> str:
    """The fix for a refusal; empty if none is known.

    Args:
        code: the service's error code, or the name of an exception of boto3.
        operation: HTTP's method, or LIST.
        region: the correct one, if the service names it.
    """
    scheme = url.partition("://")[0]
    if scheme == "hf":
        return _HUB.get(status or 0, "")
    fix = _OF_ALL.get(code) or _OTHERS.get(code)
    if fix == _REGION and region:
        return f"set AWS_REGION={region}"
    if fix:
        return fix.format(now=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    if code == "NoKeys" or (code == "" and status == 401):
        return _NO_KEYS.get(scheme, "")
    if code.startswith("KMS"):
        return "the login needs kms:Decrypt (for writing kms:GenerateDataKey) on the bucket's enabled key"
    if status == 407:
        return "give the proxy's user and password in HTTPS_PROXY"
    if status == 413:
        return "a proxy before the store limits the size of uploads; raise its limit"
    if status == 501:
        return _OTHERS["NotImplemented"]
    if status == 403:
        return _permission(scheme, operation)
    if status is None:
        return "check the profile in ~/.aws/config, what it runs or reads, and the AWS_ variables"
    return ""


def _permission(scheme: str, operation: str) -> str:
    if scheme == "az":
        return f"the login needs the role Storage Blob Data {_AZURE_ROLES.get(operation, 'Contributor')}"
    needed = _PERMISSIONS.get(scheme, {}).get(operation)
    if not needed:
        return ""
    fix = f"the credentials need the permission {needed}"
    if scheme == "s3" and operation in ("GET", "HEAD", "LIST"):
        fix += " (of a requester-pays bucket: AWS_REQUEST_PAYER=requester)"
    return fix
