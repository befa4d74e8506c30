"""The control API of a real daemon: who may open it, what it refuses, jobs over a restart."""

import http.client
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.find import query_of
from node.requests import SearchRequest
from p2pllm.errors import P2pllmError
from tests.node.daemons import Daemon, homes, running, until
from tests.p2pllm.learn import tiny


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with homes() as folder:
        made = Daemon(folder / "a").up()
        with running(made):
            yield made


def test_only_the_owner_can_open_the_control_socket(daemon: Daemon) -> None:
    api = daemon.home / "run" / "api.sock"
    assert stat.S_IMODE(api.stat().st_mode) == 0o600
    assert stat.S_IMODE(api.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((daemon.home / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "body",
    [
        {"lang": 3},
        {"langauge": "en"},
        {"limit": 0},
        {"limit": 1001},
        {"size": "big"},
        {"text": "x" * 2_000_000},
    ],
)
def test_a_request_that_is_too_long_or_misspelt_is_refused(
    daemon: Daemon, body: dict[str, object]
) -> None:
    with pytest.raises(P2pllmError) as refused:
        daemon.client.post("search", body)
    assert refused.value.code == "E0204"
    assert daemon.client.get("status")["pid"] == daemon.process.pid


def test_a_relative_path_is_refused(daemon: Daemon) -> None:
    with pytest.raises(P2pllmError) as refused:
        daemon.job(kind="push", path="../secret", licence="MIT", consent=True)
    assert refused.value.code == "E0204"


def test_a_recommendation_without_models_says_that_none_was_considered(daemon: Daemon) -> None:
    wanted = {"lang": "EN", "domain": "medical", "task": "summarise", "max_memory_bytes": 10**9}
    answer = daemon.client.post("recommend", wanted)
    assert (answer["picks"], answer["considered"], answer["binding"]) == ([], 0, "none")
    profile = daemon.client.get("profile")
    assert 0 < profile["free_bytes"] <= profile["memory_bytes"]
    assert profile["calibration"] is None
    with pytest.raises(P2pllmError) as refused:
        daemon.client.post("recommend", {"lang": "English"})
    assert refused.value.code == "E0201"


def test_noise_instead_of_http_does_not_stop_the_daemon(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as noise:
        noise.connect(str(daemon.home / "run" / "api.sock"))
        noise.sendall(b"\0" * 5000)
        noise.settimeout(10)
        noise.recv(100)
    assert daemon.client.get("status")["pid"] == daemon.process.pid


def test_an_unknown_path_and_job_are_refused_as_documents(daemon: Daemon) -> None:
    for what, code in (("nothing", "E0204"), ("jobs/j99", "E0404")):
        with pytest.raises(P2pllmError) as refused:
            daemon.client.get(what)
        assert refused.value.code == code


def test_probes_that_were_given_are_taken_back_and_their_source_stays(daemon: Daemon) -> None:
    source = daemon.home.parent / "notes.txt"
    source.write_text("fever and cells and liver " * 20)
    given = {"place": "EN/medical", "paths": [str(source)]}
    assert daemon.client.post("trust/probes", given)["documents"] == 1
    assert daemon.client.delete("trust/probes", given)["documents"] == 0
    for again in (given, {"place": "en/medical"}):
        with pytest.raises(P2pllmError, match="E0407"):
            daemon.client.delete("trust/probes", again)
    assert source.exists()


def test_a_search_without_peers_says_that_the_node_is_isolated(daemon: Daemon) -> None:
    with pytest.raises(P2pllmError) as refused:
        daemon.client.post("search", {"lang": "EN"})
    assert refused.value.code == "E0905"
    assert "no seed" in str(refused.value.why)
    with pytest.raises(P2pllmError, match="E0201"):
        daemon.client.post("search", {"lang": "english"})


def test_a_search_reads_names_in_any_case() -> None:
    query = query_of(SearchRequest(lang="EN", domain="Medical", sub="Heart"))
    assert (query.lang, query.domain, query.sub) == ("en", "medical", "heart")


def test_a_push_without_peers_is_kept_and_told_later(daemon: Daemon) -> None:
    base = tiny.save_base(daemon.home.parent / "base", tiny.llama())
    held = daemon.job(kind="import", source=str(base), name="lonely", lang="en")
    pushed = daemon.job(kind="push", ref=held["ref"], licence="MIT", consent=True)
    assert not pushed["advertised"]
    assert pushed["later"]
    late = Daemon(daemon.home.parent / "late", "--bootstrap", daemon.address).up()
    with running(late):
        late.wait(lambda s: s["swarm"]["dht_peers"] >= 1, "joined")
        found = until(
            lambda: late.client.post("search", {"lang": "en"})["results"], "the late advert"
        )
        assert found[0]["manifest"] == pushed["manifest"]


def test_a_cancelled_job_ends_as_cancelled_and_a_killed_daemons_job_as_failed() -> None:
    with homes() as folder:
        daemon = Daemon(folder / "a").up()
        base = tiny.save_base(folder / "base", tiny.llama())
        text = tiny.write_jsonl(folder / "text.jsonl", tiny.sentences(40, seed=1))
        daemon.job(kind="import", source=str(base), name="tiny", lang="en")
        tune = {"kind": "tune", "base": "tiny", "data": [str(text)], "place": "en/medical"}
        tune |= {"name": "long", "steps": 100_000, "batch": 2, "seq": 16}
        first = daemon.client.post("jobs", tune)["job"]
        _wait_for(daemon, first, "train")
        daemon.client.delete(f"jobs/{first}")
        last = list(daemon.client.events(first))[-1]
        assert (last["event"], last["error"]["code"]) == ("error", "E1001")
        second = daemon.client.post("jobs", tune)["job"]
        _wait_for(daemon, second, "train")
        daemon.kill()
        daemon = Daemon(folder / "a").up()
        with running(daemon):
            job = daemon.client.get(f"jobs/{second}")
            assert (job["state"], job["error"]["code"]) == ("failed", "E1002")
            assert daemon.client.get(f"jobs/{first}")["state"] == "cancelled"
            assert [m["name"] for m in daemon.client.get("models")["models"]] == ["tiny"]


def _wait_for(daemon: Daemon, job: str, stage: str) -> None:
    for event in daemon.client.events(job):
        assert event["event"] == "progress", event
        if event["stage"] == stage:
            return


def test_half_closed_and_abandoned_event_streams_leave_the_daemon_well(daemon: Daemon) -> None:
    for _ in range(5):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(daemon.home / "run" / "api.sock"))
        connection.request("GET", "/p2p/v1/events")
        connection.getresponse()
        connection.close()
    assert daemon.client.get("status")["pid"] == daemon.process.pid
    assert Path(daemon.home / "run" / "lock").read_text() == str(daemon.process.pid)
