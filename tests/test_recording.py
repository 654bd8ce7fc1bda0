"""A recording of one's own: sounds of any kind and OpenFace tables of any version as features on the clip's frames."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from imder.data import recording
from imder.data.dataset import FeatureSet
from imder.data.openface import COLUMNS, NAMES, UNITS, read_face
from imder.data.recording import open_recording, speech_level, speech_span
from imder.data.sound import NAMES as VOICE
from imder.data.sound import RATE, measured, read_sound, sound_features

soundfile = pytest.importorskip("soundfile", reason="soundfile is in requirements-dev.txt")
pytest.importorskip("librosa", reason="librosa is in requirements-dev.txt")


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """A buzz with falling harmonics."""
    t = np.arange(int(seconds * rate)) / rate
    parts = [np.sin(2 * np.pi * hertz * h * t) / h for h in range(1, 9) if hertz * h < rate / 2.2]
    return (0.2 * np.sum(parts, axis=0)).astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int = RATE, **options: object) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


# --- sound ------------------------------------------------------------------------------------------------------------


def test_pitch_of_a_buzz_is_its_frequency() -> None:
    for hertz in (90, 130, 220):
        x = sound_features(tone(hertz))
        assert x.shape == (50, len(VOICE))
        assert np.exp(np.median(x[:, 0])) == pytest.approx(hertz, rel=0.02)


def test_frames_follow_the_time_of_the_sound() -> None:
    x = sound_features(np.concatenate([tone(100), tone(200)]))
    assert np.exp(x[5:20, 0]) == pytest.approx(100, rel=0.03)
    assert np.exp(x[30:45, 0]) == pytest.approx(200, rel=0.03)
    hiss = np.random.default_rng(0).normal(size=RATE).astype(np.float32) * 0.2
    quiet = sound_features(np.concatenate([0.05 * hiss, hiss]))
    # the first MFCC is the mean of the mel bands in dB times the square root of their number
    assert (quiet[35, 1] - quiet[15, 1]) / np.sqrt(40) == pytest.approx(20 * np.log10(20), abs=1)


def test_chroma_is_highest_at_the_note() -> None:
    a = sound_features(tone(220, 1.0))[:, 21:].mean(axis=0)  # A is the tenth from C
    assert a.argmax() == 9


@pytest.mark.parametrize(
    ("rate", "channels", "told"),
    [(8_000, 1, "nothing is above 4000 Hz"), (96_000, 2, "mean of 2 channels"), (44_100, 1, "resampled from 44100")],
)
def test_any_rate_and_channels_give_the_same_pitch(tmp_path: Path, rate: int, channels: int, told: str) -> None:
    samples = np.repeat(tone(140, rate=rate)[:, None], channels, axis=1)
    mono, said = read_sound(wav(tmp_path / "a.wav", samples, rate))
    assert any(told in sentence for sentence in said)
    assert np.exp(np.median(sound_features(mono)[:, 0])) == pytest.approx(140, rel=0.02)


def test_what_is_no_utterance_is_refused_in_one_sentence(tmp_path: Path) -> None:
    cases = {
        "short": (wav(tmp_path / "short.wav", tone(100, 0.05)), "0.05 s; one utterance of 0.3 to 60 s"),
        "long": (wav(tmp_path / "long.wav", np.zeros(8000 * 1200), 8000), "1200.00 s"),
        "silent": (wav(tmp_path / "silent.wav", np.zeros(RATE)), "it is silent"),
        "nan": (wav(tmp_path / "nan.wav", np.full(RATE, np.nan), subtype="FLOAT"), "not finite"),
        "absent": (tmp_path / "absent.wav", "it is not there"),
    }
    text = tmp_path / "text.wav"
    text.write_text("RIFF? no")
    cases["text"] = (text, "it is no wav, flac, ogg or mp3")
    for path, told in cases.values():
        with pytest.raises(ValueError, match=told) as error:
            read_sound(path)
        assert str(tmp_path) not in str(error.value)


def test_a_float_sound_of_any_scale_is_brought_into_range(tmp_path: Path) -> None:
    mono, said = read_sound(wav(tmp_path / "loud.wav", tone(140) * 32_767, subtype="FLOAT"))
    assert np.abs(mono).max() == pytest.approx(1)
    assert "louder than a sound can be" in said[0]


def test_a_steady_pitch_is_found_in_a_voice_and_in_half_of_noise() -> None:
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32) * 0.1
    assert measured(tone(140))[1] > 0.95
    assert measured(noise)[1] == pytest.approx(0.5, abs=0.1)


# --- a sound made like the corpus' ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> list[np.ndarray]:
    """Every sixteenth test sound."""
    return [read_sound(clip.sound)[0] for clip in list(FeatureSet.open("bundled").split("test"))[::16]]


def test_the_silences_and_levels_named_are_those_of_the_bundled_sounds(bundled: list[np.ndarray]) -> None:
    spans = np.array([np.array(speech_span(x)) * len(x) / RATE for x in bundled])
    length = np.array([len(x) / RATE for x in bundled])
    lead, trail = spans[:, 0], length - spans[:, 1]
    assert np.median(lead) == pytest.approx(recording.LEAD, abs=0.02)
    assert np.median(trail) == pytest.approx(recording.TRAIL, abs=0.03)
    assert np.quantile(lead, 0.95) == pytest.approx(recording.LONGEST_LEAD, abs=0.05)
    assert np.quantile(trail, 0.95) == pytest.approx(recording.LONGEST_TRAIL, abs=0.1)
    level = [speech_level(x) for x in bundled]
    assert np.median(level) == pytest.approx(recording.LEVEL, abs=1.5)
    assert np.quantile(level, 0.025) == pytest.approx(recording.QUIETEST, abs=2)


def test_what_is_cut_and_turned_up_is_nearer_to_the_bundled_sounds(bundled: list[np.ndarray], tmp_path: Path) -> None:
    wanted = [sound_features(x) for x in bundled[:8]]
    std = np.concatenate(wanted).std(axis=0)
    second, far, near = np.zeros(RATE, np.float32), [], []
    for x, y in zip(bundled, wanted, strict=False):
        unlike = 10 ** (-30 / 20) * np.concatenate([second, x, second])
        found = open_recording(wav(tmp_path / "x.wav", unlike, subtype="FLOAT"))
        assert found.seconds == pytest.approx(len(x) / RATE, abs=0.7)
        assert found.begin == pytest.approx(1, abs=0.15)
        assert "cut, to what the training sounds have" in found.said[0]
        assert "turned up by" in found.said[1]
        far.append(np.abs((sound_features(unlike) - y) / std).mean())
        near.append(np.abs((sound_features(found.samples) - y) / std).mean())
    assert np.mean(near) < 0.4 * np.mean(far)


def test_a_sound_like_the_bundled_ones_is_left_alone(bundled: list[np.ndarray], tmp_path: Path) -> None:
    left = 0
    for x in bundled:
        found = open_recording(wav(tmp_path / "x.wav", x, subtype="FLOAT"))
        left += np.array_equal(found.samples, x)
    assert left > 0.8 * len(bundled)


# --- the face ---------------------------------------------------------------------------------------------------------


def table(
    path: Path, times: np.ndarray, *, blanks: bool = True, columns: list[str] | None = None, **more: np.ndarray
) -> Path:
    """A CSV as OpenFace writes it: AU i is i + time, angles a tenth of the time."""
    x = {"frame": np.arange(len(times)) + 1, "timestamp": times, "confidence": np.full(len(times), 0.98)}
    x["success"] = np.ones(len(times))
    for i, column in enumerate(COLUMNS.values()):
        x[column] = np.minimum(0.2 * i + times, 5) if i < len(UNITS) else 0.1 * times + i
    x |= more
    names = columns or list(x)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([(" " if blanks and i else "") + name for i, name in enumerate(names)])
        writer.writerows(zip(*(x[name] for name in names), strict=True))
    return path


def test_a_straight_line_gives_the_means_of_its_stretches(tmp_path: Path) -> None:
    times = np.arange(0, 2.001, 1 / 30)
    face = read_face(table(tmp_path / "f.csv", times))
    x = face.features(2.0)
    assert x.shape == (50, len(NAMES))
    middle = (np.arange(50) + 0.5) * 2 / 50
    assert x[:, 0] == pytest.approx(middle, abs=1e-5)
    assert x[:, -1] == pytest.approx(0.1 * middle + 21, abs=1e-5)
    assert face.said == ()


def test_times_need_not_be_even_and_nothing_is_seen_before_or_after(tmp_path: Path) -> None:
    times = np.array([0.5, 0.51, 0.9, 1.5])
    x = read_face(table(tmp_path / "f.csv", times)).features(2.0)[:, 0]
    middle = (np.arange(50) + 0.5) * 2 / 50
    assert x[middle < 0.46] == pytest.approx(0.5)
    assert x[middle > 1.54] == pytest.approx(1.5)
    inner = (middle > 0.54) & (middle < 1.46)
    assert x[inner] == pytest.approx(middle[inner], abs=1e-5)


def test_a_stretch_from_within_is_the_same_face_later(tmp_path: Path) -> None:
    face = read_face(table(tmp_path / "f.csv", np.arange(0, 2.001, 1 / 30)))
    middle = 0.7 + (np.arange(50) + 0.5) / 50
    assert face.features(1.0, begin=0.7)[:, 0] == pytest.approx(middle, abs=1e-5)


def test_a_head_of_repeated_columns_is_read_once(tmp_path: Path) -> None:
    path = table(tmp_path / "f.csv", np.arange(0, 1, 0.01))
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head + ",success" * 50_000, *rows]))
    began = time.process_time()
    assert len(read_face(path).times) == 100
    assert time.process_time() - began < 2


def test_versions_blanks_and_orders_are_the_same_face(tmp_path: Path) -> None:
    times = np.arange(0, 1, 0.04)
    wanted = read_face(table(tmp_path / "a.csv", times)).values
    shuffled = ["timestamp", *reversed(COLUMNS.values()), "success"]
    assert np.array_equal(read_face(table(tmp_path / "b.csv", times, columns=shuffled, blanks=False)).values, wanted)
    more = {"face_id": np.zeros(len(times)), "AU28_c": np.ones(len(times)), "x_0": np.ones(len(times))}
    assert np.array_equal(read_face(table(tmp_path / "c.csv", times, **more)).values, wanted)
    bom = tmp_path / "d.csv"
    bom.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
    assert np.array_equal(read_face(bom).values, wanted)


def test_the_face_seen_best_is_taken(tmp_path: Path) -> None:
    times = np.repeat(np.arange(0, 1, 0.05), 2)
    faces = np.tile([0, 1], len(times) // 2)
    found = read_face(
        table(
            tmp_path / "f.csv",
            times,
            face_id=faces,
            confidence=np.where(faces == 1, 0.95, 0.6),
            AU12_r=np.where(faces == 1, 3.0, 1.0),
        )
    )
    assert "face 1, seen best" in found.said[0]
    assert found.values[:, NAMES.index("AU12")] == pytest.approx(3.0)


def test_lost_frames_are_bridged_and_told(tmp_path: Path) -> None:
    times = np.arange(0, 1.001, 0.1)
    success = np.ones(len(times))
    success[3:6] = 0
    wild = np.where(success > 0, times, 4.9)
    found = read_face(table(tmp_path / "f.csv", times, success=success, AU01_r=wild))
    assert "in 3 of 11 frames no face was seen" in found.said[0]
    assert found.features(1.0)[:, 0] == pytest.approx((np.arange(50) + 0.5) / 50, abs=1e-5)


def test_values_that_cannot_be_are_mended_and_told(tmp_path: Path) -> None:
    times = np.array([0.0, 0.2, 0.1, 0.2, 0.4, 0.5])
    au = np.array([7.0, -1, 1, 1, np.nan, 1])
    found = read_face(table(tmp_path / "f.csv", times, AU04_r=au))
    assert [s.split(" ")[0] for s in found.said] == ["1", "1", "the", "action"]
    assert (np.diff(found.times) > 0).all()
    assert found.values[:, :17].min() >= 0
    assert found.values[:, :17].max() <= 5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the column 'AU01_r' is absent"),
        (b"time,valence,arousal\n0,1,2\n", r"the column 'AU01_r' is absent \(23 of 23 are\)"),
        (bytes(range(256)) * 20, "it is no CSV"),
    ],
)
def test_tables_of_other_tools_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_face(path)


def test_a_video_without_a_face_is_refused(tmp_path: Path) -> None:
    times = np.arange(0, 1, 0.1)
    with pytest.raises(ValueError, match="a face was seen in 0 frames"):
        read_face(table(tmp_path / "f.csv", times, success=np.zeros(len(times))))
    with pytest.raises(ValueError, match="it has no rows"):
        read_face(table(tmp_path / "g.csv", np.array([])))
    with pytest.raises(ValueError, match="No such file"):
        read_face(tmp_path / "absent.csv")
