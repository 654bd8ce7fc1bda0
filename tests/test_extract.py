"""From a sound, an OpenFace CSV and a sentence to a clip that the page opens and the model recovers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_recording import table, tone, wav

from imder.__main__ import main
from imder.data import sound
from imder.data.dataset import FeatureSet
from imder.data.extract import extract
from imder.data.likeness import likeness
from imder.data.openface import read_face
from imder.data.recording import open_recording, speech_span
from imder.data.sentence import missing_encoder
from imder.data.upload import open_upload
from imder.pipeline import RecoveryPipeline, RecoveryRequest

pytest.importorskip("soundfile", reason="soundfile is in requirements-extract.txt")
pytest.importorskip("librosa", reason="librosa is in requirements-extract.txt")
needs_encoder = pytest.mark.skipif(missing_encoder() is not None, reason="the language encoder is not installed")


@pytest.fixture(scope="module")
def corpus() -> FeatureSet:
    return FeatureSet.open("bundled")


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained(None, data="bundled")


@pytest.fixture
def face(tmp_path: Path) -> Path:
    return table(tmp_path / "face.csv", np.arange(0, 2.2, 1 / 30))


@pytest.mark.parametrize("i", [0, 100, 250])
@needs_encoder
def test_the_sound_and_words_of_a_bundled_clip_give_nearly_its_features(corpus: FeatureSet, i: int) -> None:
    clip = corpus.split("test")[i]
    found = extract(corpus, audio=clip.sound, text=clip.text).clip
    assert found.absent == ("vision",)
    assert found.seconds == pytest.approx(clip.seconds, abs=0.1)
    a, b = (one.features["audio"] for one in (found, clip))
    assert np.corrcoef(a[:, 1], b[:, 1])[0, 1] > 0.95  # the level
    spread = b[:, 1:21].std(axis=0)
    assert np.median(np.abs((a - a.mean(0) - b + b.mean(0))[:, 1:21]) / spread) < 0.5
    loud = b[:, 1] > np.median(b[:, 1])
    assert np.median(np.abs(a[loud, 0] - b[loud, 0])) < 0.03  # half a semitone
    same = np.isclose(found.features["text"], clip.features["text"], atol=0.05).all(axis=1)
    assert same.mean() > 0.6  # frames whose word is the clip's


def test_speech_is_where_it_is_loud() -> None:
    silence = np.zeros(sound.RATE, dtype=np.float32)
    first, last = speech_span(np.concatenate([silence, tone(120, 2.0), silence]))
    assert first == pytest.approx(0.25, abs=0.02)
    assert last == pytest.approx(0.75, abs=0.02)


def test_a_clip_of_each_kind_opens_and_what_is_missing_is_recovered(
    pipeline: RecoveryPipeline, tmp_path: Path, face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = wav(tmp_path / "voice.wav", tone(140, 2.0))
    given = {"voice": ["--audio", str(voice)], "face": ["--face", str(face)]}
    given["both"] = given["voice"] + given["face"]
    lacking = {"voice": {"text", "vision"}, "face": {"text", "audio"}, "both": {"text"}}
    for kind, flags in given.items():
        out = tmp_path / f"{kind}.npz"
        assert main(["data", "extract", *flags, "--out", str(out)]) == 0
        assert f"{kind}.npz: " in capsys.readouterr().out
        [clip] = open_upload(out, out.name, pipeline.expected).clips
        assert set(clip.absent) == lacking[kind]
        have = tuple(k for k in ("text", "audio", "vision") if k not in clip.absent)
        recovery = pipeline(RecoveryRequest(clip, have, steps=3, draws=2))
        assert set(recovery.latents) == lacking[kind]
        assert np.isfinite(recovery.draws).all()
        assert recovery.feature_error == {}
    assert sorted(path.name for path in tmp_path.glob("*.npz*")) == ["both.npz", "face.npz", "voice.npz"]


def test_how_far_a_voice_is_depends_on_the_voice(corpus: FeatureSet, tmp_path: Path) -> None:
    clips = list(corpus.split("test"))[::40]
    own = [likeness(corpus, "audio").farther(clip.features["audio"]) for clip in clips]
    assert 0.2 < np.mean(own) < 0.8
    found = extract(corpus, audio=wav(tmp_path / "buzz.wav", tone(140, 2.0)))
    assert found.farther == {"audio": 1.0}
    assert any("farther from the training clips than all" in line and "a guess" in line for line in found.said)
    heard = extract(corpus, audio=clips[0].sound)
    assert heard.farther["audio"] < 1


def test_an_opened_sound_gives_what_its_path_does_and_the_face_follows_what_was_cut(
    corpus: FeatureSet, tmp_path: Path
) -> None:
    silence = np.zeros(sound.RATE, dtype=np.float32)
    path = wav(tmp_path / "v.wav", np.concatenate([silence, tone(140, 1.5), silence]))
    face = table(tmp_path / "f.csv", np.arange(0, 3.5, 1 / 30))
    found = extract(corpus, audio=path, face=face)
    again = extract(corpus, audio=open_recording(path), face=read_face(face))
    assert found.said == again.said
    for k in ("audio", "vision"):
        assert np.array_equal(found.clip.features[k], again.clip.features[k])
    begin = open_recording(path).begin
    assert begin == pytest.approx(0.93, abs=0.03)
    assert found.clip.seconds == pytest.approx(1.5 + 0.07 + 0.31, abs=0.05)
    middle = begin + (np.arange(50) + 0.5) * found.clip.seconds / 50
    assert found.clip.features["vision"][:, 0] == pytest.approx(middle, abs=1e-3)  # AU01 is the time


def test_the_face_lies_on_the_sounds_time(corpus: FeatureSet, tmp_path: Path, face: Path) -> None:
    found = extract(corpus, audio=wav(tmp_path / "v.wav", tone(140, 1.9)), face=face)
    assert "the sound's time was taken" in " ".join(found.said)
    assert found.clip.features["vision"][:, 0] == pytest.approx((np.arange(50) + 0.5) * 1.9 / 50, abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "nothing is given"),
        (["--text", ""], "0 words are not allowed"),
        (["--audio", "{voice}", "--face", "{face}"], "the face lasts 2.20 s and the sound 9.00 s"),
        (["--face", "{face}", "--label", "7"], "label: 7 is not allowed; -3 to 3 is"),
        (["--face", "{face}", "--label", "nan"], "label: nan is not allowed"),
        (["--audio", "{absent}"], "absent.wav: it is not there"),
        (["--face", "{voice}"], "voice.wav: it is no CSV"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, face: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    paths = {"voice": wav(tmp_path / "voice.wav", tone(140, 9.0)), "face": face, "absent": tmp_path / "absent.wav"}
    out = tmp_path / "clip.npz"
    assert main(["data", "extract", *(flag.format(**paths) for flag in flags), "--out", str(out)]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*.npz*"))
