from model.serving.http.snapshot_page import snapshot_page
from tests.served import answerer


def test_no_setting_of_the_trainers_machine_is_shown() -> None:
    """Settings that decide what is learned are; paths, addresses and unknown ones are not."""
    machine = {"metrics_file": "/home/ada/metrics", "metrics_host": "10.0.0.1", "password": "x", "name": "silu"}
    shown = answerer()
    shown.manifest.settings.update(train={"seed": 7, **machine}, secret={"key": "x"})
    page = snapshot_page(shown.manifest, shown.info()).model_dump()
    assert page["settings"].keys() == {"model", "train"}
    assert page["settings"]["train"] == {"seed": 7}
    assert page["settings"]["model"]["dim"] == 16
    assert page.keys().isdisjoint({"versions", "device", "threads", "offsets"})
