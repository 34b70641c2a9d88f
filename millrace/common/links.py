"""Links of this machine that lead nowhere: what lies behind one is not gone, but out of reach."""

import os

from millrace.errors import AccessError


def check(path: str, top: str = "/") -> None:
    """Raise AccessError if there is nothing at a path because a link on the way, below `top`, leads to nothing."""
    place = path.rstrip("/")
    while not os.path.lexists(place) and len(place) > len(top):
        place = os.path.dirname(place)
    if not os.path.exists(place) and os.path.lexists(place):
        raise leads_nowhere(place)


def leads_nowhere(link: str) -> AccessError:
    """Return the error for a link that leads nowhere."""
    return AccessError(
        f"{link} is a link to {os.readlink(link)}, which can't be reached; mount or mend what it leads to"
    )
