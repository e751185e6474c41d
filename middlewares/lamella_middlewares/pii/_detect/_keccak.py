"""Keccak-256 as Ethereum uses it: the submission's padding, not that of SHA-3 (FIPS 202).

The permutation and its constants are those of the Keccak reference (Bertoni, Daemen, Peeters,
Van Assche, version 3.0); `hashlib` has only the padding of the standard.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1
_RATE: Final = 136


def _round_constants() -> tuple[int, ...]:
    """The 24 constants, from the linear feedback register x^8 + x^6 + x^5 + x^4 + 1."""
    register = 1
    constants: list[int] = []
    for _ in range(24):
        constant = 0
        for exponent in range(7):
            if register & 1:
                constant |= 1 << ((1 << exponent) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


def _lanes() -> tuple[tuple[int, int], ...]:
    """Where each lane moves from in the pi step's cycle, and by how much rho turns it."""
    x, y = 1, 0
    moves: list[tuple[int, int]] = []
    for step in range(24):
        x, y = y, (2 * x + 3 * y) % 5
        moves.append((x + 5 * y, ((step + 1) * (step + 2) // 2) % 64))
    return tuple(moves)


_CONSTANTS: Final = _round_constants()
_MOVES: Final = _lanes()


def _permuted(state: list[int]) -> list[int]:
    for constant in _CONSTANTS:
        columns = [
            state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20]
            for x in range(5)
        ]
        mixed = [columns[x - 1] ^ _turned(columns[(x + 1) % 5], 1) for x in range(5)]
        state = [lane ^ mixed[index % 5] for index, lane in enumerate(state)]
        carried = state[1]
        for place, turn in _MOVES:
            state[place], carried = _turned(carried, turn), state[place]
        state = [
            state[row + x] ^ (~state[row + (x + 1) % 5] & state[row + (x + 2) % 5] & _MASK)
            for row in range(0, 25, 5)
            for x in range(5)
        ]
        state[0] ^= constant
    return state


def _turned(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & _MASK


def keccak_256(data: bytes) -> bytes:
    """The digest, 32 bytes. About a millisecond for a short text."""
    padded = bytearray(data + b"\x01" + bytes(-(len(data) + 1) % _RATE))
    padded[-1] |= 0x80
    state = [0] * 25
    for block in range(0, len(padded), _RATE):
        for lane in range(_RATE // 8):
            start = block + lane * 8
            state[lane] ^= int.from_bytes(padded[start : start + 8], "little")
        state = _permuted(state)
    return b"".join(lane.to_bytes(8, "little") for lane in state[:4])
