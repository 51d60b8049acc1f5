import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.serving.http.questions import decode_body
from model.storage.aliases import move
from model.storage.snapshot import ARRAYS
from stream.example import END_OF_TIME_MS
from tests.http_server import serving, until
from tests.served import NOW_MS, model_arrays, write_model

ROOT = Path(__file__).parents[4]


JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield a client of a server with one snapshot, in which i6 is withdrawn."""
    data_dir = tmp_path_factory.mktemp("data")
    write_model(data_dir / "snapshots" / "silu", arrays=model_arrays(withdrawn=[6]))
    with serving(data_dir) as client:
        yield client


def test_top_k_over_http(client: httpx.Client) -> None:
    """The best items with ids, titles and scores, and the snapshot that gave them."""
    answer = client.get("/topk", params={"user": "ada", "k": 3}).json()
    assert len(answer["items"]) == 3
    assert answer["items"][0]["title"] == f"Item {answer['items'][0]['item_id'][1:]}"
    assert (answer["source"], answer["tokens"]) == ("model", 4)
    assert (answer["snapshot"]["alias"], answer["snapshot"]["age_s"]) == ("latest", 10)
    popular = client.get("/topk", params={"user": "nobody"}).json()
    assert (popular["source"], popular["reason"], len(popular["items"])) == ("popularity", "user unknown", 10)
    everything = client.get("/topk", params={"user": "ada", "k": 99, "include_seen": True, "now_ms": NOW_MS}).json()
    assert (len(everything["items"]), everything["now_ms"]) == (19, NOW_MS)


def test_top_k_of_a_sequence_over_http(client: httpx.Client) -> None:
    """A sequence posted stands for a user's; integers and strings are the same ids."""
    answer = client.post("/topk", json={"sequence": ["i1", 7, "i3"], "k": 2}).json()
    assert (answer["user"], answer["tokens"], len(answer["items"])) == (None, 2, 2)
    same = client.post("/topk", content=b'{"sequence": ["i1", 7, "i3"], "k": 2.0, "now_ms": 1e3}', headers=JSON).json()
    assert (len(same["items"]), same["now_ms"]) == (2, 1000)
    for wrong in (b"2.5", b'"2"', b"true"):
        assert client.post("/topk", content=b'{"sequence": ["i1"], "k": %s}' % wrong, headers=JSON).status_code == 422


def test_ranking_over_http(client: httpx.Client) -> None:
    """GET and POST answer the same; withdrawn and unknown items come last."""
    params: dict[str, Any] = {"user": "ada", "items": "i2,x,i6,i5", "now_ms": NOW_MS}
    answer = client.get("/rank", params=params).json()
    assert {item["item_id"] for item in answer["items"][:2]} == {"i2", "i5"}
    assert [item["item_id"] for item in answer["items"][2:]] == ["i6", "x"]
    assert answer["ordered_by"] == "mean_action_probability"
    posted = client.post("/rank", json={**params, "items": ["i2", "x", "i6", "i5"]}).json()
    assert posted["items"] == answer["items"]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/topk?user=ada&k=0", None, "k is 0; give a number of items from 1 to 1,000."),
        ("/topk?user=ada&k=1001", None, "k is 1001; give a number of items from 1 to 1,000."),
        ("/topk?user=ada&k=ten", None, "k is refused: Input should be a valid integer"),
        ("/topk?user=", None, "user is empty; give the id of a user."),
        ("/topk", None, "user is missing; /docs shows what a query needs."),
        ("/rank?user=ada&items=", None, "items has 0 item ids; give 1 to 2,000."),
        ("/rank?user=ada&items=i1,,i2", None, "items holds an empty item id, in place 1"),
        ("/rank?user=ada&items=" + ",".join(["i1"] * 2001), None, "items has 2,001 item ids; give at most 2,000."),
        ("/rank", {"user": "ada", "items": ["i1"] * 2001}, "items is refused: List should have at most 2000"),
        ("/rank", {"user": "ada", "items": "i1"}, "The body is refused: Expected `array`, got `str` - at `$.items`"),
        (
            "/rank",
            {"user": "ada", "items": ["i1"], "colour": 1},
            "The body is refused: Object contains unknown field `co",
        ),
        ("/topk", {"sequence": ["i1"], "user": "ada"}, "user is no field of this question; /docs shows"),
        ("/rank", {"user": "ada", "items": ["i1"], "k": 3}, "k is no field of this question; /docs shows those that"),
        ("/topk", {"sequence": []}, "sequence has 0 item ids; give 1 to 2,000."),
        ("/topk", {"k": 3}, "sequence is missing"),
        ("/topk?user=ada&now_ms=-1", None, "now_ms is refused: Input should be greater than or equal to 0"),
        ("/rank?user=ada&items=i1&now_ms=9007199254740992", None, "now_ms is refused: Input should be less than or eq"),
        ("/topk?user=ada&now_ms=" + "9" * 30, None, "now_ms is refused: Input should be less than or equal to"),
        ("/topk", {"sequence": ["i1"], "now_ms": 10**20}, "now_ms is refused: Input should be less than or equal to"),
        ("/rank", {"user": "ada", "items": ["i1"], "now_ms": -(2**63)}, "now_ms is refused: Input should be greater"),
    ],
)
def test_a_bad_question_is_a_sentence_with_status_422(
    path: str, body: Any, sentence: str, client: httpx.Client
) -> None:
    """Each says what was given and what is allowed."""
    response = client.get(path) if body is None else client.post(path, json=body)
    assert response.status_code == 422
    assert sentence in response.json()["detail"]


@pytest.mark.parametrize("path", ["/health?t=1", "/metrics?name=hstu"])
def test_probes_may_add_parameters(client: httpx.Client, path: str) -> None:
    """A load balancer's own does not make a healthy server ill."""
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "sentence"),
    [
        (
            "GET",
            "/topk?user=ada&K=3",
            "GET /topk has no parameter 'K'; its parameters are user, k, include_seen, now",
        ),
        ("GET", "/topk?usr=ada", "GET /topk has no parameter 'usr'; its parameters are user, k"),
        (
            "GET",
            "/rank?user=ada&items=i1&k=3",
            "GET /rank has no parameter 'k'; its parameters are user, items, now_ms.",
        ),
        ("POST", "/topk?k=3", "POST /topk has no parameter 'k'; it takes no query parameters."),
        ("POST", "/rank?user=ada", "POST /rank has no parameter 'user'; it takes no query parameters."),
        ("GET", "/topk?user=ada&user=bob", "The parameter 'user' is there more than once; give one value."),
        ("GET", "/rank?user=ada&items=i1&items=i2", "The parameter 'items' is there more than once"),
        ("GET", "/topk?user=%FF", "The query is no UTF-8"),
        ("GET", "/snapshot?alias=latest", "GET /snapshot has no parameter 'alias'; it takes no query parameters."),
    ],
)
def test_an_odd_query_parameter_is_refused(method: str, path: str, sentence: str, client: httpx.Client) -> None:
    """Ignored, a misspelt parameter would pass for its default, and a doubled one for its last value."""
    body = {"sequence": ["i1"], "user": "ada", "items": ["i1"]} if method == "POST" else None
    response = client.request(method, path, json=body)
    assert response.status_code == 422
    assert sentence in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"user": "a\ud800", "items": ["i1"]}',  # half of a surrogate pair
        b'{"user": "a\xff", "items": ["i1"]}',
        b'{"user": "ada", "items": ["i1"], "now_ms": %s}' % (b"9" * 5000),
        b'{"user": "ada", "items": [%s1]}' % (b"1," * 5000),
        b'{"user": "ada", "items": %s1%s}' % (b"[" * 5000, b"]" * 5000),
        b'{"user": "ada", "x": %s1%s}' % (b'{"x":' * 5000, b"}" * 5000),
        b"{%s}" % b",".join(b'"x%d":1' % i for i in range(50_000)),
        b'{"user": "ada", "items": ["i1"]',
        b'{"user": "ada", "items": ["i1"], "user": "eve"}',
        b'{"user": "ada", "items": ["i1"], "items": ["i2"], "now_ms": null}',
        b'["ada"]',
        b"1",
        b"",
    ],
)
def test_a_body_that_is_no_question_is_a_sentence_with_status_422(body: bytes, client: httpx.Client) -> None:
    """Whatever the bytes are, deep, long or not even text."""
    response = client.post("/rank", content=body, headers=JSON)
    assert response.status_code == 422
    assert re.search(r"is (refused|missing)", response.json()["detail"]), response.text
    assert len(response.text) < 300


def test_a_body_of_another_type_is_a_sentence_with_status_422(client: httpx.Client) -> None:
    """Pages of other origins may send text/plain without asking; it is not taken for JSON."""
    response = client.post("/rank", content=b'{"user": "ada", "items": ["i1"]}', headers={"content-type": "text/plain"})
    assert (response.status_code, "Content-Type: application/json" in response.text) == (422, True)


@pytest.mark.parametrize("size", [256, 257])
def test_ids_have_as_many_bytes_as_those_of_events(size: int, client: httpx.Client) -> None:
    """256 at most, in UTF-8, wherever an id may stand; a longer one is not even hashed."""
    word = "é" * (size // 2) + "x" * (size % 2)
    requests = [
        client.get("/topk", params={"user": word}),
        client.get("/rank", params={"user": "ada", "items": f"i1,{word}"}),
        client.post("/rank", json={"user": word, "items": ["i1"]}),
        client.post("/rank", json={"user": "ada", "items": ["i1", word]}),
        client.post("/topk", json={"sequence": [word]}),
    ]
    assert {response.status_code for response in requests} == {200 if size == 256 else 422}
    if size == 257:
        assert all("an id of 257 bytes" in response.json()["detail"] for response in requests)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_1_mib_is_a_sentence_with_status_413(chunked: bool, client: httpx.Client) -> None:
    """With its length told or not."""
    body = b'{"user": "ada", "items": ["i1"], "now_ms": 0' + b" " * (1 << 20) + b"}"
    content = (body[i : i + 9999] for i in range(0, len(body), 9999)) if chunked else body
    response = client.post("/rank", content=content, headers=JSON)
    assert response.status_code == 413
    assert "larger than 1,048,576 bytes" in response.json()["detail"]


def test_probes_are_not_held_up_by_large_bodies(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a body is decoded, however long that takes, the event loop goes on."""
    begun = threading.Event()

    def decode(body: bytes) -> dict[str, Any]:
        begun.set()
        time.sleep(1)
        return decode_body(body)

    monkeypatch.setattr("model.serving.http.questions.decode_body", decode)
    with ThreadPoolExecutor(1) as pool:
        body = b'{"user": "ada", "items": ["i1"]}' + b" " * 100_000
        slow = pool.submit(client.post, "/rank", content=body, headers=JSON)
        assert begun.wait(10)
        assert client.get("/health").elapsed.total_seconds() < 0.5
        assert slow.result().status_code == 200


def test_the_longest_question_fits(client: httpx.Client) -> None:
    """2,000 ids of 256 bytes are one body."""
    answer = client.post("/rank", json={"user": "ada", "items": [f"{i:0256d}" for i in range(2000)]})
    assert (answer.status_code, len(answer.json()["items"])) == (200, 2000)


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/snapshot", "/metrics", "/docs", "/topk?user=ada"])
def test_head_answers_as_get_without_a_body(path: str, client: httpx.Client) -> None:
    """Load balancers probe by it."""
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "allowed"), [("/topk", "GET, HEAD, POST"), ("/rank", "GET, HEAD, POST"), ("/health", "GET, HEAD")]
)
def test_a_wrong_method_is_told_all_methods(path: str, allowed: str, client: httpx.Client) -> None:
    """In Allow and in the sentence."""
    response = client.delete(path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert allowed in response.json()["detail"]
    assert client.get("/none").json()["detail"] == "There is nothing at this path; /docs lists what there is."


@pytest.mark.parametrize("now_ms", [0, END_OF_TIME_MS])
def test_a_request_may_be_at_any_time_of_an_event(now_ms: int, client: httpx.Client) -> None:
    """From the first to the last millisecond that a stream can have."""
    assert client.get("/topk", params={"user": "ada", "now_ms": now_ms}).json()["now_ms"] == now_ms
    posted = client.post("/rank", json={"user": "ada", "items": ["i1"], "now_ms": now_ms})
    assert posted.json()["now_ms"] == now_ms


def test_the_snapshot_and_health_are_reported(client: httpx.Client) -> None:
    """What answers now, with its manifest; and that nothing is wrong."""
    snapshot = client.get("/snapshot").json()
    assert (snapshot["step"], snapshot["alias"], snapshot["age_s"]) == (1, "latest", 10)
    assert snapshot["settings"]["model"]["dim"] == 16
    health = client.get("/health").json()
    assert (health["status"], health["problem"], health["snapshot"]["id"]) == ("ok", None, snapshot["id"])


def test_the_api_describes_itself(client: httpx.Client) -> None:
    """The OpenAPI page works and says what is allowed and what comes back."""
    schema = client.get("/openapi.json").json()
    (k,) = [p["schema"] for p in schema["paths"]["/topk"]["get"]["parameters"] if p["name"] == "k"]
    assert (k["minimum"], k["maximum"], k["default"]) == (1, 1000, 10)
    assert {"TopK", "Ranking", "Health", "Problem"} <= schema["components"]["schemas"].keys()
    assert schema["paths"]["/topk"]["get"]["responses"]["422"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Problem"
    }
    rank = schema["components"]["schemas"]["RankQuestion"]["properties"]
    assert (rank["items"]["minItems"], rank["items"]["maxItems"]) == (1, 2000)
    assert (rank["user"]["anyOf"][0]["minLength"], rank["user"]["anyOf"][0]["maxLength"]) == (1, 256)
    assert all({"401", "413", "421", "500"} <= post["responses"].keys() for post in (schema["paths"]["/rank"]["post"],))


def test_the_page_of_the_api_needs_no_network(client: httpx.Client) -> None:
    """Every script, style and picture comes from this server."""
    page = client.get("/docs").text
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 3
    assert not re.search(r"https?://", page)
    for file in files:
        response = client.get(f"/{file}")
        assert (response.status_code, len(response.content) > 500) == (200, True), file
    assert client.get("/redoc").status_code == 404


def test_every_field_that_needs_words_has_them_in_the_schema(client: httpx.Client) -> None:
    """The docstrings under the fields reach openapi.json, from which clients are generated."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for schema, field, words in (
        ("SnapshotInfo", "age_s", "Seconds of wall time since it was made."),
        ("TopK", "tokens", "Tokens of the sequence that the model read."),
        ("RankedItem", "known", "Whether the snapshot has a row for the item"),
        ("Health", "problem", "What keeps the newest snapshot"),
        ("Problem", "detail", "What is wrong"),
    ):
        assert schemas[schema]["properties"][field]["description"].startswith(words)


def test_before_the_first_snapshot_everything_is_503_and_then_it_is_served(tmp_path: Path) -> None:
    """A server may start before its trainer; it loads the first snapshot by itself."""
    with serving(tmp_path) as client:
        for path in ("/topk?user=ada", "/rank?user=ada&items=i1", "/snapshot"):
            response = client.get(path)
            assert response.status_code == 503
            assert "yet; `hstu train` makes the first" in response.json()["detail"]
            assert str(tmp_path) not in response.text
        assert [client.get(path).status_code for path in ("/live", "/ready")] == [200, 503]
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "no snapshot")
        assert "hstu_snapshot_age_seconds NaN" in client.get("/metrics").text
        write_model(tmp_path / "snapshots" / "silu")
        until(lambda: client.get("/health").status_code == 200, "the first snapshot was not taken up")
        assert client.get("/topk?user=ada").status_code == 200


def test_swapping_under_load_drops_no_request(tmp_path: Path) -> None:
    """While the alias moves back and forth, every request is answered, each wholly by one of the snapshots."""
    directory = tmp_path / "snapshots" / "silu"
    names = [write_model(directory, step, arrays=model_arrays(seed=step)).name for step in (1, 2, 3)]
    truth: dict[str, Any] = {}
    stop = threading.Event()

    def ask(client: httpx.Client) -> list[tuple[int, str, Any]]:
        answers = []
        while not stop.is_set():
            response = client.get("/topk", params={"user": "ada", "now_ms": NOW_MS})
            body = response.json()
            answers.append((response.status_code, body["snapshot"]["id"], body["items"]))
        return answers

    with serving(tmp_path) as client, ThreadPoolExecutor(8) as pool:
        running = [pool.submit(ask, client) for _ in range(8)]
        for turn in range(12):
            name = names[turn % 3]
            move(directory, "latest", name)
            until(lambda name=name: client.get("/snapshot").json()["id"] == name, f"{name} was not taken up")
        stop.set()
        answers = [answer for future in running for answer in future.result()]
    assert {status for status, _, _ in answers} == {200}
    assert {found for _, found, _ in answers} == set(names)
    for _, found, items in answers:
        assert truth.setdefault(found, items) == items
    assert len({str(items) for items in truth.values()}) == 3


def test_a_broken_snapshot_is_reported_while_the_last_good_one_answers(tmp_path: Path) -> None:
    """Health is degraded and says why; queries are answered; the next good snapshot ends it."""
    directory = tmp_path / "snapshots" / "silu"
    good = write_model(directory, 1)
    with serving(tmp_path) as client:
        broken = write_model(directory, 2, alias=None)
        data = (broken / ARRAYS).read_bytes()
        (broken / ARRAYS).write_bytes(data[:-1] + b"?")
        (directory / "aliases" / "latest").write_text(broken.name)  # by hand: `move` refuses it
        health = until(lambda: (h := client.get("/health").json())["status"] == "degraded" and h, "not reported")
        assert health["problem"] == "The snapshot that latest names is not loaded; the server's log says why."
        assert client.get("/ready").status_code == 200
        assert client.get("/topk?user=ada").json()["snapshot"]["id"] == good.name
        assert "hstu_snapshot_problem 1.0" in client.get("/metrics").text
        write_model(directory, 3)
        until(lambda: client.get("/health").json()["status"] == "ok", "the good one was not taken up")


def test_a_store_that_cannot_be_read_is_a_sentence_with_status_503(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why, once; the server goes on, and other queries are answered."""

    class Broken:
        def tokens(self, user: str, last: int) -> None:
            raise OSError(f"{tmp_path} is on fire")

    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path, Broken()) as client:
        responses = [client.get("/topk?user=ada") for _ in range(3)]
        assert {response.status_code for response in responses} == {503}
        assert {response.json()["detail"] for response in responses} == {
            "This cannot be answered now; the server's log says why."
        }
        assert client.post("/topk", json={"sequence": ["i1"]}).status_code == 200
    assert len([record for record in caplog.records if f"{tmp_path} is on fire" in record.getMessage()]) == 1


def test_an_unforeseen_error_is_a_sentence_with_status_500(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, answered and logged, and the connection stays open."""
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path) as client:
        with monkeypatch.context() as patch:
            patch.setattr("model.serving.answerer.Answerer.topk", lambda *_, **__: 1 // 0)
            response = client.get("/topk?user=ada")
        assert response.status_code == 500
        assert response.json()["detail"] == "The query failed by a fault of this server; its log has the traceback."
        assert 'path="/topk",status="500"' in client.get("/metrics").text
        assert client.get("/topk?user=ada").status_code == 200
    assert [record.exc_info is not None for record in caplog.records if "/topk" in record.getMessage()] == [True]
