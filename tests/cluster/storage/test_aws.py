"""Access to S3: errors in the environment or in AWS's files are one line, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage.store import Outage, StoreError, open_store
from cluster.storage.store_errors import error_of_driver
from jobs.cli import main
from tests.support.scripted_server import NO_SUCH_KEY, Server, answering

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-real-secret"}
SSO = "sso_start_url = https://x.invalid/start\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without access to S3."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_PROFILE", *KEYS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("STORE_PATIENCE_SECONDS", "60")
    return monkeypatch


@pytest.fixture
def server() -> Iterator[Server]:
    with answering() as server:
        yield server


WRONG = [
    ({**KEYS, "AWS_ENDPOINT_URL": "minio:9000"}, "", "minio:9000 needs http.* write http://minio:9000$"),
    ({**KEYS, "AWS_ENDPOINT_URL": "localhost"}, "", "needs http:// or https://"),
    ({**KEYS, "AWS_ENDPOINT_URL": "ftp://host:1"}, "", "write http://host:1$"),
    ({**KEYS, "AWS_ENDPOINT_URL": "http://host:99999"}, "", "Port out of range"),
    ({**KEYS, "AWS_ENDPOINT_URL": "http://host:abc"}, "", "AWS_ENDPOINT_URL=http://host:abc"),
    ({**KEYS, "AWS_ENDPOINT_URL": "http://"}, "", "write it as http://host:port"),
    ({**KEYS, "AWS_ENDPOINT_URL": "http://me:HIDDEN@host:1"}, "", "AWS_ENDPOINT_URL .*AWS_ACCESS_KEY_ID"),
    (
        {**KEYS, "AWS_ENDPOINT_URL_S3": "http://no-such-host.invalid"},
        "",
        "no-such-host.invalid",
    ),
    ({**KEYS, "AWS_DEFAULT_REGION": "eu west"}, "", "write a region as eu-west-1"),
    ({**KEYS, "AWS_PROFILE": "nosuch"}, "", "ProfileNotFound.*nosuch.*check AWS_PROFILE"),
    ({**KEYS, "AWS_ACCESS_KEY_ID": "HIDDEN\n"}, "", "AWS_ACCESS_KEY_ID .* a line break"),
    ({**KEYS, "AWS_SECRET_ACCESS_KEY": "HIDDEN "}, "", "AWS_SECRET_ACCESS_KEY .* a line break"),
    ({**KEYS, "AWS_SKIP_SIGNATURE": "perhaps"}, "", "AWS_SKIP_SIGNATURE is 'perhaps'"),
    ({"AWS_ACCESS_KEY_ID": "HIDDEN"}, "", "PartialCredentialsError.* both"),
    ({}, "", "AWS_SKIP_SIGNATURE=true"),
    ({}, "[default\nregion = x", "ConfigParseError"),
    ({}, "[default]\ncredential_process = /bin/false", "CredentialRetrievalError.*credential_process"),
    ({}, "[default]\ncredential_process = /bin/sh -c 'echo over quota >&2; exit 3'", "over quota"),
    ({}, "[default]\ncredential_process = /none/such", "No such file or directory: '/none/such'"),
    ({}, "[default]\ncredential_process = /bin/echo HIDDEN", "JSONDecodeError.*profile"),
    ({}, f"[default]\n{SSO}", "SSOTokenLoadError.*log in: aws sso login"),
    ({}, "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = nope", "InvalidConfigError.*nope"),
    ({**KEYS}, "[default]\nendpoint_url = minio:9000", "AWS's config file=minio:9000 needs http"),
]


@pytest.mark.parametrize(("environment", "config", "output"), WRONG, ids=[output for *_, output in WRONG])
def test_a_wrong_configuration_of_s3_is_a_one_line_error(
    clean: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], config: str, output: str
) -> None:
    for name, value in environment.items():
        clean.setenv(name, value)
    (tmp_path / "config").write_text(config)
    with pytest.raises(StoreError, match=output) as caught:
        open_store("s3://b/run").read("run.json")
    assert "\n" not in str(caught.value) and "HIDDEN" not in str(caught.value)
    assert not isinstance(caught.value, Outage)


@pytest.mark.parametrize(
    ("endpoint", "output"),
    [
        ("http://127.0.0.1:1", ": http://127.0.0.1:1: .*Connection refused"),
        ("http://no-such-host.invalid", "host no-such-host.invalid"),
    ],
)
def test_an_unanswered_listing_names_the_host(clean: pytest.MonkeyPatch, endpoint: str, output: str) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint, "STORE_PATIENCE_SECONDS": "0.1"}.items():
        clean.setenv(name, value)
    with pytest.raises(StoreError, match=output):
        list(open_store("s3://b/x").list())


@pytest.mark.parametrize(
    ("cause", "output"),
    [
        ("Connection refused", "s3://b/x: error sending request: Connection refused"),
        ("Name or service not known", "s3://b/x: its host was not found (error sending request: Name"),
    ],
)
def test_no_host_is_invented_if_obstore_names_none(cause: str, output: str) -> None:
    text = f'HTTP error: error sending request\n\nDebug source:\nmessage: "{cause}"'
    assert str(error_of_driver(OSError(text), "s3://b/x", "s3://b/x")).startswith(output)


COMMANDS = [
    ["audit", "s3://b/in", "--out", "OUT"],
    ["audit", "s3://b/in/*.png", "--out", "OUT"],
    ["audit", "s3://b/list.csv", "--dry-run"],
    ["audit", "examples", "--out", "s3://b/run"],
    ["audit", "s3://b/in", "--dry-run"],
    ["audit", "examples", "--out", "OUT", "--model", "s3://b/model"],
    ["audit", "examples", "--out", "OUT", "--model", "s3://b/model.safetensors"],
    ["status", "s3://b/run"],
    ["retry", "s3://b/run", "--status", "failed"],
    ["report", "s3://b/run"],
    ["estimate", "s3://b/in", "--sample", "1"],
    ["tokens", "export", "s3://b/run", "--to", "OUT"],
    ["calibrate", "s3://b/list.csv", "--out", "OUT.yaml", "--run", "OUT"],
    ["models", "fetch", "dreamsim", "--to", "s3://b/weights"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_with_a_url_reports_errors_in_one_line(
    clean: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for environment in ({**KEYS, "AWS_ENDPOINT_URL": "minio:9000"}, {"AWS_PROFILE": "nosuch"}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert main([part.replace("OUT", str(tmp_path / "out")) for part in command]) == 2
        output = [line for line in capfd.readouterr().err.splitlines() if line.startswith("originality: ")]
        assert len(output) == 1 and ("minio:9000" in output[0] or "nosuch" in output[0])


def test_a_profile_sets_the_endpoint(clean: pytest.MonkeyPatch, tmp_path: Path, server: Server) -> None:
    server.answer = lambda request: NO_SUCH_KEY
    keys = "aws_access_key_id = id\naws_secret_access_key = secret\nregion = eu-north-1"
    clean.delenv("AWS_DEFAULT_REGION")
    clean.setenv("AWS_PROFILE", "home")
    for place in (f"endpoint_url = {server.url}", "services = there"):
        (tmp_path / "config").write_text(
            f"[profile home]\n{keys}\n{place}\n[services there]\ns3 =\n  endpoint_url = {server.url}\n"
        )
        server.requests.clear()
        assert not open_store("s3://b/run").exists("x")
        assert "Credential=id/" in server.requests[0].headers["authorization"]
        assert "/eu-north-1/s3/" in server.requests[0].headers["authorization"]
