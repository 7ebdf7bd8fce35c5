"""Whatever bytes come, decoders raise ProtocolError or nothing, and stay within the stated memory."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import samples
from runfold.protocol.errors import ProtocolError
from runfold.protocol.frames import decode_frame, encode_frame, peek_frame
from runfold.protocol.limits import MAX_ELEMENTS
from runfold.protocol.rows import unpack_definition
from runfold.protocol.streams import Heartbeat
from runfold.protocol.values import decode_bound_bytes, unpack_value

FRAME = encode_frame(samples.FRAME)
DECODERS: list[Callable[[bytes], Any]] = [
    unpack_value,
    decode_frame,
    peek_frame,
    unpack_definition,
    Heartbeat.unpack,
    *(type(payload).unpack for payload in samples.PAYLOADS.values()),
]


def decode(decoder: Callable[[bytes], Any], data: bytes) -> None:
    try:
        decoder(data)
    except ProtocolError:
        pass


@given(st.binary(max_size=300))
def test_random_bytes_crash_no_decoder(data: bytes) -> None:
    for decoder in DECODERS:
        decode(decoder, data)


@given(st.data())
def test_mutated_payloads_crash_no_decoder(data: st.DataObject) -> None:
    payload = data.draw(st.sampled_from(list(samples.PAYLOADS.values())))
    decode(type(payload).unpack, mutate(payload.pack(), data.draw(st.randoms(use_true_random=False))))


@settings(max_examples=500)
@given(st.randoms(use_true_random=False))
def test_mutated_frames_crash_no_decoder(chance: random.Random) -> None:
    data = mutate(FRAME, chance)
    decode(decode_frame, data)
    peek_frame(data)


def mutate(data: bytes, chance: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(mutated) + 1)
        match chance.randrange(5):
            case 0 if at < len(mutated):
                mutated[at] ^= 1 << chance.randrange(8)
            case 1:
                mutated[at : at + chance.randint(0, 9)] = bytes(
                    chance.randrange(256) for _ in range(chance.randint(0, 9))
                )
            case 2:
                del mutated[at:]
            case 3:
                mutated[at:at] = mutated[chance.randrange(len(mutated) + 1) :][: chance.randint(0, 40)]
            case _:
                mutated[at : at + 1] = bytes(
                    [chance.choice([0x80, 0x90, 0xDC, 0xDD, 0xDE, 0xDF, 0xC6, 0xC9, 0xDB])]
                )
    return bytes(mutated)


MANY = 30_000


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd"
        + (3 * MANY).to_bytes(4, "big")
        + b"\x80" * (3 * MANY),  # empty maps, over the limit of elements
        b"\xdd" + (MANY - 9).to_bytes(4, "big") + b"\x80" * (MANY - 9),  # just within
        b"\xdd" + (MANY // 3).to_bytes(4, "big") + b"\x81\xa1a\xc0" * (MANY // 3),  # maps of one
        b"\xdd" + (MANY // 2).to_bytes(4, "big") + b"\x91\x80" * (MANY // 2),
        b"\xdd\x00\x0f\x42\x40" * 200_000,  # a million items promised, again and again
        b"\xdd\x00\x00\x03\xe8" * 200,  # the same, below the size that is scanned
        b"\xdc\x03\xff" * 340,
        b"\xdf\x7f\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff" + b"x" * 1000,
        b"\xdd" + (MANY - 9).to_bytes(4, "big") + b"\xa2\xc3\xbf" * (MANY - 9),  # small strings
        b"\xdb" + (4_000_000).to_bytes(4, "big") + b"x" * 3_999_996 + "😀".encode(),  # 4 bytes a character
    ],
    ids=lambda data: f"{data[:6].hex()}-{len(data)}",
)
def test_decoding_stays_within_the_stated_memory(data: bytes) -> None:
    wrapped = b"\x82\xa1v\x01\xa1b" + data

    def unpack_few(given: bytes) -> Any:
        return unpack_value(given, max_elements=MANY)

    for decoder, given_bytes in ((unpack_few, data), (decode_frame, wrapped), (peek_frame, wrapped)):
        tracemalloc.start()
        try:
            decode(decoder, given_bytes)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak <= decode_bound_bytes(len(given_bytes), MANY if decoder is unpack_few else MAX_ELEMENTS)


BOMB = """
import resource
from runfold.protocol.errors import LimitError
from runfold.protocol.values import unpack_value
data = b"\\xdd" + (10_000_000).to_bytes(4, "big") + b"\\x80" * 10_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack_value(data)
except LimitError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_ten_megabytes_of_empty_maps_cost_nothing() -> None:
    # Decoded as they are, they would take 728 MB.
    found = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 20_000  # kB


def test_random_large_payloads_stay_within_the_stated_memory() -> None:
    chance = random.Random(7)
    for _ in range(30):
        size = chance.choice([100, 1000, 1024, 1025, 20_000])
        favoured = bytes(chance.choices([0x80, 0x90, 0x91, 0xDC, 0xDD, 0xDE, 0xDF, 0x00, 0x03, 0xFF], k=size))
        tracemalloc.start()
        try:
            decode(unpack_value, favoured)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak <= decode_bound_bytes(size)
