"""The directory of a Kafka node: ours or refused, one node at a time."""

from pathlib import Path

import pytest

from stream.errors import BrokerError
from stream.local_broker.data_directory import BrokerDirectory


def contents(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


@pytest.mark.parametrize("exists", [True, False])
def test_a_new_directory_becomes_ours_for_good(tmp_path: Path, exists: bool) -> None:
    """An empty directory, or none yet, gets a cluster id that it keeps."""
    path = tmp_path / "some" / "node"
    if exists:
        path.mkdir(parents=True)
    first = BrokerDirectory(path)
    first.close()
    second = BrokerDirectory(path)
    second.close()
    assert first.cluster_id == second.cluster_id
    assert len(first.cluster_id) == 22


def test_a_directory_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    """The sentence names what is there, and nothing is written."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(
        BrokerError, match=f"^{tmp_path} is not empty and was not made by hstu broker .it holds thesis.tex"
    ):
        BrokerDirectory(tmp_path)
    assert contents(tmp_path) == {"thesis.tex"}


def test_the_directory_of_another_cluster_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A directory that some other Kafka has formatted is told by its cluster's id, and nothing is written."""
    (tmp_path / "meta.properties").write_text("version=1\ncluster.id=5L6g3nShT-eMCtK--X86sw\nnode.id=1\n")
    with pytest.raises(BrokerError, match=r"belongs to another Kafka cluster \(cluster.id 5L6g3nShT-eMCtK--X86sw\)"):
        BrokerDirectory(tmp_path)
    assert contents(tmp_path) == {"meta.properties"}


def test_messages_of_another_cluster_in_our_directory_are_refused(tmp_path: Path) -> None:
    """Kafka's own files must name the cluster that we have made."""
    ours = BrokerDirectory(tmp_path)
    ours.close()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "meta.properties").write_text("cluster.id=another\n")
    with pytest.raises(BrokerError, match=f"another Kafka cluster .cluster.id another, but .* says {ours.cluster_id}"):
        BrokerDirectory(tmp_path)


def test_a_directory_in_use_is_refused_until_it_is_closed(tmp_path: Path) -> None:
    """The sentence names the process that has it."""
    first = BrokerDirectory(tmp_path)
    first.used_by(4711)
    with pytest.raises(
        BrokerError, match=f"^{tmp_path} is in use by another running Kafka node .pid 4711.; stop that one"
    ):
        BrokerDirectory(tmp_path)
    first.close()
    BrokerDirectory(tmp_path).close()


def test_a_file_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    """The operating system's reason is passed on in our sentence."""
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"directory .*/file cannot be used: Not a directory"):
        BrokerDirectory(tmp_path / "file")


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"format": 2, "cluster_id": "x"}', "format 2")],
)
def test_a_marker_that_cannot_be_understood_is_refused_and_the_lock_let_go(
    tmp_path: Path, marker: str, sentence: str
) -> None:
    """A broken or newer hstu-broker.json is told; once mended, the directory opens."""
    BrokerDirectory(tmp_path).close()
    good = (tmp_path / "hstu-broker.json").read_text()
    (tmp_path / "hstu-broker.json").write_text(marker)
    with pytest.raises(BrokerError, match=sentence):
        BrokerDirectory(tmp_path)
    (tmp_path / "hstu-broker.json").write_text(good)
    BrokerDirectory(tmp_path).close()


def test_formatting_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    """Messages appear under logs/ only once the storage tool has finished; afterwards it is not run again."""
    runs: list[str] = []
    directory = BrokerDirectory(tmp_path)

    def tool(properties: str) -> None:
        assert "log.dirs=logs.new\n" in (tmp_path / properties).read_text()
        (tmp_path / "logs.new").mkdir()
        runs.append(properties)
        if len(runs) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        directory.format(tool)
    assert "logs" not in contents(tmp_path)
    directory.format(tool)
    directory.format(tool)
    directory.close()
    assert len(runs) == 2
    assert contents(tmp_path) == {"hstu-broker.json", "lock", "logs"}


def test_a_busy_machine_fences_no_node(tmp_path: Path) -> None:
    """A node that was held up for seconds keeps its leaders: its session is as long as Kafka's own default."""
    directory = BrokerDirectory(tmp_path)
    directory.configure(port=1, controller_port=2)
    directory.close()
    lines = (tmp_path / "server.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line)
    session_ms = int(properties.get("broker.session.timeout.ms", 9000))
    assert session_ms >= max(9000, 4 * int(properties["broker.heartbeat.interval.ms"]))


def test_the_last_error_is_one_of_this_start(tmp_path: Path) -> None:
    """An error of an earlier start is not blamed for this one; Java's own output counts where Kafka is silent."""
    directory = BrokerDirectory(tmp_path)
    directory.log.write_text("java.io.IOException: long ago\n")
    directory.configure(port=1, controller_port=2)
    assert directory.last_error() == f"{directory.log} and {directory.jvm_log} may say why"
    directory.jvm_log.write_text("Error: Could not create the Java Virtual Machine.\n")
    assert directory.last_error().startswith("Error: Could not create the Java Virtual Machine.")
    with directory.log.open("a") as log:
        log.write("ERROR stopping\njava.lang.RuntimeException: no\nCaused by: java.net.BindException: in use\n\tat x\n")
    assert directory.last_error() == f"Caused by: java.net.BindException: in use ({directory.log} says more)"
    with directory.log.open("a") as log:
        log.write("ERROR\njava.io.IOException: No space left on device\nERROR\njava.io.IOException: Map failed\n")
    assert directory.last_error().startswith(f"No space left on device: make room for {tmp_path} (")
    directory.close()
