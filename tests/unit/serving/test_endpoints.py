"""The other requests of LibreTranslate's API, and the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sharpseq import UserError
from sharpseq.serving.file_store import FileStore, StoreFull
from sharpseq.serving.markup import split_html

LANGUAGES = {"source": "en", "target": "de"}


@pytest.fixture
def client(serve: Any, translator: Any, tmp_path: Path) -> TestClient:
    return serve(translator, files_folder=tmp_path)


def send_file(client: TestClient, content: bytes, name: str = "letter.txt", **fields: Any) -> Any:
    return client.post("/translate_file", data=LANGUAGES | fields, files={"file": (name, content)})


def test_a_file_comes_back_translated(client: TestClient, tmp_path: Path) -> None:
    answer = send_file(client, "\ufeffTwo dogs.\r\n\r\nÜber.\n".encode()).json()
    assert list(answer) == ["translatedFileUrl"]
    fetched = client.get(answer["translatedFileUrl"])
    assert fetched.content.decode() == "TWO DOGS.\r\n\r\nÜBER.\n"
    assert fetched.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert [path.name for path in tmp_path.iterdir()] == [answer["translatedFileUrl"].rpartition("/")[2]]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"\xff", "letter.txt", "not UTF-8"),
        (b"a", "letter.pdf", "only files of text are translated (.txt)"),
        (b"a", "", "missing file parameter"),
    ],
)
def test_other_files_are_refused(client: TestClient, content: bytes, name: str, message: str) -> None:
    response = send_file(client, content, name) if name else client.post("/translate_file", data=LANGUAGES)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert message in response.json()["error"]


def test_names_of_files_lead_nowhere_else(client: TestClient, tmp_path: Path) -> None:
    answer = send_file(client, b"a", "../../etc/passwd.txt")
    assert answer.status_code == 200
    [stored] = tmp_path.iterdir()
    assert re.fullmatch(r"[\w-]{43}\.txt", stored.name)
    (tmp_path / "other.txt").write_text("x")
    for name in ("other.txt", "..%2f..%2fetc%2fpasswd", "../etc/passwd", "%00.txt", f".%2f{stored.name}", stored.stem):
        assert client.get(f"/download_file/{name}").status_code == 404


def test_servers_without_files_say_so(serve: Any, translator: Any) -> None:
    client = serve(translator)
    assert send_file(client, b"a").status_code == 403
    settings = client.get("/frontend/settings").json()
    assert (settings["filesTranslation"], settings["supportedFilesFormat"]) == (False, [])


def test_the_store_is_bounded_and_forgets(tmp_path: Path) -> None:
    store = FileStore(tmp_path, seconds=3600, max_bytes=10)
    name = store.put(b"12345678")
    assert store.get(name) == b"12345678"
    with pytest.raises(StoreFull):
        store.put(b"123")
    assert FileStore(tmp_path, seconds=-1).get(name) is None
    assert list(tmp_path.iterdir()) == []


def test_settings(client: TestClient) -> None:
    assert client.get("/frontend/settings").json() == {
        "apiKeys": False,
        "charLimit": 20_000,
        "filesTranslation": True,
        "frontendTimeout": 500,
        "keyRequired": False,
        "language": {"source": {"code": "en", "name": "English"}, "target": {"code": "de", "name": "German"}},
        "suggestions": False,
        "supportedFilesFormat": [".txt"],
    }


def test_without_a_detector_nothing_is_detected(client: TestClient) -> None:
    for path, fields in (("/detect", {"q": "a"}), ("/translate", {"q": "a", "source": "auto", "target": "de"})):
        response = client.post(path, json=fields)
        assert response.status_code == 400
        assert response.json() == {"error": "Languages are not detected on this server; give the source language"}


def test_languages_are_detected_where_that_is_configured(serve: Any, translator: Any) -> None:
    pytest.importorskip("py3langid")
    from sharpseq.serving.translators import Pair

    models = {(Pair(*pair), quality): translator for pair in ("ab", "cd") for quality in ("fast", "best")}
    with pytest.raises(UserError, match="--detect does not know a, c"):
        serve(models, detects=True)
    pairs = (Pair("en", "de"), Pair("de", "en"))
    client = serve({(pair, quality): translator for pair in pairs for quality in ("fast", "best")}, detects=True)
    german = "Das ist ein deutscher Satz mit genug Wörtern."
    found = client.post("/detect", data={"q": german}).json()
    assert found[0]["language"] == "de" and 50 < found[0]["confidence"] <= 100 and len(found) <= 5
    assert client.post("/detect", json={"q": "…"}).json() == []
    answer = client.post("/translate", json={"q": german, "source": "auto", "target": "en"}).json()
    assert answer == {"translatedText": german.upper(), "detectedLanguage": found[0]}
    answer = client.post("/translate", json={"q": [german, "!"], "source": "auto", "target": "en"}).json()
    assert answer["detectedLanguage"] == [found[0]] * 2
    assert client.get("/frontend/settings").json()["language"]["source"] == {"code": "auto", "name": "Auto Detect"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Salt &amp; pepper.</p>", "<p>SALT &amp; PEPPER.</p>"),
        ('<a href="x?a=b">one</a>, <b>two</b>', '<a href="x?a=b">ONE</a>, <b>TWO</b>'),
        ("a &lt;b&gt; c", "A &lt;B&gt; C"),
        ("1 < 2 and 3 > 2", "1 &lt; 2 AND 3 &gt; 2"),
        ("<script>let a = 'b';</script>c<style>p {}</style>", "<script>let a = 'b';</script>C<style>p {}</style>"),
        ("<!-- note -->a<br/>b", "<!-- note -->A<br/>B"),
        ("a<script>b", "A<script>b"),
        ("a<b", "A<b"),
    ],
)
def test_html_keeps_its_tags(client: TestClient, text: str, expected: str) -> None:
    fields = LANGUAGES | {"q": text, "format": "html"}
    assert client.post("/translate", json=fields).json()["translatedText"] == expected


def test_an_untranslated_sentence_of_html_stays_escaped(client: TestClient, translator: Any) -> None:
    translator.longest = 12
    fields = LANGUAGES | {"q": "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p><p>ok</p>", "format": "html"}
    answer = client.post("/translate", json=fields).json()
    assert answer["translatedText"] == "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p><p>OK</p>"


@pytest.mark.parametrize(
    "text", ["<" * 200_000, "<!--" * 100_000, "<a" * 100_000, "</script " * 50_000 + "<script>" * 9]
)
def test_hostile_html_takes_linear_time(text: str) -> None:
    layout = split_html(text)
    assert layout.filled(layout.sentences) == text


def test_the_page_needs_nothing_else(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 200 and response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert not re.search(r"https?://|//[a-z]|@import|src=|url\(", response.text.replace("//  ", ""))
    assert "innerHTML" not in response.text


def test_the_schema_names_every_path_and_field(client: TestClient) -> None:
    schema = client.get("/spec").json()
    assert schema["openapi"].startswith("3.")
    served = {route.path for route in client.app.routes} - {"/", "/spec"}
    assert set(schema["paths"]) == served
    fields = schema["paths"]["/translate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert fields["required"] == ["source", "target", "q"]
    assert set(fields["properties"]) >= {"q", "source", "target", "format", "alternatives", "api_key", "quality"}


def test_browsers_of_other_sites_may_ask(client: TestClient) -> None:
    headers = {"Origin": "https://example.org"}
    response = client.post("/translate", json=LANGUAGES | {"q": "a"}, headers=headers)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    asked = headers | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert client.options("/translate", headers=asked).status_code == 200
