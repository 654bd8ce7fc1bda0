"""Pickles are read as numpy and Python write them, nothing in them is run, and a faulty one is one sentence."""

from __future__ import annotations

import collections
import os
import pickle
import random
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from imder.data.export import Blocks, write_pickle
from imder.data.pickles import StoredArray, read_pickle

RNG = np.random.default_rng(0)
TREE = {
    "train": {
        "text": RNG.normal(size=(40, 50, 30)).astype(np.float32),
        "double": RNG.normal(size=(5, 3, 2)),
        "big endian": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(RNG.normal(size=(30, 40, 20))),
        "raw_text": np.array(["a", "bé 好"], dtype=object),
        "texts": np.array(["x", "yz"]),
        "bytes": np.array([b"ab", b"c"]),
        "flags": np.array([True, False]),
        "half": np.ones(3, np.float16),
        "none": np.zeros((0, 3)),
        "list": [1, -2.5, None, "s", True, 10**12],
        "scalar": np.float32(2.5),
    },
    "order": collections.OrderedDict(a=1),
}
ragged = np.empty(2, dtype=object)
ragged[0], ragged[1] = np.zeros((2, 3)), np.ones((1, 3))
TREE["train"]["ragged"] = ragged


def same(have, wanted) -> None:
    if isinstance(wanted, dict):
        assert have.keys() == wanted.keys()
        for key in wanted:
            same(have[key], wanted[key])
    elif isinstance(wanted, np.ndarray):
        have = np.asarray(have)
        assert have.shape == wanted.shape
        if wanted.dtype == object:
            for one, other in zip(have, wanted, strict=True):
                same(one, other)
        else:
            np.testing.assert_array_equal(have, wanted)
    elif isinstance(wanted, list | tuple):
        assert [type(x) for x in have] == [type(x) for x in wanted]
        assert have == wanted
    else:
        assert have == wanted


def put(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("generation", [b"numpy._core", b"numpy.core"])
@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_numpy_generation_is_read(tmp_path, protocol, generation):
    content = pickle.dumps(TREE, protocol)
    if protocol < 4:  # later ones state the name's length
        content = content.replace(b"numpy._core", generation)
    elif generation == b"numpy.core":
        for name in (b"multiarray", b"numeric"):
            old = b"numpy._core." + name
            content = content.replace(bytes([len(old)]) + old, bytes([len(old) - 1]) + old.replace(b"_core", b"core"))
        content = unframed(content)
    same(read_pickle(put(tmp_path, content)), TREE)


def unframed(content: bytes) -> bytes:
    """Without frames, whose lengths a replacement has spoilt; they are hints alone."""
    return re.sub(rb"\x95...\x00{5}", b"", content, flags=re.DOTALL)


def test_large_arrays_stay_in_the_file_and_give_rows(tmp_path):
    found = read_pickle(put(tmp_path, pickle.dumps(TREE, 4)))["train"]
    text = found["text"]
    assert isinstance(text, StoredArray)
    np.testing.assert_array_equal(text[7:9], TREE["train"]["text"][7:9])
    assert text[39:50].shape == (1, 50, 30)
    assert text[20:10].shape == (0, 50, 30)
    assert isinstance(found["fortran"], StoredArray)
    np.testing.assert_array_equal(found["fortran"][3:5], TREE["train"]["fortran"][3:5])


def test_python_2s_texts_are_bytes_of_arrays_and_names(tmp_path):
    x = np.arange(4, dtype="<f4")
    head = b"\x80\x02}U\x05trainc" + b"numpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    head += (
        b"(K\x01K\x04\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    content = head + b"\x89U\x10" + x.tobytes() + b"tbs."
    same(read_pickle(put(tmp_path, content)), {"train": x})


def test_our_writer_is_read_by_python_and_by_us(tmp_path):
    tree = {"a": {"x": np.arange(6.0).reshape(2, 3), "ids": np.array(["é", None, 3], dtype=object)}, "b": [1, "z"]}
    blocks = {"a": dict(tree["a"], x=Blocks((2, 3), np.dtype("f8"), iter([tree["a"]["x"][:1], tree["a"]["x"][1:]])))}
    with (tmp_path / "x.pkl").open("wb") as file:
        write_pickle(blocks | {"b": tree["b"]}, file)
    content = (tmp_path / "x.pkl").read_bytes()
    assert b"numpy._core" not in content  # numpy 1 has no such module
    same(pickle.loads(content), tree)
    same(read_pickle(tmp_path / "x.pkl"), tree)


# -- hostile files ----------------------------------------------------------------------------------------------------

CANARY = "/tmp/imder-canary-pickles"


class Runs:
    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def state(shape: bytes, code: bytes, data: bytes) -> bytes:
    """A pickle of one array whose state is given."""
    dtype = b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    return head + shape + dtype + b"\x89" + data + b"tb."


def doubled(times: int) -> bytes:
    """A list of the list before, twice, again and again: 2^times values in a few bytes."""
    return b"\x80\x02]q\x00" + b"".join(b"(h%ch%cl" % (i, i) + b"q" + bytes([i + 1]) for i in range(times)) + b"."


LONG = b"U\x08" + bytes(8)
HOSTILE = {
    "a call": (lambda: pickle.dumps(Runs()), "names 'posix.system', which could run code"),
    "an inner call": (lambda: pickle.dumps({"train": [Runs()]}, 2), "names 'posix.system'"),
    "eval": (lambda: b"c__builtin__\neval\n(S'1'\ntR.", "names '__builtin__.eval'"),
    "numpy's own loader": (lambda: b"cnumpy\nload\n(S'x'\ntR.", "names 'numpy.load'"),
    "an array from a pointer": (
        lambda: b"\x80\x02cnumpy\nndarray\n(K\x01\x85U\x01OU\x08AAAAAAAAtR.",
        "calls 'ndarray', which no file",
    ),
    "a set": (lambda: pickle.dumps({1, 2}, 4), "uses EMPTY_SET"),
    "an object": (lambda: b"\x80\x02cnumpy\nndarray\n)\x81.", "uses NEWOBJ"),
    "an extension": (lambda: b"\x82\x01.", "uses EXT1"),
    "a persistent id": (lambda: b"\x80\x02K\x01Q.", "uses BINPERSID"),
    "an old object": (lambda: b"(cos\nsystem\no.", "names 'os.system'"),
    "an object by name": (lambda: b"(ios\nsystem\n.", "uses INST"),
    "an object array of bytes": (lambda: state(b"K\x01\x85", b"O8", LONG), "with other contents"),
    "structures": (lambda: pickle.dumps(np.zeros(1, dtype=[("a", "f4")])), "numbers and texts are read|structures"),
    "complex": (lambda: pickle.dumps(np.zeros(20000, dtype=complex)), "holds an array of type 'c16'"),
    "dates": (lambda: pickle.dumps(np.zeros(2, dtype="M8[s]")), "M8|structures"),
    "a lying shape": (
        lambda: state(b"J\xff\xff\xff\x7f\x85", b"f8", LONG),
        "of shape .2147483647,. and type float64 in 8",
    ),
    "a negative shape": (lambda: state(b"J\xff\xff\xff\xff\x85", b"f8", LONG), "of shape"),
    "a shape of texts": (lambda: state(b"U\x01a\x85", b"f8", LONG), "of shape"),
    "a shape of arrays": (
        lambda: state(b"K\x01" + pickle.dumps(np.arange(6).reshape(2, 3), 2)[2:-1] + b"\x86", b"f8", LONG),
        r"of shape \(1, _Array\(value=array\(\[\[0, 1, 2\], \[",
    ),
    "an odd type": (lambda: state(b"K\x01\x85", b"f3", LONG), "of type 'f3'"),
    "empty texts": (lambda: state(b"J\xff\xff\xff\x7f\x85", b"U0", b"U\x00"), "of type 'U0'"),
    "no Unicode": (lambda: state(b"K\x01\x85", b"U1", b"U\x04\xff\xff\xff\x7f"), "not Unicode"),
    "an array that is not built": (
        lambda: b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
        "not complete",
    ),
    "a bare name": (lambda: b"\x80\x02cnumpy\nndarray\n.", "holds a ndarray that is not complete"),
    "a state for a list": (lambda: b"\x80\x02]K\x01\x85b.", "gives a state to what has none"),
    "other encodings": (lambda: b"\x80\x02c_codecs\nencode\n(U\x01aU\x05rot13tR.", "encodes text as|encodes what"),
    "another protocol": (lambda: b"\x80\x09].", "protocol 9; 0 to 5 are read"),
    "no pickle": (lambda: b"hello world", "is no pickle|not a whole pickle|end|call"),
    "a zip": (lambda: b"PK\x03\x04" + bytes(40), "is a zip"),
    "nothing": (lambda: b"", "ends after 0 bytes"),
    "no end": (lambda: b"\x80\x04]", "before the pickle does"),
    "a promised terabyte": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc", "in the middle of a value"),
    "a promised text": (lambda: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc", "in the middle of a value"),
    "a promised number": (lambda: b"\x80\x02\x8b" + struct.pack("<i", 1 << 30), "whole number of 1073741824 bytes"),
    "a long number": (lambda: b"I" + b"9" * 10000 + b"\n.", "not a whole pickle"),
    "a promised frame": (lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"].", "in the middle"),
    "a far memo": (lambda: b"\x80\x02]r\xff\xff\xff\x7fj\xfe\xff\xff\x7f.", "not a whole pickle"),
    "an empty stack": (lambda: b"\x80\x02\x86.", "stack is empty"),
    "no mark": (lambda: b"\x80\x02K\x01t.", "a mark is missing"),
    "a list in itself": (lambda: b"\x80\x02]q\x00h\x00a.", "nested more than"),
    "a dict in itself": (lambda: b"\x80\x02}q\x00U\x01ah\x00s.", "nested more than"),
    "deep": (lambda: nested(100_000), "nested more than"),
    "deep tuples as a name": (lambda: b"\x80\x04)" + b"\x85" * 200_000 + b"\x8c\x01a\x93.", "names what is no text"),
    "doubled": (lambda: doubled(200), "nested more than|more than"),
    "a list as a key": (lambda: b"\x80\x02}]K\x01s.", "names a value by a list"),
    "a large text": (lambda: pickle.dumps("a" * 100_000), "a text of 100000 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_in_one_sentence_and_runs_nothing(tmp_path, name):
    content, message = HOSTILE[name]
    path = put(tmp_path, content())
    Path(CANARY).unlink(missing_ok=True)
    began = time.monotonic()
    with pytest.raises(ValueError) as error:
        read_pickle(path)
    said = str(error.value)
    assert re.search(message, said), said
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert len(said) < 400
    assert time.monotonic() - began < 5
    assert not Path(CANARY).exists()


def test_the_many_are_counted_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("imder.data.pickles.MAX_ITEMS", 1000)
    with pytest.raises(ValueError, match="more than 1000 values"):
        read_pickle(put(tmp_path, b"\x80\x02" + b"N" * 2000 + b"."))
    wide = b"\x80\x02]q\x00(" + b"N" * 100 + b"e" + b"](" + b"h\x00" * 100 + b"e."
    with pytest.raises(ValueError, match="more than 1000 values"):
        read_pickle(put(tmp_path, wide))


def test_a_file_that_is_cut_anywhere_is_one_sentence(tmp_path):
    whole = pickle.dumps({"train": {"text": np.ones((4, 5, 3)), "id": np.array(list("abcd"), dtype=object)}}, 4)
    for size in range(len(whole)):
        with pytest.raises(ValueError) as error:
            read_pickle(put(tmp_path, whole[:size]))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_altered_pickles_raise_nothing_but_value_errors(tmp_path, protocol):
    whole = pickle.dumps({"train": {"text": np.ones((4, 5, 3)), "id": np.array(list("abcd")), "n": [1, 2.5]}}, protocol)
    draw = random.Random(protocol)
    for _ in range(800):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 5])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        assert "\n" not in outcome(put(tmp_path, bytes(content)))


def outcome(path: Path) -> str:
    try:
        read_pickle(path)
    except ValueError as error:
        return str(error)
    return ""


def test_absent_and_unreadable_files_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_pickle(tmp_path / "absent.pkl")
    with pytest.raises(ValueError, match="no such file"):
        read_pickle(tmp_path)
