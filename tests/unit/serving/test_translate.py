"""``/translate`` and ``/languages`` as LibreTranslate's documentation describes them."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

REQUEST = {"q": "two dogs.", "source": "en", "target": "de"}


@pytest.fixture
def client(serve: Any, translator: Any) -> TestClient:
    return serve(translator)


def translated(client: TestClient, **fields: Any) -> Any:
    response = client.post("/translate", json=REQUEST | fields)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, status: int, **request: Any) -> str:
    response = client.post("/translate", **request)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    return response.json()["error"]


def test_a_text_or_several_come_back_as_they_were_asked_for(client: TestClient) -> None:
    assert translated(client) == {"translatedText": "TWO DOGS."}
    assert translated(client, q=["a", "", "b"]) == {"translatedText": ["A", "", "B"]}
    assert translated(client, q=[]) == {"translatedText": []}
    assert translated(client, q=" a b.  c! \n\n\tü\n") == {"translatedText": " A B.  C! \n\n\tÜ\n"}


def test_forms_do_as_json_does(client: TestClient) -> None:
    expected = {"translatedText": "TWO DOGS."}
    assert client.post("/translate", data=REQUEST).json() == expected
    assert client.post("/translate", data=REQUEST | {"api_key": "", "format": "text"}).json() == expected
    assert client.post("/translate", data=REQUEST | {"q": ["a", "ü"]}).json() == {"translatedText": ["A", "Ü"]}
    parts = {name: (None, value) for name, value in REQUEST.items()}
    assert client.post("/translate", files=parts).json() == expected


def test_alternatives_and_quality(client: TestClient) -> None:
    assert translated(client, alternatives=2) == {
        "translatedText": "TWO DOGS.",
        "alternatives": ["TWO DOGS.0", "TWO DOGS.1"],
    }
    assert translated(client, q=["a"], alternatives=1) == {"translatedText": ["A"], "alternatives": [["A0"]]}
    assert translated(client, quality="best") == {"translatedText": ".SGOD OWT"}
    assert translated(client, q="Aa. B.", confidence=True)["confidence"] == [
        {"text": "AA.", "confidence": 0.5},
        {"text": "B.", "confidence": 0.5},
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"q": None}, "q"),
        ({"q": 3}, "q"),
        ({"q": [["a"]]}, "q"),
        ({"source": "xx"}, "xx is not supported; sources: en"),
        ({"source": "de"}, "de is not supported"),
        ({"target": "fr"}, "fr is not available as a target of en; targets: de"),
        ({"target": ""}, "target"),
        ({"format": "pdf"}, "format"),
        ({"alternatives": -1}, "alternatives"),
        ({"alternatives": 10**6}, "alternatives"),
        ({"quality": "better"}, "quality"),
    ],
)
def test_wrong_fields_are_named(client: TestClient, fields: Any, message: str) -> None:
    assert message in refused(client, 400, json=REQUEST | fields)


def test_a_missing_field_is_named(client: TestClient) -> None:
    for name in REQUEST:
        fields = {key: value for key, value in REQUEST.items() if key != name}
        assert refused(client, 400, json=fields) == f"Invalid request: missing {name} parameter"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"q": "\xff"}', b'{"q": "\\ud800", "source": "en", "target": "de"}', b"[" * 100_000],
    ids=["empty", "cut", "array", "null", "bad UTF-8", "lone surrogate", "deep"],
)
def test_broken_json_is_refused(client: TestClient, content: bytes) -> None:
    assert "JSON" in refused(client, 400, content=content, headers={"Content-Type": "application/json"})


def test_other_content_types_are_refused(client: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert "UTF-8" in refused(client, 400, content=b"q=%ff&source=en&target=de", headers=form)
    assert "UTF-8" in refused(client, 400, content=b"&".join([b"q=a"] * 2000), headers=form)
    multipart = {"Content-Type": "multipart/form-data"}
    assert "form" in refused(client, 400, content=b"q", headers=multipart)
    assert "content type" in refused(client, 415, content=b"two dogs", headers={"Content-Type": "text/plain"})
    assert "content type" in refused(client, 415, content=b"two dogs")


def test_unknown_paths_and_methods_have_the_shape_of_errors(client: TestClient) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/translate", 405), ("GET", "/../etc/passwd", 404)):
        response = client.request(method, path)
        assert (response.status_code, list(response.json())) == (status, ["error"])


def test_languages_and_health(client: TestClient) -> None:
    assert client.get("/languages").json() == [{"code": "en", "name": "English", "targets": ["de"]}]
    assert client.get("/health").json() == {"status": "ok"}


def test_a_sentence_that_is_too_long_stays_and_the_others_are_translated(client: TestClient, translator: Any) -> None:
    translator.longest = 8
    assert translated(client, q=["So! much too long", "a"]) == {
        "translatedText": ["So! much too long", "A"],
        "errors": [["17 tokens, the model reads at most 8"], []],
    }
    assert translated(client, q="Short. Much too long. So.") == {
        "translatedText": "SHORT. Much too long. SO.",
        "errors": ["14 tokens, the model reads at most 8"],
    }
    assert "at most 8" in refused(client, 400, json=REQUEST | {"q": "much too long"})


def test_a_bug_is_an_internal_error_that_quotes_nothing(client: TestClient) -> None:
    assert refused(client, 500, json=REQUEST | {"q": "POISON"}) == "Internal server error"
