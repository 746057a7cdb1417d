"""Messages: one line, and nothing in them that is a secret."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.errors import hide_password, one_line

# --- passwords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///studies.db", "sqlite:///studies.db"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("mysql://me@host/db", "mysql://me@host/db"),
        ("mysql://me:secret@host:3306/db", "mysql://me:***@host:3306/db"),
        ("mysql+pymysql://me:s@cr:e/t@host/db?x=1", "mysql+pymysql://me:***@host/db?x=1"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=me&password=secret&x=1",
         "postgresql://host/db?user=me&password=***&x=1"),
        ("x://me:secret@[broken/db", "x://me:***@[broken/db"),
    ],
)  # fmt: skip
def test_a_storage_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


SECRETS = st.text(string.ascii_letters + string.digits + ":/?#[]!$'()*+,;=%@.-_~", min_size=8)
IN_QUERY = st.text(string.ascii_letters + string.digits + "%.-_~+", min_size=8)
KEYS = st.sampled_from(["password", "PASSWORD", "sslpassword", "passwd", "pwd", "auth_token"])
BEFORE = st.sampled_from(["", "Could not parse ", "sqlalchemy.exc.ArgumentError: '"])


@given(BEFORE, SECRETS, st.sampled_from(["postgresql+psycopg", "mysql", "redis"]))
def test_no_password_before_a_host_is_shown_wherever_the_url_stands(
    before: str, secret: str, scheme: str
) -> None:
    shown = hide_password(f"{before}{scheme}://me:{secret}@host:5432/studies")
    assert shown == f"{before}{scheme}://me:***@host:5432/studies"


@given(BEFORE, IN_QUERY, KEYS)
def test_no_password_in_a_query_is_shown(before: str, secret: str, key: str) -> None:
    shown = hide_password(f"{before}postgresql://host/db?user=me&{key}={secret}&x=1 (refused)")
    assert shown == f"{before}postgresql://host/db?user=me&{key}=***&x=1 (refused)"


def test_a_message_is_one_line_whatever_names_are_in_it() -> None:
    assert one_line("a\nb\x1b[31mc") == "a?b?[31mc"
