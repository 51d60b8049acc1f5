"""What an error of kafka-python or aiokafka means, for the end of a sentence."""

import re
from typing import Final

_DENIED: Final = {  # error codes of Kafka's protocol
    29: "this user may not do that with the topic",
    30: "this user may not read as, or look at, the consumer group",
    31: "this user may not do that with the cluster, or may write to no topic",
    53: "this user may not use the transactional id",
}


def reason(error: BaseException) -> str:
    """Return an error's name and what Kafka's protocol says about it, without the request's text.

    A missing permission names its topic or group, and the page that lists the ACLs.
    """
    code = getattr(error, "errno", None)
    if code in _DENIED:
        return f"{_DENIED[code]}{_named(error)} (an ACL is missing: docs/kafka.md lists them)"
    name = type(error).__name__
    said = (getattr(error, "description", None) or str(error)).removeprefix(f"{name}: ")
    return f"{name}: {said[:300].rstrip('.')}" if said != name else name


def is_denied(error: BaseException) -> bool:
    """Return whether an ACL is missing, which no further attempt will mend."""
    return getattr(error, "errno", None) in _DENIED


def _named(error: BaseException) -> str:
    """Return the topics or the group that an error is about, as far as the client says."""
    first = error.args[0] if error.args else ""
    if group := re.search(r"GROUP/(\S+): ?$", str(first)):  # where no coordinator may be asked for
        return f" {group[1]}"
    names = sorted(map(str, first)) if isinstance(first, set | frozenset | list | tuple) else [str(first)]
    return " " + ", ".join(names) if names and not any(" " in name or not name for name in names) else ""
