"""What catalogue records cost that no item of the vocabulary needs: bytes of each in a trainer and in a snapshot.

python bench/catalogue.py. --records items with a title, two genres and a year are described; none has a row, as is so
of items that were never admitted, and of those that have left. The trainer's memory is the growth of the process.
"""

import argparse
import resource
import time
from pathlib import Path

from report import machine, save, table

from model.data.catalogue import ItemRecord
from model.data.entity_index import EntityIndex
from stream.example import id_key

BATCH, START_MS, YEARS = 1000, 1_700_000_000_000, 90


def described(number: int) -> ItemRecord:
    """Return the record of an item."""
    features: dict[str, object] = {"genres": ["drama", "comedy"], "year": 1930 + number % YEARS}
    item = f"item-{number}"
    return ItemRecord(id_key(item), item, f"A title of usual length {number}", features, START_MS + number)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    index = EntityIndex(item_features=("*",))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(0, given.records, BATCH):
        index.learn_items([described(number) for number in range(start, min(start + BATCH, given.records))])
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    found = {
        "trainer, bytes a record": grown / given.records,
        "snapshot, bytes a record": sum(array.nbytes for array in index.catalogue.state().values()) / given.records,
    }
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.records:,} records")
    table(("", "figure"), [(name, f"{value:,.0f}") for name, value in found.items()])
    save("catalogue", {"records": given.records, **found}, given.save)


if __name__ == "__main__":
    main()
