"""FarmHash's Fingerprint64, which FARM_FINGERPRINT is."""

_MASK = 2**64 - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def fingerprint(data: bytes) -> int:
    """Return FARM_FINGERPRINT: the hash as a signed number."""
    found = _hash(data)
    return found - 2**64 if found >= 2**63 else found


def _hash(s: bytes) -> int:
    n = len(s)
    if n <= 16:
        return _up_to_16(s)
    mul = _K2 + n * 2
    if n <= 32:
        a, b = _at(s, 0) * _K1, _at(s, 8)
        c, d = _at(s, n - 8) * mul, _at(s, n - 16) * _K2
        return _pair(_turn(a + b, 43) + _turn(c, 30) + d, a + _turn(b + _K2, 18) + c, mul)
    if n <= 64:
        a, b = _at(s, 0) * _K2, _at(s, 8)
        c, d = _at(s, n - 8) * mul, _at(s, n - 16) * _K2
        y = _turn(a + b, 43) + _turn(c, 30) + d
        z = _pair(y, a + _turn(b + _K2, 18) + c, mul)
        e, f = _at(s, 16) * mul, _at(s, 24)
        g, h = (y + _at(s, n - 32)) * mul, (z + _at(s, n - 24)) * mul
        return _pair(_turn(e + f, 43) + _turn(g, 30) + h, e + _turn(f + a, 18) + g, mul)
    return _long(s)


def _long(s: bytes) -> int:
    n = len(s)
    x, y = 81, (81 * _K1 + 113) & _MASK
    z = _mix(y * _K2 + 113) * _K2 & _MASK
    v, w = (0, 0), (0, 0)
    x = (x * _K2 + _at(s, 0)) & _MASK
    end = (n - 1) // 64 * 64
    at = 0
    while True:
        x, y, z, v, w = _round(s, at, x, y, z, v, w, _K1, 1)
        at += 64
        if at == end:
            break
    mul = _K1 + ((z & 0xFF) << 1)
    at = end + ((n - 1) & 63) - 63
    w = ((w[0] + ((n - 1) & 63)) & _MASK, w[1])
    v = ((v[0] + w[0]) & _MASK, v[1])
    w = ((w[0] + v[0]) & _MASK, w[1])
    x, y, z, v, w = _round(s, at, x, y, z, v, w, mul, 9)
    return _pair(_pair(v[0], w[0], mul) + _mix(y) * _K0 + z, _pair(v[1], w[1], mul) + x, mul)


Two = tuple[int, int]


def _round(
    s: bytes, at: int, x: int, y: int, z: int, v: Two, w: Two, mul: int, by: int
) -> tuple[int, int, int, Two, Two]:
    x = _turn(x + y + v[0] + _at(s, at + 8), 37) * mul & _MASK
    y = _turn(y + v[1] + _at(s, at + 48), 42) * mul & _MASK
    x ^= w[1] * by & _MASK
    y = (y + v[0] * by + _at(s, at + 40)) & _MASK
    z = _turn(z + w[0], 33) * mul & _MASK
    v = _weak(s, at, v[1] * mul, x + w[0])
    w = _weak(s, at + 32, z + w[1], y + _at(s, at + 16))
    return z, y, x, v, w


def _weak(s: bytes, at: int, a: int, b: int) -> Two:
    w, x, y, z = (_at(s, at + 8 * each) for each in range(4))
    a = (a + w) & _MASK
    b = _turn(b + a + z, 21)
    c = a
    a = (a + x + y) & _MASK
    return (a + z) & _MASK, (b + _turn(a, 44) + c) & _MASK


def _up_to_16(s: bytes) -> int:
    n = len(s)
    mul = _K2 + n * 2
    if n >= 8:
        a, b = (_at(s, 0) + _K2) & _MASK, _at(s, n - 8)
        return _pair(_turn(b, 37) * mul + a, (_turn(a, 25) + b) * mul, mul)
    if n >= 4:
        first, last = int.from_bytes(s[:4], "little"), int.from_bytes(s[-4:], "little")
        return _pair(n + (first << 3), last, mul)
    if n:
        y, z = s[0] + (s[n >> 1] << 8), n + (s[-1] << 2)
        return _mix((y * _K2 ^ z * _K0) & _MASK) * _K2 & _MASK
    return _K2


def _at(s: bytes, at: int) -> int:
    return int.from_bytes(s[at : at + 8], "little")


def _turn(value: int, by: int) -> int:
    value &= _MASK
    return (value >> by | value << (64 - by)) & _MASK


def _mix(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _pair(u: int, v: int, mul: int) -> int:
    a = _mix((u ^ v) * mul)
    return _mix((v ^ a) * mul) * mul & _MASK
