"""Ids and names."""

from __future__ import annotations

import random

from runfold.naming import check_run_id, hashed_id, random_id, readable_name


def test_random_ids_do_not_depend_on_seeds() -> None:
    random.seed(1)
    first = random_id()
    random.seed(1)
    assert random_id() != first
    assert len({random_id() for _ in range(1000)}) == 1000


def test_ids_are_eight_lower_alphanumerics() -> None:
    for made in (random_id(), hashed_id("job", 1)):
        assert len(made) == 8
        assert made.isalnum()
        assert made == made.lower()
        check_run_id(made)


def test_hashed_ids_tell_their_parts_apart() -> None:
    assert hashed_id("a", "b") == hashed_id("a", "b")
    assert len({hashed_id("a", "b"), hashed_id("ab"), hashed_id("a", "b", 0), hashed_id("a", "b", 1)}) == 4


def test_names_are_readable_and_follow_the_id() -> None:
    name = readable_name("abc123")
    assert name == readable_name("abc123")
    adjective, noun, number = name.split("-")
    assert adjective.isalpha()
    assert noun.isalpha()
    assert number.isdigit()
    assert len({readable_name(str(n)) for n in range(500)}) > 490
