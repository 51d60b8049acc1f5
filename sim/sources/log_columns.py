"""The columns of a recorded log, and what its rows become."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from sim.errors import SimError

RatingAs = Literal["action", "impression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How a log is read; each field is the flag of `hstu replay` with its name."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "ts"
    action: str | None = None
    """Column of action names; without it and `rating`, every row is a `click`."""
    rating: str | None = None
    """Column of ratings."""
    request: str | None = None
    """Column of request ids: the rows of one user and request were shown together."""
    rating_as: RatingAs = "action"
    positive_from: float | None = None
    """Least rating that is a `like`; a lower one is a `dislike`, or no action on an impression. None: all `rate`."""
    shuffle_ties: int | None = None
    """Seed that shuffles the rows of one user at one instant; None keeps the file's order."""
    limit: int | None = None
    """Rows at most, the earliest ones."""

    def __post_init__(self) -> None:
        if self.rating_as not in get_args(RatingAs):
            raise SimError(f"--rating-as {self.rating_as} is unknown; known are {', '.join(get_args(RatingAs))}.")
        if self.rating is None and (self.rating_as == "impression" or self.positive_from is not None):
            raise SimError("--rating-as and --positive-from speak of ratings; name their column by --rating.")
        if self.rating is not None and self.action is not None:
            raise SimError("A row becomes an action by --action or by --rating, not by both; remove one.")
        if self.request is not None and self.rating_as == "impression":
            raise SimError("--request already says what was shown; remove --rating-as impression.")
        if self.request is not None and self.action is None and self.rating is None:
            raise SimError("--request needs --action or --rating, which say what was acted on of what was shown.")
        if self.shuffle_ties is not None and self.shuffle_ties < 0:
            raise SimError(f"--shuffle-ties {self.shuffle_ties} is no seed; give 0 or a positive number.")
        if self.limit is not None and self.limit < 1:
            raise SimError(f"--limit {self.limit} leaves no rows; give a positive number.")

    def columns(self) -> list[str]:
        """Return the names of the columns that are read."""
        return [name for name in (self.user, self.item, self.time, self.action, self.rating, self.request) if name]

    def tag(self) -> str:
        """Return a text that is equal only for equal settings."""
        return ",".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
