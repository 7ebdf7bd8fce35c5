"""Parts become one manifest: their union, or the name that two of them mean differently."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold.protocol.manifest import Entry
from runfold_coordinator.artifacts.merge import PathConflictError, merge_entries
from support.manifest_entries import entry_of

names = st.sampled_from(["a", "a/b", "a0", "b", "z", "é"])
entries = st.sampled_from([entry_of("1" * 64), entry_of("2" * 64), Entry("e", None, "s3://b/e")])
parts = st.lists(st.dictionaries(names, entries, max_size=4), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(parts, st.randoms(use_true_random=False))
def test_eight_writers_in_any_order(found: list[dict[str, Entry]], random: object) -> None:
    meant: dict[str, list[Entry]] = {}
    for part in found:
        for name, entry in part.items():
            if entry not in meant.setdefault(name, []):
                meant[name].append(entry)
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    disputed = sorted(name for name, said in meant.items() if len(said) > 1)
    sources = [sorted(part.items()) for part in shuffled]
    if disputed:
        with pytest.raises(PathConflictError) as caught:
            list(merge_entries(sources))
        assert caught.value.name == disputed[0]
    else:
        merged = list(merge_entries(sources))
        assert merged == [(name, meant[name][0]) for name in sorted(meant)]


def test_what_only_helps_to_fetch_is_no_conflict_and_the_first_part_decides() -> None:
    first = Entry("e", 3, "s3://b/k", {"version": "1"})
    second = Entry("e", None, "s3://b/k", {})
    assert list(merge_entries([[("a", first)], [("a", second)]])) == [("a", first)]
