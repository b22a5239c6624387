"""Secrets never pass, and what is ordinary does."""

from __future__ import annotations

import hashlib
import html
import pickle
import random
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.sources import Unreadable
from cluster.ray_runtime.runtime import EngineError
from cluster.storage.store_errors import NotFound, Outage, Refused, StoreError
from originality.contract.faults import ItemFault, MachineFault, line_of
from originality.contract.redaction import masked, remember

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION = "IQoJb3JpZ2luX2VjEPr//////////wEaCXVzLWVhc3QtMSJHMEUCIQ" * 6
HEX = hashlib.sha256(b"x").hexdigest()

SECRETS = {
    "an access key": ("The key ASIAIOSFODNN7EXAMPLE does not exist", "ASIAIOSFODNN7EXAMPLE"),
    "a secret key": (f"used {KEY} here", KEY),
    "a session token": (f"token {SESSION} expired", SESSION[:30]),
    "a presigned URL": (f"GET https://b.s3.amazonaws.com/k?X-Amz-Signature={HEX}&X-Amz-Date=1", HEX),
    "a credential": ("X-Amz-Credential=abc/20260101/eu/s3/aws4_request&x=1", "abc/20260101"),
    "an escaped signature": (f"?a=1&amp;X-Amz-Signature={HEX}&amp;b=2", HEX),
    "a SAS": ("https://a.blob.core.windows.net/c/b?sv=2024&sig=a%2Fb%3D", "a%2Fb%3D"),
    "a SAS alone": ("sv=2024-01-01&sig=abcdef%3D&se=2026", "abcdef%3D"),
    "what was signed": ("<StringToSign>AWS4\n20260101\nx</StringToSign><a>b</a>", "20260101"),
    "what was signed, cut off": ("<Code>X</Code><CanonicalRequest>GET\n/key\nhost:h", "host:h"),
    "what was signed, escaped": ("&lt;StringToSign&gt;AWS4 x y&lt;/StringToSign&gt;", "AWS4 x y"),
    "what was signed, in JSON": ('{"StringToSign": "GET\\n\\n\\"q\\"z"}', "q"),
    "what Azure signed": ("Server used following string to sign: 'GET\n\nx-ms-date:now'.", "x-ms-date"),
    "an authorization": ("Authorization: AWS4-HMAC-SHA256 Credential=q, Signature=z", "Credential"),
    "a login": ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "a bearer": ("sent Bearer abcdefgh12345678", "abcdefgh12345678"),
    "the hub's token": ("401 for hf_abcdefghijKLMNOPQRST012345", "abcdefghij"),
    "a password": ("proxy http://joe:s3cr3t@proxy:3128 refused", "s3cr3t"),
    "a password with an at": ("http://joe:s3@cr3t@proxy:3128", "cr3t"),
    "a password with a slash": ("http://joe:s3/cr3t@proxy:3128/x", "cr3t"),
    "a password without a scheme": ("cannot reach joe:s3cr3t@proxy:3128", "s3cr3t"),
    "a user": ("https://t0k3nvalue@huggingface.co/a", "t0k3nvalue"),
    "a variable": ("env: AWS_SECRET_ACCESS_KEY=abc123 RAY=1", "abc123"),
    "a token in an environment": ("{'RAY_AUTH_TOKEN': '0123456789abcdef0123'}", "0123456789abcdef"),
    "a key of Azure's": ("AccountName=a;AccountKey=abc123==;Endpoint=b", "abc123"),
    "an OAuth token": ('{"access_token": "ya29.a0AfH6SMBxxxxxxxxxxx"}', "a0AfH6SMB"),
    "a web token": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "eyJzdWIi"),
    "a web token, cut off": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In", "eyJzdWIi"),
    "an encrypted web token": (
        f"eyJhbGciOiJSU0EtT0FFUCJ9.{'Ab1_' * 8}.{'Cd2-' * 4}.{'Ef3' * 9}.{'Gh' * 11}",
        "Cd2",
    ),
    "a client's secret": ("client_secret=hunter2/x&a=b", "hunter2/x"),
    "a secret before a path": ("secret=hunter2/photos/a.png", "hunter2"),
    "a secret in one word": ("clientSecret=hunter2", "hunter2"),
    "a key with slashes": (f"secretAccessKey={KEY}", "bPxRfi"),
    "a private key": ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_text_in_the_form_of_a_secret_is_masked(name: str) -> None:
    text, secret = SECRETS[name]
    assert secret in text and secret not in masked(text)
    assert "***" in masked(text) and masked(masked(text)) == masked(text)


@pytest.mark.parametrize("way", [str, quote, quote_plus, lambda s: quote(s, safe=""), html.escape])
@pytest.mark.parametrize(
    "variable",
    [
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "HF_TOKEN"),
        *("AZURE_STORAGE_SAS_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY", "RAY_AUTH_TOKEN", "MY_DB_PASSWORD"),
    ],
)
def test_known_secrets_are_masked_in_every_spelling(
    variable: str, way, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "plain words & 'a/slash' <é>"
    monkeypatch.setenv(variable, secret)
    assert masked(f"before {way(secret)} after") == "before *** after"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "AWS_ENDPOINT_URL", "HF_ENDPOINT"])
def test_passwords_in_addresses_of_the_environment_are_masked(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://joe:correct-horse@proxy.example:3128")
    assert masked("refused correct-horse") == "refused ***"


def test_keys_of_a_profile_are_masked_once_they_are_known() -> None:
    assert masked("words-of-a-profile") == "words-of-a-profile"
    remember("words-of-a-profile", None, "short")
    assert masked("x words-of-a-profile y short") == "x *** y short"


@given(st.integers(0, 2**32))
def test_random_secret_keys_are_masked(seed: int) -> None:
    chosen = random.Random(seed)
    key = "".join(chosen.choices(string.ascii_letters + string.digits + "/+", k=40))
    if set(key) & set(string.digits) and not key.startswith("//"):
        assert key not in masked(f"error: '{key}' was refused")


WORDS = st.sampled_from(
    [
        *("home", "user", "Photos", "IMG_2024", "DSC00123", "holiday", "2020", "a", "b", "0", "x.jpg"),
        *("Katzen-Bilder", "images", "y.PNG", "Ünï", "漢字", "tokens", "session", "sig.png", "password"),
        *("policy.csv", "key", "secret", "signature", "@eaDir", "a@b.jpg", "IMG20240101", "100CANON"),
        *("part-00000.parquet", "c=1", "year=2024", "name:x", "Originals", "CamelCaseFolder"),
    ]
)
PATHS = st.lists(WORDS, min_size=1, max_size=12).map("/".join)
DIGESTS = st.binary(max_size=8).flatmap(
    lambda data: st.sampled_from(
        [
            hashlib.sha256(data).hexdigest(),
            hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            f"sha256-{hashlib.sha256(data).hexdigest()}",
            hashlib.md5(data, usedforsecurity=False).hexdigest(),
            hashlib.sha256(data).hexdigest().upper(),
        ]
    )
)
RANDOM_NAMES = st.text(string.ascii_letters + string.digits, min_size=40, max_size=40)
"""As some programs name what is uploaded, Laravel for one."""
EXTENSIONS = st.sampled_from([".jpg", ".JPG", ".png", ".webp", ".parquet", ".tar.gz", ".jpeg"])
ODD_NAMES = st.one_of(
    RANDOM_NAMES,
    st.sampled_from(
        [
            *("secretsanta=2023", "session_token=12345", "hf_models_of_something_long.png", "api_key=none"),
            *("eyJohnson_family.2019.reunion.png", "ghs_and_more_things_here_again.png", "client_secret=x"),
            *("my-secret:the-wonderful-beach.png", "ASIANGAMES2024PHOTOS.jpg", "eyJhbGciOiJI.png.jpg"),
        ]
    ),
)
IN_ODD_FOLDERS = st.lists(st.one_of(WORDS, ODD_NAMES), min_size=1, max_size=8).map("/".join)
ORDINARY = st.one_of(
    PATHS,
    st.builds("{}{}".format, RANDOM_NAMES, EXTENSIONS),
    st.builds("uploads/{}/{}{}".format, RANDOM_NAMES, RANDOM_NAMES, EXTENSIONS),
    st.builds("/{}/{}{}".format, IN_ODD_FOLDERS, RANDOM_NAMES, EXTENSIONS),
    st.builds("s3://my-bucket/{}/x.jpg".format, IN_ODD_FOLDERS),
    st.builds("s3://my-bucket/{}".format, st.lists(RANDOM_NAMES, min_size=1, max_size=4).map("/".join)),
    st.builds("/srv/{}".format, st.lists(RANDOM_NAMES, min_size=1, max_size=4).map("/".join)),
    DIGESTS,
    st.builds("s3://bucket/{}".format, PATHS),
    st.builds("/{}".format, PATHS),
    st.builds("file:///{}".format, PATHS),
    st.builds("http://127.0.0.1:9000/{}".format, PATHS),
    st.builds("images/{}/query.webp of {}".format, DIGESTS, PATHS),
    st.uuids().map(str),
    st.integers().map(str),
)


@given(ORDINARY)
def test_paths_and_digests_stay_as_they_are(text: str) -> None:
    assert masked(text) == text
    assert masked(f"{text} does not exist (AWS_ENDPOINT_URL)") == (
        f"{text} does not exist (AWS_ENDPOINT_URL)"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("secretsanta=2023/a.png", "hf_models_of_something_long.png", "eyJohnson_family.2019.reunion.png"),
        *(
            "s3://b/session_token=12345/x.png",
            "/photos/my-secret: the-wonderful-beach.png",
            "secretary: none",
        ),
        "/d/authorization: none.png",
    ],
)
def test_names_that_look_like_fields_or_tokens_stay(name: str) -> None:
    assert masked(f"{name} does not exist") == f"{name} does not exist"


def test_a_known_secret_is_masked_in_a_file_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    assert masked(f"/photos/{KEY}.png and s3://b/{KEY}/x.png") == "/photos/***.png and s3://b/***/x.png"


@pytest.mark.parametrize(
    "text",
    [
        "s3://b/k: 403 Forbidden, InvalidToken: AWS_SESSION_TOKEN does not belong to these keys",
        "SignatureDoesNotMatch: check AWS_SECRET_ACCESS_KEY: no blank, quote or line break may be around it",
        "for a public bucket AWS_SKIP_SIGNATURE=true (requester-pays: AWS_REQUEST_PAYER=requester)",
        "AuthorizationHeaderMalformed: The authorization header is malformed; the region 'x' is wrong",
        "Please use AWS4-HMAC-SHA256.",
        "407: give the proxy's user and password in HTTPS_PROXY",
        "tried 3 tokens: 1 of 5; max_tokens=5",
        "cannot use Ray at RAY_ADDRESS=10.0.0.1:6379 (Connection refused)",
    ],
)
def test_messages_of_this_package_are_kept(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "error",
    [StoreError, NotFound, Outage, Refused, EngineError, MachineFault, ItemFault],
)
def test_our_exceptions_never_contain_a_secret(error: type[Exception]) -> None:
    made = error(f"refused: {KEY}")
    again = pickle.loads(pickle.dumps(made))
    for text in (str(made), repr(made), str(made.args), line_of(made), str(again)):
        assert KEY not in text and "refused: ***" in text


def test_errors_of_libraries_are_masked_as_causes() -> None:
    assert line_of(ValueError(f"refused: {KEY}")) == "ValueError: refused: ***"
    assert Unreadable("unreadable", f"refused: {KEY}").message == "refused: ***"
