"""Tables of settings: what is shared, and who has which value."""

import json
from pathlib import Path

from sim.report import write_report
from tests.sim.report.report_folders import run, write


def test_settings_say_what_is_shared_and_who_differs(tmp_path: Path) -> None:
    """One value for all is shared; else each value has its owners, by the fewest words."""
    runs = [
        run(
            scenario, name, seed, 0.1, settings=json.dumps({"dim": 64, "attention": name, "seed": seed, "at": scenario})
        )
        for scenario in "ab"
        for name in ("silu", "softmax")
        for seed in (3, 4)
    ]
    text = write_report(write(tmp_path, runs)).read_text()
    assert "silu <small>silu</small><br>softmax <small>softmax</small>" in text
    assert "3 <small>seed 3</small><br>4 <small>seed 4</small>" in text
    assert "a <small>a</small><br>b <small>b</small>" in text
    assert text.index("What differs") < text.index("The same in every run") < text.index("<code>dim</code>")
