"""Pickles of features, read without running them: an interpreter of its own that calls nothing the file names.

Python's `pickle` runs what a file asks for. Here a name is a token, the few that numpy's arrays need are acted out in
this module, and everything else is refused by name. Protocols 0 to 5, numpy 1 and 2, Python 2 and 3. Bytes of an array
stay in the file until rows of it are asked for, so a file may be larger than the memory.
"""

from __future__ import annotations

import codecs
import math
import os
import pickle
import re
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

MAX_DEPTH = 8
MAX_ITEMS = 20_000_000  # opcodes of a file, and values in what it holds
MAX_AXES = 8
LARGE = 1 << 16  # bytes from which a value stays in the file
_BLOCK = 8 << 20

_NUMBER = re.compile(r"[fiub]\d{1,2}")
_TEXT = re.compile(r"[SU]\d{1,7}")
_SIZES = {"f": (2, 4, 8, 16), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array of numbers whose bytes lie in a file: `shape`, `dtype`, and rows by a slice of the first axis."""

    file: IO[bytes]
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last, _ = rows.indices(self.shape[0])
        last = max(first, last)
        if self.fortran and self.ndim > 1:
            whole = np.memmap(self.file, self.dtype, "r", self.offset, self.shape, order="F")
            return np.ascontiguousarray(whole[first:last])
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        data = bytearray((last - first) * size)
        at, view = self.offset + first * size, memoryview(data)
        while view:  # one call reads 2 GB at most
            count = os.preadv(self.file.fileno(), [view], at)
            if not count:
                raise ValueError(f"{self.file.name}: was cut while it was read")
            at, view = at + count, view[count:]
        return np.frombuffer(data, self.dtype).reshape(last - first, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def reshaped(self, shape: tuple[int, ...]) -> StoredArray:
        """The same numbers in another C-ordered shape."""
        return StoredArray(self.file, self.offset, shape, self.dtype, self.fortran)


def read_pickle(path: str | Path, *, spill: str | Path | None = None) -> Any:
    """What a pickle holds: dicts, lists, tuples, texts, numbers, bytes, None, np.ndarray and `StoredArray`.

    spill: a folder for bytes that a protocol below 3 stores as text. Raises ValueError of one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    file = path.open("rb")
    if file.read(4) == b"PK\x03\x04":
        file.close()
        raise ValueError(f"{path}: is a zip (an npz or a torch file), whatever its name says")
    file.seek(0)
    try:
        machine = _Machine(file, path.stat().st_size, spill)
        return _plain(machine.load(), 0, [0])
    except _Refusal as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # whatever a damaged opcode leads to: an empty stack, a number of letters
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a whole pickle ({reason})") from None


class _Refusal(ValueError):
    """A fault that the sentence names."""


@dataclass(frozen=True)
class _Span:
    """Bytes in the file; `text` where they are UTF-8."""

    file: IO[bytes]
    offset: int
    size: int
    text: bool = False

    def read(self) -> bytes:
        self.file.seek(self.offset)
        return self.file.read(self.size)


@dataclass(frozen=True)
class _Token:
    """A name that the file mentions."""

    name: str


@dataclass
class _Dtype:
    code: str
    order: str = "="

    def resolve(self) -> np.dtype:
        kind, size = self.code[:1], int(self.code[1:] or 0)
        if _NUMBER.fullmatch(self.code) and size in _SIZES[kind]:
            return np.dtype(f"{self.order.replace('|', '=')}{self.code}")
        if _TEXT.fullmatch(self.code) and 0 < size <= LARGE:
            return np.dtype(f"{self.order.replace('|', '=')}{self.code}")
        raise _Refusal(f"holds an array of type {self.code[:20]!r}; numbers and texts are read")


@dataclass
class _Array:
    """What `numpy.ndarray` becomes; empty until it is built."""

    value: Any = _Token("ndarray")  # frozen, so one serves all


_MARK = object()

_RECONSTRUCT = _Token("reconstruct")
_SCALAR = _Token("scalar")
_FROMBUFFER = _Token("frombuffer")
_NDARRAY = _Token("ndarray")
_DTYPE = _Token("dtype")
_ENCODE = _Token("encode")
_BYTES = _Token("bytes")
_BYTEARRAY = _Token("bytearray")
_ORDERED = _Token("OrderedDict")
_NAMES: dict[tuple[str, str], _Token] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,
    ("collections", "OrderedDict"): _ORDERED,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _RECONSTRUCT
    _NAMES[f"{_core}.multiarray", "scalar"] = _SCALAR
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _FROMBUFFER
for _builtin in ("builtins", "__builtin__"):
    _NAMES[_builtin, "bytes"] = _BYTES
    _NAMES[_builtin, "bytearray"] = _BYTEARRAY


class _Machine:
    """The stack machine of the pickle format (PEP 307, 574; `pickletools`), without calls and classes."""

    def __init__(self, file: IO[bytes], size: int, spill: str | Path | None) -> None:
        self.file, self.size, self.folder = file, size, spill
        self.spilled: IO[bytes] | None = None
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        for _ in range(MAX_ITEMS):
            code = self.file.read(1)
            if not code:
                raise _Refusal(f"ends after {self.size} bytes, before the pickle does")
            if code == pickle.STOP:
                return self.stack.pop()
            action = _ACTIONS.get(code)
            if action is None:
                name = _UNUSED.get(code)
                what = f"uses {name}, which no file of features needs" if name else f"is no pickle (byte {code!r})"
                raise _Refusal(what)
            action(self)
        raise _Refusal(f"holds more than {MAX_ITEMS} values")

    # Bytes -----------------------------------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        self.check(count)
        return self.file.read(count)

    def check(self, count: int) -> None:
        at = self.file.tell()
        if count > self.size - at:
            raise _Refusal(f"ends after {self.size} bytes, in the middle of a value that goes on to {at + count}")

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise _Refusal(f"ends after {self.size} bytes, in the middle of a line")
        return line[:-1]

    def held(self, count: int, text: bool = False) -> Any:
        """The next bytes, or where they are."""
        if count < LARGE:
            data = self.take(count)
            return data.decode("utf-8", "surrogatepass") if text else data
        self.check(count)
        span = _Span(self.file, self.file.tell(), count, text)
        self.file.seek(count, os.SEEK_CUR)
        return span

    def encoded(self, value: Any, encoding: Any) -> Any:
        """Bytes that a protocol below 3 stores as text, `_codecs.encode(text, "latin1")`."""
        if encoding not in ("latin1", "latin-1", b"latin1"):
            raise _Refusal(f"encodes text as {str(encoding)[:20]!r}; bytes are stored as latin1")
        if isinstance(value, str):
            return value.encode("latin1")
        if not (isinstance(value, _Span) and value.text):
            raise _Refusal("encodes what is no text")
        if self.spilled is None:
            self.spilled = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (arrays read from it later)
        start = self.spilled.seek(0, os.SEEK_END)
        decode, left, here = codecs.getincrementaldecoder("utf-8")().decode, value.size, self.file.tell()
        self.file.seek(value.offset)
        while left:
            part = self.file.read(min(left, _BLOCK))
            left -= len(part)
            self.spilled.write(decode(part, not left).encode("latin1"))
        self.file.seek(here)
        self.spilled.flush()
        return _Span(self.spilled, start, self.spilled.tell() - start)

    # Stack -----------------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise _Refusal("is damaged (a mark is missing)")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise _Refusal(f"is damaged (a {kind.__name__} is expected)")
        return self.stack[-1]

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        into = self.top(dict)
        if len(items) % 2:
            raise _Refusal("is damaged (a key has no value)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            key = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
            if not isinstance(key, str | int):
                raise _Refusal(f"names a value by a {type(key).__name__.strip('_')}; texts and numbers are read")
            into[key] = value

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise _Refusal("is damaged (the stack is empty)")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    # Names -----------------------------------------------------------------------------------------------------------

    def name(self, module: Any, name: Any) -> None:
        module, name = (x.decode("latin1") if isinstance(x, bytes) else x for x in (module, name))
        if not isinstance(module, str) or not isinstance(name, str):  # before they are hashed
            raise _Refusal("names what is no text")
        if (module, name) not in _NAMES:
            shown = f"{module}.{name}"[:80]
            raise _Refusal(
                f"names {shown!r}, which could run code; only numpy arrays, texts, numbers, lists and dicts are read"
            )
        self.push(_NAMES[module, name])

    def reduce(self) -> None:
        function, args = self.pop(2)
        if not isinstance(function, _Token) or not isinstance(args, tuple):
            raise _Refusal("calls what is no function")
        self.push(_CALLS[function](self, *args) if function in _CALLS else self._uncalled(function))

    def _uncalled(self, function: _Token) -> None:
        raise _Refusal(f"calls {function.name!r}, which no file of features needs")

    def reconstruct(self, kind: Any, shape: Any, code: Any) -> _Array:
        if kind is not _NDARRAY:
            raise _Refusal("reconstructs what is no array")
        return _Array()

    def scalar(self, dtype: Any, data: Any = b"") -> Any:
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise _Refusal("holds a number of an unknown type")
        return self.array((), dtype, False, data).item()

    def ordered(self, pairs: Any = ()) -> dict[Any, Any]:
        if pairs != ():
            raise _Refusal("fills an OrderedDict in a way that is not read")
        return {}

    def build(self) -> None:
        (state,) = self.pop(1)
        target = self.stack[-1]
        if not isinstance(state, tuple):
            raise _Refusal("gives a state to what has none")
        if isinstance(target, _Dtype):
            self.build_dtype(target, *state)
        elif isinstance(target, _Array) and len(state) in (4, 5):
            target.value = self.array(*state[-4:])
        else:
            raise _Refusal("gives a state to what has none")

    @staticmethod
    def build_dtype(target: _Dtype, version: Any, order: Any, sub: Any, names: Any, fields: Any, *_: Any) -> None:
        order = order.decode("ascii", "replace") if isinstance(order, bytes) else order
        if order not in ("<", ">", "=", "|") or (sub, names, fields) != (None, None, None):
            raise _Refusal("holds an array of structures; numbers and texts are read")
        target.order = order

    def from_buffer(self, data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        return _Array(self.array(shape, dtype, order == "F", data))

    def array(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> Any:
        """The array of a state: its size is compared with its bytes before anything is made of them."""
        if not isinstance(shape, tuple) or len(shape) > MAX_AXES or any(type(n) is not int or n < 0 for n in shape):
            raise _Refusal(f"holds an array of shape {' '.join(str(shape).split())[:40]}")
        if not isinstance(dtype, _Dtype):
            raise _Refusal("holds an array without a type")
        count = math.prod(shape)
        if dtype.code in ("O8", "O4", "O"):
            if not isinstance(data, list) or len(data) != count:
                raise _Refusal(f"holds an array of shape {shape} with other contents")
            return _Objects(shape, data, bool(fortran))
        kind = dtype.resolve()
        if isinstance(data, str):  # a Python 2 text of bytes
            data = data.encode("latin1")
        if not isinstance(data, bytes | bytearray | _Span) or (isinstance(data, _Span) and data.text):
            raise _Refusal(f"holds an array of shape {shape} without bytes")
        have = data.size if isinstance(data, _Span) else len(data)
        if have != count * kind.itemsize:
            raise _Refusal(f"holds an array of shape {shape} and type {kind} in {have} bytes")
        kind = np.dtype("u1") if kind.kind == "b" else kind
        if isinstance(data, _Span):
            if kind.kind in "fiu":
                return StoredArray(data.file, data.offset, shape, kind, bool(fortran))
            here = self.file.tell()
            data = data.read()
            self.file.seek(here)
        if kind.kind == "U":
            check_text(np.frombuffer(data, np.dtype("u4").newbyteorder(kind.byteorder)))
        return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")

    def string(self, quoted: bytes) -> Any:
        """A Python 2 text of protocol 0, quoted as Python writes it."""
        if len(quoted) < 2 or quoted[:1] not in b"'\"" or quoted[-1:] != quoted[:1]:
            raise _Refusal("is damaged (a text without quotes)")
        return codecs.escape_decode(quoted[1:-1])[0]

    def integer(self, text: bytes) -> Any:
        if text in (b"00", b"01"):
            return text == b"01"
        return int(text.rstrip(b"L"))

    def long(self, count: int) -> int:
        if not 0 <= count <= 64:
            raise _Refusal(f"holds a whole number of {count} bytes")
        return int.from_bytes(self.take(count), "little", signed=True)

    def protocol(self) -> None:
        version = self.take(1)[0]
        if version > 5:
            raise _Refusal(f"is a pickle of protocol {version}; 0 to 5 are read")


@dataclass(frozen=True)
class _Objects:
    """An array of Python objects before its items are looked at."""

    shape: tuple[int, ...]
    items: list[Any]
    fortran: bool


def check_text(codes: np.ndarray) -> None:
    """Raises ValueError unless these are code points of Unicode."""
    if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes < 0xE000)).any():
        raise _Refusal("holds text that is not Unicode")


def _plain(value: Any, depth: int, seen: list[int]) -> Any:
    """Values without stubs; counts them, so that what refers to itself or to the same list again and again ends."""
    seen[0] += 1
    if seen[0] > MAX_ITEMS:
        raise _Refusal(f"holds more than {MAX_ITEMS} values")
    if depth > MAX_DEPTH:
        raise _Refusal(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {key: _plain(x, depth + 1, seen) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(x, depth + 1, seen) for x in value)
    if isinstance(value, _Array):
        value = value.value
    if isinstance(value, _Objects):
        made = np.empty(len(value.items), dtype=object)
        for i, item in enumerate(value.items):
            made[i] = _plain(item, depth + 1, seen)
        return made.reshape(value.shape, order="F" if value.fortran else "C")
    if isinstance(value, _Span):
        raise _Refusal(f"holds a text of {value.size} bytes; at most {LARGE} are read")
    if isinstance(value, str | bytes | bytearray | int | float | np.ndarray | StoredArray) or value is None:
        return value
    raise _Refusal(f"holds a {getattr(value, 'name', None) or 'value'} that is not complete")


_CALLS: dict[_Token, Callable[..., Any]] = {
    _RECONSTRUCT: _Machine.reconstruct,
    _SCALAR: _Machine.scalar,
    _FROMBUFFER: _Machine.from_buffer,
    _ORDERED: _Machine.ordered,
    _DTYPE: lambda m, code, *_: _Dtype(code.decode("ascii") if isinstance(code, bytes) else str(code)),
    _ENCODE: lambda m, value, encoding="latin1": m.encoded(value, encoding),
    _BYTES: lambda m: b"",
    _BYTEARRAY: lambda m, value=b"", encoding=None: m.encoded(value, encoding) if encoding else value,
}

_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: lambda m: m.check(m.number("<Q")),  # a frame is a hint for buffering; the bytes follow as they are
    pickle.MARK: lambda m: m.push(_MARK),
    pickle.POP: lambda m: m.pop(1),
    pickle.POP_MARK: lambda m: m.since_mark(),
    pickle.DUP: lambda m: m.push(m.stack[-1]),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.INT: lambda m: m.push(m.integer(m.line())),
    pickle.LONG: lambda m: m.push(m.integer(m.line())),
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: lambda m: m.push(m.long(m.number("<B"))),
    pickle.LONG4: lambda m: m.push(m.long(m.number("<i"))),
    pickle.FLOAT: lambda m: m.push(float(m.line())),
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.STRING: lambda m: m.push(m.string(m.line())),
    pickle.BINSTRING: lambda m: m.push(m.held(m.number("<I"))),
    pickle.SHORT_BINSTRING: lambda m: m.push(m.held(m.number("<B"))),
    pickle.UNICODE: lambda m: m.push(m.line().decode("raw-unicode-escape")),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.held(m.number("<B"), text=True)),
    pickle.BINUNICODE: lambda m: m.push(m.held(m.number("<I"), text=True)),
    pickle.BINUNICODE8: lambda m: m.push(m.held(m.number("<Q"), text=True)),
    pickle.SHORT_BINBYTES: lambda m: m.push(m.held(m.number("<B"))),
    pickle.BINBYTES: lambda m: m.push(m.held(m.number("<I"))),
    pickle.BINBYTES8: lambda m: m.push(m.held(m.number("<Q"))),
    pickle.BYTEARRAY8: lambda m: m.push(m.held(m.number("<Q"))),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.LIST: lambda m: m.push(m.since_mark()),
    pickle.APPEND: lambda m: m.append(m.pop(1)),
    pickle.APPENDS: lambda m: m.append(m.since_mark()),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
    pickle.TUPLE1: lambda m: m.push(tuple(m.pop(1))),
    pickle.TUPLE2: lambda m: m.push(tuple(m.pop(2))),
    pickle.TUPLE3: lambda m: m.push(tuple(m.pop(3))),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.DICT: lambda m: (items := m.since_mark(), m.push({}), m.set_items(items)),
    pickle.SETITEM: lambda m: m.set_items(m.pop(2)),
    pickle.SETITEMS: lambda m: m.set_items(m.since_mark()),
    pickle.PUT: lambda m: m.memo.__setitem__(int(m.line()), m.stack[-1]),
    pickle.BINPUT: lambda m: m.memo.__setitem__(m.number("<B"), m.stack[-1]),
    pickle.LONG_BINPUT: lambda m: m.memo.__setitem__(m.number("<I"), m.stack[-1]),
    pickle.MEMOIZE: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    pickle.GET: lambda m: m.push(m.memo[int(m.line())]),
    pickle.BINGET: lambda m: m.push(m.memo[m.number("<B")]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("<I")]),
    pickle.GLOBAL: lambda m: m.name(m.line().decode(), m.line().decode()),
    pickle.STACK_GLOBAL: lambda m: m.name(*m.pop(2)),
    pickle.REDUCE: _Machine.reduce,
    pickle.BUILD: _Machine.build,
}

#: What the format has and no file of features needs: objects of classes, sets, buffers and objects kept elsewhere.
_UNUSED = {
    getattr(pickle, name): name
    for name in (
        *("NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"),
        *("EMPTY_SET", "ADDITEMS", "FROZENSET", "NEXT_BUFFER", "READONLY_BUFFER"),
    )
}
