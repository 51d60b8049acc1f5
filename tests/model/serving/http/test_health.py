"""What /health says is wrong."""

from pathlib import Path

from tests.http_server import serving
from tests.served import Memory, write_model


def test_health_says_that_other_hosts_cannot_be_asked(tmp_path: Path) -> None:
    """Queries are answered from what is here, perhaps as of an earlier day; without the addresses of others."""
    write_model(tmp_path / "snapshots" / "silu", 1)
    memory = Memory()
    with serving(tmp_path, memory) as client:
        assert client.get("/health").json()["status"] == "ok"
        memory.problem = "Nobody can be asked"
        health = client.get("/health").json()
        assert (health["status"], health["problem"]) == (
            "degraded",
            "Nobody can be asked; the server's log says why.",
        )
