"""The server over real sockets: clients of LibreTranslate, clients that vanish, and a graceful end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from sharpseq.serving.app import create_app
from sharpseq.serving.server import address_of, listen
from sharpseq.serving.translators import Pair

REQUEST = {"q": "two dogs.", "source": "en", "target": "de"}


@pytest.fixture
def url(translator: Any) -> Iterator[str]:
    """The address of a server in a thread."""
    pair = Pair("en", "de")
    app = create_app({(pair, "fast"): translator, (pair, "best"): translator})
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none"))
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield address_of(listener)
    translator.gate.set()
    server.should_exit = True
    thread.join()


def ask(url: str, **fields: Any) -> Any:
    body = json.dumps(REQUEST | fields).encode()
    request = urllib.request.Request(f"{url}/translate", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def test_libretranslatepy_works_unchanged(url: str) -> None:
    client = pytest.importorskip("libretranslatepy").LibreTranslateAPI(url)
    assert client.translate("Über. Two!\nThree", "en", "de") == "ÜBER. TWO!\nTHREE"
    assert client.languages() == [{"code": "en", "name": "English", "targets": ["de"]}]
    for mistake in (lambda: client.translate("a", "en", "xx"), lambda: client.detect("a")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            mistake()
        assert refused.value.code == 400 and "error" in json.load(refused.value)


def test_a_client_that_leaves_takes_its_sentences_with_it(url: str, translator: Any) -> None:
    translator.gate.clear()
    first = threading.Thread(target=ask, args=(url,))
    first.start()
    assert translator.is_busy.wait(10)
    body = json.dumps(REQUEST | {"q": "nobody waits for this"}).encode()
    head = (
        f"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        wait_for_metric(url, "sharpseq_sentences_in_work 2.0")
    wait_for_metric(url, 'sharpseq_requests_total{path="/translate",status="499"} 1.0')
    translator.gate.set()
    first.join()
    assert ask(url, q="still here") == {"translatedText": "STILL HERE"}
    assert not any("nobody" in sentence for sentences, _ in translator.batches for sentence in sentences)


def wait_for_metric(url: str, line: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
            if line in response.read().decode().splitlines():
                return
        assert time.monotonic() < deadline, line
        time.sleep(0.02)


SERVER = """
import sys
from sharpseq.serving.app import create_app
from sharpseq.serving.logs import write_logs
from sharpseq.serving.server import address_of, listen, run_app
from sharpseq.serving.translators import Pair, Translation

class Slow:
    def translate(self, sentences, wish):
        print("busy", flush=True)
        sys.stdin.readline()
        return [Translation(sentence.upper()) for sentence in sentences]

write_logs()
listener = listen("127.0.0.1", 0)
app = create_app({(Pair("en", "de"), "fast"): Slow(), (Pair("en", "de"), "best"): Slow()})
print(address_of(listener), flush=True)
run_app(app, listener, timeout=20)
assert "torch" not in sys.modules
"""


def test_a_signal_lets_requests_finish() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        url = process.stdout.readline().strip()
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(ask(url)))
        asking.start()
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGTERM)
        wait_until_closed(url)
        assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        asking.join()
        assert process.wait(20) == 0
        events = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert answers == [{"translatedText": "TWO DOGS."}]
    assert [event["status"] for event in events if event["event"] == "request"] == [200]
    assert (events[0]["event"], events[-1]["event"]) == ("started", "stopped")


def wait_until_closed(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail("the server still takes connections")
