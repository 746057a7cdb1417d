"""A study's database (``--storage``): how its server is spoken to, and what its refusals mean."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from metatune.errors import RunError, hide_password

CONNECT_SECONDS = 10
"""In which a server answers, or is taken for away."""

_ALREADY_THERE = re.compile(r"already exists|UniqueViolation|UNIQUE constraint|database is locked")


def check_storage(url: str) -> None:
    """Refuse a URL that leaves the driver to the version of a library.

    Raises:
        RunError: it names PostgreSQL, and no driver.
    """
    found = hide_password(url)
    if re.match(r"postgres(ql)?://", found):
        allowed = re.sub(r"^\w+", "postgresql+psycopg", found)
        raise RunError(f"--storage does not name its driver: found {found}; allowed: {allowed}")


def engine_options(url: str) -> dict[str, Any]:
    """What SQLAlchemy's engine is told: a connection that the server has closed is made anew, and a
    server that does not answer is not waited for without end."""
    answers = {"connect_args": {"connect_timeout": CONNECT_SECONDS}}
    return {"pool_pre_ping": True, **(answers if url.startswith("postgresql") else {})}


def others_make_it(error: Exception) -> bool:
    """Whether somebody else is making an empty database's tables, so that another try helps."""
    refused = isinstance(error, IntegrityError | OperationalError | ProgrammingError)
    return refused and _ALREADY_THERE.search(str(error)) is not None


def reason(error: Exception) -> str:
    """What a database, or the library that speaks to it, says: a line without secrets."""
    cause = error.__cause__
    if isinstance(error, ImportError) and isinstance(cause, ImportError) and cause.name:
        extra = ": pip install 'metatune[postgresql]'" if cause.name == "psycopg" else ""
        return f"its driver {cause.name} is not installed{extra}"
    return hide_password(str(error).partition("\n")[0]) or type(error).__name__
