"""PreemptionWatch against a web server that answers as EC2's and GCE's metadata services, and with a file."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from cluster.worker.preemption import PreemptionWatch
from tests.support.metadata_service import NOWHERE, SILENT, Cloud
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ORIGINALITY_LEAVE_FILE", raising=False)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        Thread(target=cloud.serve_forever, daemon=True).start()
        yield cloud
        cloud.shutdown()


@pytest.fixture
def started() -> Iterator[Callable[..., PreemptionWatch]]:
    watches: list[PreemptionWatch] = []

    def start(ec2: str = NOWHERE, gce: str = NOWHERE, every: float = 0.05) -> PreemptionWatch:
        watches.append(PreemptionWatch(ec2, gce, every))
        watches[-1].start()
        return watches[-1]

    yield start
    for watch in watches:
        watch.stop()


def _requested_again(cloud: Cloud, times: int = 3) -> None:
    """Waits until the watch has sent so many more requests."""
    before = len(cloud.requested)
    until(lambda: len(cloud.requested) >= before + times)


def test_ec2_tells_the_time(cloud: Cloud, started: Callable[..., PreemptionWatch]) -> None:
    watch = started(ec2=cloud.url)
    _requested_again(cloud)
    assert watch.notice is None and watch.alive
    cloud.terminates()
    until(lambda: watch.notice)
    assert watch.notice.startswith("EC2 ") and "at 2026-09-18T08:22:00Z (terminate)" in watch.notice
    until(lambda: not watch.alive)
    assert cloud.tokens_given == 1


def test_a_notice_from_before_the_start_counts(cloud: Cloud, started: Callable[..., PreemptionWatch]) -> None:
    cloud.terminates()
    watch = started(ec2=cloud.url, every=1000)
    until(lambda: watch.notice)


def test_a_notice_with_an_unknown_action_counts(
    cloud: Cloud, started: Callable[..., PreemptionWatch]
) -> None:
    cloud.action = "soon"
    watch = started(ec2=cloud.url)
    until(lambda: watch.notice)
    assert watch.notice.startswith("EC2 ")


def test_an_expired_token_is_renewed(cloud: Cloud, started: Callable[..., PreemptionWatch]) -> None:
    watch = started(ec2=cloud.url)
    _requested_again(cloud)
    cloud.tokens.clear()
    _requested_again(cloud, 6)
    assert cloud.tokens_given == 2
    cloud.terminates()
    until(lambda: watch.notice)


def test_a_recommendation_to_rebalance_is_no_notice(
    cloud: Cloud, started: Callable[..., PreemptionWatch]
) -> None:
    cloud.rebalance = True
    watch = started(ec2=cloud.url)
    _requested_again(cloud, 6)
    assert watch.notice is None


def test_gce_tells_that_it_preempts(cloud: Cloud, started: Callable[..., PreemptionWatch]) -> None:
    watch = started(gce=cloud.url)
    _requested_again(cloud)
    assert watch.notice is None and watch.alive
    cloud.preempted = "TRUE\n"
    until(lambda: watch.notice)
    assert watch.notice.startswith("GCE ") and "30 seconds" in watch.notice


def test_a_different_server_under_googles_name_is_ignored(
    cloud: Cloud, started: Callable[..., PreemptionWatch]
) -> None:
    cloud.flavor, cloud.preempted = "portal", "TRUE"
    watch = started(gce=cloud.url)
    until(lambda: not watch.alive)
    assert watch.notice is None


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("service", ["ec2", "gce"])
def test_errors_of_the_service_are_waited_out(
    cloud: Cloud, started: Callable[..., PreemptionWatch], service: str, status: int
) -> None:
    """At the start, for longer than a missing service is tried, and later."""
    cloud.ailing = status
    watch = started(**{service: cloud.url})
    _requested_again(cloud, 5)  # oftener than a service may be silent
    assert watch.alive
    cloud.ailing = 0
    _requested_again(cloud)
    cloud.ailing = status
    _requested_again(cloud)
    cloud.terminates()
    cloud.preempted = "TRUE"
    assert watch.notice is None
    cloud.ailing = 0
    until(lambda: watch.notice)


def test_a_service_that_goes_away_for_a_while(cloud: Cloud, started: Callable[..., PreemptionWatch]) -> None:
    watch = started(ec2=cloud.url)
    _requested_again(cloud)
    cloud.ailing = SILENT
    _requested_again(cloud, 10)  # oftener than a service may be silent at the start
    assert watch.alive and watch.notice is None
    cloud.terminates()
    cloud.ailing = 0
    until(lambda: watch.notice)


def test_without_a_service_the_watch_ends(started: Callable[..., PreemptionWatch]) -> None:
    """Both if connections are refused and if there is no answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        deaf = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for watch in (started(), started(ec2=deaf, gce=deaf)):
            until(lambda watch=watch: not watch.alive)
            assert watch.notice is None


def test_a_service_that_refuses_tokens_is_not_ec2(
    cloud: Cloud, started: Callable[..., PreemptionWatch]
) -> None:
    """As when the metadata service is disabled, or a different cloud's at the same address."""
    cloud.ailing = 403
    watch = started(ec2=cloud.url)
    until(lambda: not watch.alive)


def test_variables_name_the_addresses(
    cloud: Cloud, started: Callable[..., PreemptionWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.terminates()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{cloud.url}/")
    watch = started()
    until(lambda: watch.notice)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "True")
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{cloud.server_port}")
    cloud.requested.clear()
    started()
    until(lambda: cloud.requested)
    assert cloud.requested == ["GET /computeMetadata/v1/instance/preempted"]


def test_a_file_is_a_notice_with_a_service_and_without(
    cloud: Cloud, started: Callable[..., PreemptionWatch], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also after the watch has found no service, as in most pods."""
    file = tmp_path / "leaves"
    monkeypatch.setenv("ORIGINALITY_LEAVE_FILE", str(file))
    in_pod, on_ec2 = started(), started(ec2=cloud.url)
    until(lambda: not in_pod.alive)
    _requested_again(cloud)
    assert in_pod.notice is None and on_ec2.notice is None
    file.touch()
    assert in_pod.notice == on_ec2.notice and str(file) in in_pod.notice
    until(lambda: not on_ec2.alive)
    assert started(every=1000).notice  # its file was there before it started


def test_no_proxy_is_used(
    cloud: Cloud, started: Callable[..., PreemptionWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    cloud.terminates()
    watch = started(ec2=cloud.url)
    until(lambda: watch.notice)


def test_stop_ends_the_watch(cloud: Cloud, started: Callable[..., PreemptionWatch]) -> None:
    watch = started(ec2=cloud.url, every=1000)
    until(lambda: len(cloud.requested) == 2)
    watch.stop()
    until(lambda: not watch.alive)
