"""Whether the ranking towers of a snapshot have learned anything, so that their probabilities may order candidates."""

from typing import Final

from model.evaluation.metrics import ALL
from model.evaluation.prequential import MODEL
from model.storage.snapshot import Manifest

_NOTHING_SHOWN: Final = "no shown item has been trained on yet, so there are no probabilities"
_NO_POSITIVE: Final = "no action of model.rank_actions has had a positive, so there are no probabilities"


def why_no_probabilities(manifest: Manifest) -> str | None:
    """Return why the towers' probabilities mean nothing, None where they do; towers without figures count as trained.

    Args:
        manifest: Of the snapshot that answers.
    """
    if not manifest.rank_targets:
        return _NOTHING_SHOWN
    by_action = manifest.metrics.get("ranking", {}).get(MODEL, {}).get("total", {})
    if by_action and not any(ages[ALL]["positives"] for ages in by_action.values()):
        return _NO_POSITIVE
    return None
