from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from model.config import ServeSettings
from model.errors import ModelError
from model.serving.http.access import check_reach, read_token
from sim.config import Settings
from sim.settings_toml import settings_page
from tests.http_server import serving
from tests.served import write_model

TOKEN = "0123456789abcdef"
PATHS = ("/topk?user=ada", "/rank?user=ada&items=i1", "/snapshot", "/health", "/metrics", "/none", "/docsx")
PAGES = ("/live", "/ready", "/docs", "/openapi.json", "/docs/static/swagger-ui.css")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_model(tmp_path / "snapshots" / "silu")
    return tmp_path


def test_a_token_opens_all_but_probes_and_pages_which_are_open(data_dir: Path) -> None:
    """Missing, wrong, of another scheme or too long: 401 and how to send it; bodies are not even read."""
    with serving(data_dir, token=TOKEN) as client:
        for path in PATHS:
            for wrong in (None, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer é"):
                headers = {} if wrong is None else {"Authorization": wrong.encode()}
                response = client.get(path, headers=headers)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), path
                assert "Authorization: Bearer TOKEN" in response.json()["detail"]
            right = client.get(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code
            assert right == (404 if path in ("/none", "/docsx") else 200)
        for path in PAGES:
            assert client.get(path).status_code == 200, path
        assert client.post("/rank", content=b"[" * 1000).status_code == 401
        assert client.get("/docs/../topk?user=ada").status_code == 401
        schema = client.get("/openapi.json").json()
        assert "security" in schema["paths"]["/topk"]["get"]
        assert "security" not in schema["paths"]["/live"]["get"]


@pytest.mark.parametrize(
    ("address", "local"), [("127.0.0.1", True), ("127.0.0.9", True), ("::1", True), ("0.0.0.0", False), ("::", False)]
)
def test_only_loopback_needs_no_token(address: str, local: bool) -> None:
    """Addresses that only this machine reaches."""
    check_reach(address, TOKEN)
    if local:
        check_reach(address, "")
    else:
        with pytest.raises(ModelError, match="set a token, by the variable HSTU_SERVE__TOKEN or a file named by"):
            check_reach(address, "")


def test_a_token_comes_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's last newline is not part of it."""
    assert read_token(ServeSettings()) == ""
    monkeypatch.setenv("HSTU_SERVE__TOKEN", TOKEN)
    settings = Settings()
    assert read_token(settings.serve) == TOKEN
    assert TOKEN not in settings_page(settings) + repr(settings) + settings.model_dump_json()
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert read_token(ServeSettings(token_file=str(tmp_path / "token"))) == TOKEN


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"token": SecretStr("short")}, r"The token in serve\.token is refused: give at least 16 printable ASCII"),
        ({"token": SecretStr("sixteen bytes of ü")}, "is refused"),
        ({"token": SecretStr("0123456789\n0123456789")}, "is refused"),
        ({"token_file": "none"}, r"The serve\.token_file none cannot be read: .*write the token into it"),
        ({"token_file": "empty"}, r"The token in serve\.token_file empty is refused"),
        ({"token_file": "empty", "token": SecretStr(TOKEN)}, "are both set; keep one"),
    ],
)
def test_a_token_that_would_not_work_is_a_sentence(
    settings: Any, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file opens nothing; the sentence never holds the token."""
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    with pytest.raises(ModelError, match=sentence) as raised:
        read_token(ServeSettings(**settings))
    assert "short" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ({}, "evil.example.com", 421),
        ({}, "evil.example.com:8000", 421),
        ({}, "127.0.0.1.evil.example.com", 421),
        ({}, "localhost@evil.example.com", 421),
        ({}, "[::1", 421),
        ({}, "", 421),
        ({}, "localhost:8000", 200),
        ({}, "LOCALHOST", 200),
        ({}, "localhost.:8000", 200),
        ({"hosts": ("rec.example.com.",)}, "rec.example.com", 200),
        ({}, "127.0.0.1", 200),
        ({}, "[::1]:8000", 200),
        ({"hosts": ("rec.example.com",)}, "rec.example.com", 200),
        ({"hosts": ("rec.example.com",)}, "localhost", 200),
        ({"hosts": ("rec.example.com",)}, "evil.example.com", 421),
        ({"hosts": ("*",)}, "evil.example.com", 200),
        ({"address": "0.0.0.0"}, "10.0.0.7:8000", 200),
        ({"address": "0.0.0.0", "hosts": ("rec.example.com",)}, "10.0.0.7:8000", 421),
    ],
)
def test_host_is_checked_on_loopback_and_where_names_are_listed(
    options: Any, host: str, status: int, data_dir: Path
) -> None:
    """DNS rebinding ends at a sentence; probes are answered under any name."""
    settings = ServeSettings(hosts=options.pop("hosts", ()))
    with serving(data_dir, settings=settings, **options) as client:
        response = client.get("/topk?user=ada", headers={"Host": host})
        assert response.status_code == status
        if status == 421:
            assert "serve.hosts" in response.json()["detail"]
        if host:
            assert client.get("/live", headers={"Host": host}).status_code == 200


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def test_pages_of_listed_origins_may_read_answers(data_dir: Path) -> None:
    """A preflight needs no token, the request itself does, and errors can be read as well."""
    shop, other = {"Origin": "https://shop.example"}, {"Origin": "https://other.example"}
    with serving(data_dir, settings=ServeSettings(cors_origins=("https://shop.example",)), token=TOKEN) as client:
        before = client.options("/rank", headers={**shop, **PREFLIGHT})
        assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, "https://shop.example")
        assert "POST" in before.headers["access-control-allow-methods"]
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
            response = client.get("/topk?user=ada", headers={**shop, **headers})
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, shop["Origin"])
        assert client.options("/rank", headers={**other, **PREFLIGHT}).status_code == 400
        assert "access-control-allow-origin" not in client.get("/live", headers=other).headers


def test_without_the_setting_no_other_origin_may_read(data_dir: Path) -> None:
    """Cross-origin requests get no header that would let a page read the answer."""
    with serving(data_dir) as client:
        response = client.get("/topk?user=ada", headers={"Origin": "https://shop.example"})
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert client.options("/rank", headers={"Origin": "https://shop.example", **PREFLIGHT}).status_code == 405
