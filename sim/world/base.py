"""The table [base] of a scenario file, and what all of its tables have in common."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
DAY_MS: Final = 86_400_000


class SettingsTable(BaseModel):
    """A table of the file; `hstu scenarios show` prints the docstring under each key."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Base(SettingsTable):
    """How big the world is, and what users are like."""

    events: int = Field(100_000, ge=1, le=20_000_000)
    """Clicks; with [slates] the slates shown, whose clicks come on top."""
    users: int = Field(2_000, ge=1, le=1_000_000)
    """Users, each with a taste: a few categories and how much each is liked."""
    items: int = Field(2_000, ge=1, le=100_000)
    """Items alive at one time, at most; births beyond that replace deaths."""
    categories: int = Field(40, ge=1, le=10_000)
    """Categories, to which items are dealt at random."""
    days: float = Field(30.0, gt=0, le=3650)
    """Event time from the first event to the last."""
    seed: int = Field(0, ge=0, lt=2**64)
    """Seed of all random numbers; another seed is another world under the same laws."""
    zipf: float = Field(1.0, ge=0, le=5)
    """How steep popularity is within a category; 0: all items are equal."""
    slots: int = Field(4, ge=1, le=1_000)
    """Categories that a user draws, with replacement."""
    concentration: float = Field(1.0, gt=0, le=1e6)
    """Parameter of the Dirichlet weights of a user's slots: small means one favourite, large means equal weights."""
    activity: float = Field(0.5, ge=0, le=5)
    """Spread of the users' activity: sigma of a lognormal; 0: all are equal."""
    session: float = Field(5.0, ge=1, le=10_000)
    """Events of one visit, on average."""
    session_gap_s: Positive = 20.0
    """Time between two events of one visit, on average."""
