"""Tokens: whom they let in, and every way in which one is not good."""

import base64
import json
import os
from pathlib import Path

import pytest

from meshdns.errors import ResourceError, StoreError
from meshdns.publisher import tokens
from meshdns.publisher.tokens import KEY_FILE, Token, check, read_key, sign

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_800_000_000.0
GOOD = sign(Token("default", "client", int(NOW) + 60), KEY, now=NOW)
HEADER, CLAIMS, SIGNATURE = GOOD.split(".")


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(claims: object, *, algorithm: str = "HS256") -> str:
    head, _, _ = f"{encoded({'alg': algorithm})}..".partition("..")
    text = f"{head}.{encoded(claims)}"
    return f"{text}.{tokens._encode(tokens._signature(text, KEY))}"


def test_a_good_token_is_good_until_it_expires() -> None:
    check(GOOD, "default", "client", KEY, now=NOW)
    check(GOOD, "default", "client", KEY, now=NOW - 200)  # clocks differ a little
    check(GOOD, "default", "client", KEY, now=NOW + 59)


CASES = [
    ("", "token is malformed: token contains an invalid number of segments"),
    ("garbage", "token contains an invalid number of segments"),
    (f"Bearer {GOOD}", "token is malformed"),
    ("a.b.c", "token is malformed"),
    ("\u00e9.\u00e9.\u00e9", "token is malformed"),
    (f"{HEADER}.{CLAIMS}.", "token signature is invalid"),
    (f"{HEADER}.{encoded({'Name': 'client'})}.{SIGNATURE}", "token signature is invalid"),
    (sign(Token("default", "client", int(NOW) + 60), OTHER, now=NOW), "token signature is invalid"),
    (f"{encoded({'alg': 'none'})}.{CLAIMS}.", "token is unverifiable"),
    (signed({"Mesh": "default"}, algorithm="HS512"), "token is unverifiable"),
    (signed([]), "token is unverifiable"),
    (signed({"Mesh": "default", "Name": "client"}), "token has invalid claims: token is expired"),
    (signed({"Mesh": "default", "Name": "client", "exp": "never"}), "token is expired"),
    (sign(Token("default", "client", int(NOW)), KEY, now=NOW), "token has invalid claims: token is expired"),
    (sign(Token("default", "client", int(NOW) + 9999), KEY, now=NOW + 900), "token is not valid yet"),
    (
        sign(Token("default", "other", int(NOW) + 60), KEY, now=NOW),
        "proxy name from requestor: client is different than in token: other",
    ),
    (
        sign(Token("payments", "client", int(NOW) + 60), KEY, now=NOW),
        "mesh from requestor: default is different than in token: payments",
    ),
]


@pytest.mark.parametrize(("text", "problem"), CASES)
def test_a_bad_token_is_refused_in_kumas_words(text: str, problem: str) -> None:
    with pytest.raises(ResourceError, match=r"^authentication failed: ") as caught:
        check(text, "default", "client", KEY, now=NOW)
    assert problem in str(caught.value)


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = read_key(tmp_path / "data")
    assert len(key) == 32
    assert read_key(tmp_path / "data") == key
    assert (tmp_path / "data" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "data") == [KEY_FILE]  # noqa: PTH208


def test_a_key_that_others_read_or_that_is_short_is_refused(tmp_path: Path) -> None:
    read_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        read_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o600)
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(StoreError, match="holds 5 octets"):
        read_key(tmp_path)
