"""What is too much, too slow or not allowed gets the right status, and leaves nothing behind."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sharpseq import UserError
from sharpseq.serving.admission import Admission, read_api_keys
from sharpseq.serving.api_errors import ApiError
from sharpseq.serving.batching import BatchLimits
from sharpseq.serving.logs import JsonFormatter

REQUEST = {"q": "two dogs.", "source": "en", "target": "de"}


def post(client: TestClient, **fields: Any) -> Any:
    return client.post("/translate", json=REQUEST | fields)


def in_work(client: TestClient) -> int:
    lines = client.get("/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("sharpseq_sentences_in_work ")).split()[1]))


def wait_until_in_work(client: TestClient, count: int) -> None:
    deadline = time.monotonic() + 10
    while in_work(client) != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Posting(threading.Thread):
    """A request in its own thread."""

    def __init__(self, client: TestClient, **fields: Any) -> None:
        super().__init__()
        self._request = client, fields
        self.start()

    def run(self) -> None:
        client, fields = self._request
        self.response = post(client, **fields)


def test_concurrent_requests_take_fewer_calls_of_the_model(serve: Any, translator: Any) -> None:
    client = serve(translator)
    translator.gate.clear()
    requests = [Posting(client, q=f"text {number}.") for number in range(12)]
    wait_until_in_work(client, 12)
    translator.gate.set()
    for request in requests:
        request.join()
    assert [request.response.json()["translatedText"] for request in requests] == [f"TEXT {n}." for n in range(12)]
    assert len(translator.batches) <= 3
    assert in_work(client) == 0


def test_a_request_that_takes_too_long_fails(serve: Any, translator: Any) -> None:
    client = serve(translator, timeout=0.2)
    translator.gate.clear()
    response = post(client)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json() == {"error": "The translation took longer than 0.2 seconds"}
    assert in_work(client) == 0
    translator.gate.set()
    assert post(client).status_code == 200


def test_a_full_queue_refuses(serve: Any, translator: Any) -> None:
    client = serve(translator, batches=BatchLimits(max_queue=2, max_batch=1))
    assert post(client, q=["a", "b", "c"]).status_code == 413
    translator.gate.clear()
    first = Posting(client, q="a")
    assert translator.is_busy.wait(10)
    second = Posting(client, q=["b", "c"])
    wait_until_in_work(client, 3)
    response = post(client, q="d")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
    assert list(response.json()) == ["error"]
    translator.gate.set()
    for request in (first, second):
        request.join()
        assert request.response.status_code == 200


def test_too_many_requests_at_once_are_refused_but_health_is_answered(serve: Any, translator: Any) -> None:
    client = serve(translator, max_requests=1)
    translator.gate.clear()
    first = Posting(client)
    wait_until_in_work(client, 1)
    assert post(client).status_code == 429
    assert client.get("/health").status_code == 200
    translator.gate.set()
    first.join()
    assert first.response.status_code == post(client).status_code == 200


def test_sizes_are_limited(serve: Any, translator: Any) -> None:
    client = serve(translator, char_limit=10, body_limit=1000)
    assert post(client, q="0123456789").status_code == 200
    response = post(client, q=["012345", "67890"])
    assert (response.status_code, response.json()) == (
        400,
        {"error": "Invalid request: 11 characters, the limit is 10"},
    )
    response = post(client, q="a" * 1000)
    assert (response.status_code, response.json()) == (413, {"error": "The body is too large: at most 1000 bytes"})
    chunks = client.post("/translate", content=iter([b"{"] * 2000), headers={"Content-Type": "application/json"})
    assert chunks.status_code == 413
    assert client.get("/frontend/settings").json()["charLimit"] == 10


def test_keys_are_needed_where_there_are_some(serve: Any, translator: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# ours\nsecret\nslow 2\n\n")
    client = serve(translator, api_keys=read_api_keys(file))
    assert post(client).status_code == post(client, api_key="").status_code == 403
    response = post(client, api_key="guess")
    assert (response.status_code, response.json()) == (403, {"error": "Invalid API key"})
    for path in ("/detect", "/translate_file"):
        assert client.post(path, data=REQUEST).status_code == 403
    assert all(post(client, api_key="secret").status_code == 200 for _ in range(5))
    assert [post(client, api_key="slow").status_code for _ in range(3)] == [200, 200, 429]
    settings = client.get("/frontend/settings").json()
    assert settings["apiKeys"] is settings["keyRequired"] is True
    assert not translator.batches or all("guess" not in str(batch) for batch in translator.batches)


def test_rates_fill_up_again_and_each_client_has_its_own() -> None:
    now = 0.0
    admission = Admission(None, requests_per_minute=2, clock=lambda: now)
    for address in ("192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2"):
        admission.admit(None, address)
    for address in ("192.0.2.1", "2001:db8::3"):  # a network of IPv6 is one client
        with pytest.raises(ApiError, match="Slow down: 2 requests per minute") as refused:
            admission.admit(None, address)
        assert (refused.value.status, refused.value.retry_after) == (429, 30)
    admission.admit(None, "2001:db8:0:1::1")
    now = 31.0
    admission.admit(None, "192.0.2.1")
    with pytest.raises(ApiError):
        admission.admit(None, "192.0.2.1")


def test_guessing_keys_is_slowed_down(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("secret\n")
    admission = Admission(read_api_keys(file), requests_per_minute=1)
    statuses = []
    for _ in range(2):
        with pytest.raises(ApiError) as refused:
            admission.admit("guess", "192.0.2.1")
        statuses.append(refused.value.status)
    assert statuses == [403, 429]
    admission.admit("secret", "192.0.2.1")


def test_memory_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpseq.serving.admission._MOST_CLIENTS", 3)
    admission = Admission(None, requests_per_minute=1)
    for number in range(10):
        admission.admit(None, f"192.0.2.{number}")
    assert len(admission._buckets) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"key fast", "keys.txt:1: write a key and"),
        (b"ok\nkey 1 2", "keys.txt:2: write a key and"),
        (b"# nothing\n", "holds no API key"),
        (b"\xff", "cannot be read as a file of API keys"),
    ],
)
def test_broken_files_of_keys_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_api_keys(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_api_keys(tmp_path / "typo.txt")


def test_logs_hold_numbers_and_no_texts(serve: Any, translator: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(translator)
    caplog.set_level(logging.INFO, logger="sharpseq.serving")
    caplog.clear()
    post(client, q="Secret one. Secret two.", api_key="secret-key")
    post(client, q="secret POISON")
    client.get("/secret")
    client.get("/download_file/secret")
    written = [JsonFormatter().format(record) for record in caplog.records if record.name == "sharpseq.serving"]
    assert not any("secret" in line.lower() or "poison" in line.lower() for line in written)
    lines = [json.loads(line) for line in written]
    assert [line["status"] for line in lines if line["event"] == "request"] == [200, 500, 404, 404]
    assert [line["path"] for line in lines if line["event"] == "request"] == [
        "/translate",
        "/translate",
        "other",
        "/download_file",
    ]
    assert (
        lines[0].items() >= {"pair": "en:de", "quality": "fast", "characters": 23, "sentences": 2, "errors": 0}.items()
    )
    [bug] = [line for line in lines if line["event"] == "bug"]
    assert bug["exception"] == "RuntimeError" and any("conftest.py" in place for place in bug["at"])


def test_metrics_count(serve: Any, translator: Any) -> None:
    client = serve(translator)
    post(client, q="a! B!")
    post(client, source="xx")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'sharpseq_requests_total{path="/translate",status="200"} 1.0',
        'sharpseq_requests_total{path="/translate",status="400"} 1.0',
        'sharpseq_batch_sentences_sum{model="en:de/fast"} 2.0',
        "sharpseq_characters_total 5.0",
        "sharpseq_sentences_in_work 0.0",
    ):
        assert line in lines
