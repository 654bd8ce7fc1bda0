"""The bundled corpus: what it promises, and that it is built again from one seed, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from imder.data.corpus import build, face, grammar, language, report, speech
from imder.data.dataset import BUNDLED, FeatureSet, sound_name
from imder.data.sound import NAMES as VOICE
from imder.data.sound import RATE

MISSING = build.missing_tool()
needs_tools = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="module")
def corpus() -> FeatureSet:
    return FeatureSet.open("bundled")


# -- building ---------------------------------------------------------------------------------------------------------


@needs_tools
def test_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        built = build.build(tmp_path / name, seed=3, clips=(6, 3, 3), quiet=True)
    assert [len(built.split(split)) for split in built.splits] == [6, 3, 3]
    assert built.redraws(built.redraw_ids[0])["audio"].shape == (build.REDRAWS, 50, 33)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 9 + 3  # and a sound a test clip
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"clips": (0, 1, 1)}, "clips"), ({"clips": (1, 1)}, "clips"), ({"seed": -1}, "seed: -1")],
)
def test_build_refuses(tmp_path, arguments, said):
    with pytest.raises(ValueError, match=said):
        build.build(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@needs_tools
def test_speech_says_every_word_in_order():
    words = ["There", "is", "nothing", "dull", "about", "the", "first", "half", "of", "the", "story."]
    prosody = [speech.Prosody(pitch=10.0 * i, speed=90.0 + i) for i in range(len(words))]
    spoken = speech.speak(words, prosody, voice="en-us+f2")
    edges = np.array(spoken.words).reshape(-1)
    assert len(spoken.words) == len(words)
    assert (np.diff(edges) >= 0).all()
    assert edges[-1] <= spoken.seconds
    assert spoken.seconds > 2.0


@needs_tools
def test_a_sound_has_a_fixed_serial_and_still_decodes():
    soundfile = pytest.importorskip("soundfile")
    import io

    samples = 0.3 * np.sin(np.arange(RATE) / 20).astype(np.float32)
    data = build.ogg(samples)
    assert data == build.ogg(samples)
    assert build.fixed_serial(data) == data
    decoded, rate = soundfile.read(io.BytesIO(data))
    assert rate == build.SOUND_RATE
    assert abs(len(decoded) / rate - 1) < 0.01


def test_fixed_serial_refuses_what_is_no_ogg():
    with pytest.raises(ValueError, match="byte 0"):
        build.fixed_serial(b"RIFF....")


# -- sentences --------------------------------------------------------------------------------------------------------


def test_every_frame_makes_a_sentence():
    rng = np.random.default_rng(0)
    assert len(grammar.FRAMES) >= 50
    for frame in range(len(grammar.FRAMES)):
        for topic in grammar.TOPICS:
            sentence = grammar.compose(rng, topic, frame)
            assert not set(sentence.text) & set("{}:")
            assert "  " not in sentence.text
            assert sentence.text[0].isupper()
            assert sentence.text[-1] in ".!?"
            assert -3 <= sentence.sentiment <= 3


def test_negation_and_contrast_turn_the_sentiment():
    rng = np.random.default_rng(1)
    at = {text: i for i, text in enumerate(grammar.FRAMES)}
    not_good = at["the {a} was not very {+:-.6}."]
    but_good = at["the {a} was {x} {-:.3}, but the {b} was {+:1}."]
    assert all(grammar.compose(rng, "film", not_good).sentiment < 0 for _ in range(20))
    assert np.mean([grammar.compose(rng, "film", but_good).sentiment for _ in range(50)]) > 0.5


def test_owners_hold_the_nearest_word_in_pauses():
    owner = language.owners([(0.1, 0.3), (0.7, 0.9)], 10)
    assert owner.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


# -- the bundled corpus -----------------------------------------------------------------------------------------------


def test_bundled_shape(corpus):
    assert corpus.synthetic
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == [1400, 200, 400]
    assert corpus.feature_dims == {"text": 64, "audio": 33, "vision": 22}
    assert corpus.feature_names["audio"] == VOICE
    assert corpus.feature_names["vision"] == face.NAMES
    videos = {split: set(corpus.videos(split)) for split in corpus.splits}
    assert not videos["train"] & videos["test"]
    assert not videos["train"] & videos["valid"]
    assert not videos["valid"] & videos["test"]
    assert 90 <= sum(len(v) for v in videos.values()) <= 120
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 26e6
    assert sum(path.stat().st_size for path in (BUNDLED / "sound").iterdir()) <= 6e6


def test_bundled_clips(corpus):
    texts, counts = set(), {}
    for split in corpus.splits:
        for clip in corpus.split(split):
            assert set(clip.lengths.values()) == {50}
            assert -3 <= clip.label <= 3
            assert 1 <= clip.seconds <= 6
            assert clip.text.split()[0].strip(".,!?") == clip.words[0].text
            edges = np.array([(word.start, word.end) for word in clip.words]).reshape(-1)
            assert (np.diff(edges) >= 0).all(), clip.id
            units = clip.features["vision"][:, :17]
            assert units.min() >= 0
            assert units.max() < 5.001  # eight bits
            assert np.abs(clip.features["vision"][:, 17:]).max() < 0.8
            assert np.log(60) <= clip.features["audio"][:, 0].min()
            assert clip.features["audio"][:, 0].max() <= np.log(420)
            assert (clip.sound is not None) == (split == "test")
            texts.add(clip.text)
            counts[clip.video] = counts.get(clip.video, 0) + 1
    assert len(texts) == len(corpus)
    assert min(counts.values()) >= 12
    assert max(counts.values()) <= 25
    assert sum("example" in clip.extra for clip in corpus.split("test")) == 4


def test_bundled_labels_are_balanced(corpus):
    for split in corpus.splits:
        labels = np.array([clip.label for clip in corpus.split(split)])
        assert 0.4 < (labels > 0).mean() < 0.6
        assert (np.abs(labels) < 0.75).mean() > 0.12


def test_bundled_words_are_found_by_the_nearest_vector(corpus):
    words, vectors = corpus.vocabulary
    assert 200 <= len(words) <= 600
    assert vectors.shape == (len(words), 64)
    assert report.words_found(corpus) > 0.9  # the rest are little words: a for an, I for my


def test_bundled_difficulty(corpus):
    train, test = list(corpus.split("train")), list(corpus.split("test"))
    read = report.sentiment_correlation(train, test)
    assert read["L"] > max(read["A"], read["V"]) > min(read["A"], read["V"]) > 0.35
    assert read["AV"] > max(read["A"], read["V"]) + 0.03
    assert read["LAV"] > max(read["LA"], read["LV"], read["AV"])
    shares = {key: whole for key, (whole, _) in report.explained(train, test).items()}
    least = {"LA>V": 0.4, "LV>A": 0.35, "AV>L": 0.12, "L>V": 0.2, "L>A": 0.08, "A>V": 0.22, "V>A": 0.35, "V>L": 0.1}
    for key, bound in least.items():
        assert shares[tuple(key.split(">"))] > bound, key
    assert max(report.rounding_error(corpus).values()) < 1e-3


def test_bundled_redraws_are_exchangeable_with_their_clips(corpus):
    assert len(corpus.redraw_ids) == 40
    for row in report.exchangeability(corpus).values():
        assert abs(row["distance"] - 1) < max(0.08, 3 * row["error"])
        assert abs(row["inside90"] - row["exact"]) < 0.05


def test_bundled_card_and_sounds_are_there(corpus):
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    assert "synthetic" in card
    assert "| LA |" in card
    for clip in corpus.split("test"):
        assert (BUNDLED / sound_name(clip.id)).read_bytes()[:4] == b"OggS"


@needs_tools
def test_a_typed_sentence_is_encoded_as_the_corpus_is(corpus):
    clip = corpus.split("test")[0]
    words, vectors = language.encode_sentence(clip.text, language.Projection.open(BUNDLED / "encoder.safetensors"))
    owner = language.owners([(word.start, word.end) for word in clip.words], 50)
    assert len(words) == len(clip.words)
    assert np.abs(vectors[owner] - clip.features["text"]).max() < 0.05
    with pytest.raises(ValueError, match="0 words"):
        language.encode_sentence("  ", language.Projection.open(BUNDLED / "encoder.safetensors"))
