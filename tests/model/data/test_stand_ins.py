import numpy as np

from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.item_features import ItemFeatures
from model.data.stand_ins import StandIns
from model.data.vocabulary import Vocabulary

NAMES = ("genres", "year")
RECORDS = {1: {"genres": ["a", "b"]}, 2: {"genres": ["new", "b"]}, 3: {"year": 1998}, 4: {"genres": ["new"]}, 5: {}}


def known(stand_ins: StandIns, *values: object) -> Vocabulary:
    """Return features with the stand-ins and some values of genres."""
    features = Vocabulary()
    keys, _ = ItemFeatures(NAMES).values({"genres": list(values)})
    features.admit(np.concatenate((stand_ins.keys, keys)), np.zeros(len(stand_ins.keys) + len(keys), np.int64))
    return features


def catalogue() -> Catalogue:
    found = Catalogue()
    for key, features in RECORDS.items():
        found.apply(ItemRecord(key, str(key), None, features, 0))
    return found


def test_the_first_value_that_has_a_row_stands_in() -> None:
    """Items whose values have none, that have no values or no record, or are withdrawn, share by their hash."""
    stand_ins, described = StandIns(2, NAMES), catalogue()
    features = known(stand_ins, "a", "b")
    keys = np.array([1, 2, 3, 4, 5, 6, 1], np.uint64)
    assert stand_ins.rows(keys, features, described).tolist() == [2, 3, 1, 0, 1, 0, 2]
    described.apply(Tombstone(1, "1", 1))
    assert stand_ins.rows(keys, features, described).tolist() == [1, 3, 1, 0, 1, 0, 1]


def test_features_that_do_not_count_stand_in_for_nothing() -> None:
    """Nor does a catalogue that is not there; of no items there are no rows."""
    keys = np.array([1, 2], np.uint64)
    for names, described in (((), catalogue()), (("year",), catalogue()), (NAMES, None)):
        stand_ins = StandIns(2, names)
        assert stand_ins.rows(keys, known(stand_ins, "a", "b"), described).tolist() == [1, 0]
        assert stand_ins.rows(keys[:0], known(stand_ins, "a", "b"), described).tolist() == []
