"""The voice made audible: known pitch, known spectrum, silence, noise, and what the corpus' own voices keep."""

from __future__ import annotations

import argparse
import io
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imder import voice
from imder.bench import voice as bench
from imder.data import sound as measure

NAMES = measure.NAMES
COLUMNS = voice.VoiceColumns.find(NAMES)
FRAMES = 50


def features(levels: np.ndarray, hertz: np.ndarray | float) -> np.ndarray:
    """(FRAMES, 33) of mel levels and a pitch."""
    x = np.zeros((FRAMES, len(NAMES)))
    x[:, 0] = np.log(hertz)
    x[:, 1:21] = voice.mfcc_of(np.broadcast_to(levels, (FRAMES, measure.MELS)))
    return x


def vowel(*formants: float, tilt: float = 30.0) -> np.ndarray:
    """(MELS,) levels in dB: formants as bumps of 20 dB on a falling spectrum."""
    at = voice.to_mel(voice.centres())
    bumps = sum(20 * np.exp(-0.5 * ((at - voice.to_mel(f)) / 1.5) ** 2) for f in formants)
    return 10 - tilt * at / at.max() + bumps


def hiss() -> np.ndarray:
    """(MELS,) levels of a fricative: all above 3 kHz."""
    return np.where(voice.centres() > 3000, 20.0, -30.0)


def pitch_of(sound: np.ndarray) -> tuple[float, float]:
    """(Hz, height of the peak) of the autocorrelation between 60 and 500 Hz."""
    x = sound * np.hanning(len(sound))
    r = np.fft.irfft(np.abs(np.fft.rfft(x, 4 * len(x))) ** 2)
    low, high = int(voice.RATE / 500), int(voice.RATE / 60)
    lag = low + int(r[low:high].argmax())
    a, b, c = r[lag - 1 : lag + 2]
    return voice.RATE / (lag + 0.5 * (a - c) / (a - 2 * b + c)), float(b / r[0])


# -- the spectrum -----------------------------------------------------------------------------------------------------


def test_mel_filters_and_mfcc_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    wanted = librosa.filters.mel(
        sr=measure.RATE, n_fft=measure.WINDOW, n_mels=measure.MELS, fmin=measure.LOW, fmax=measure.HIGH
    )
    assert np.abs(voice.mel_filters() - wanted).max() < 1e-7
    levels = np.random.default_rng(0).normal(size=(measure.MELS, 7)) * 20
    assert np.abs(librosa.feature.mfcc(S=levels, n_mfcc=20) - voice.mfcc_of(levels.T).T).max() < 1e-9


def test_mel_scale_is_its_own_inverse_and_all_mfcc_give_the_levels_back() -> None:
    hertz = np.linspace(0, 11025, 400)
    assert np.allclose(voice.to_hertz(voice.to_mel(hertz)), hertz)
    levels = np.random.default_rng(1).normal(size=(3, measure.MELS))
    assert np.allclose(voice.mel_levels(voice.mfcc_of(levels, measure.MELS)), levels)


@pytest.mark.parametrize("density", [1e-6, 3.0])
def test_envelope_of_a_flat_spectrum_is_flat_and_exact(density: float) -> None:
    bins = np.full(measure.WINDOW // 2 + 1, density)
    found = voice.envelope(voice.levels_of(bins), np.linspace(0, 8000, 50))
    assert np.allclose(found, density)


def test_envelope_of_a_smooth_spectrum_is_near_it() -> None:
    hertz = np.fft.rfftfreq(measure.WINDOW, 1 / measure.RATE)
    density = 10 ** ((10 * np.cos(voice.to_mel(hertz) / 5) - 20) / 10)
    inside = (hertz > 150) & (hertz < 7500)
    found = voice.envelope(voice.mel_levels(voice.mfcc_of(voice.levels_of(density))), hertz[inside])
    assert np.abs(10 * np.log10(found / density[inside])).max() < 1.0


# -- the sound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hertz", [80.0, 130.0, 220.0, 391.0])
def test_a_vowel_has_its_pitch(hertz: float) -> None:
    sound = voice.resynthesise(features(vowel(700, 1200), hertz), COLUMNS, 2.0)
    found, height = pitch_of(sound[8000:16000])
    assert abs(1200 * np.log2(found / hertz)) < 5
    assert height > 0.8


def test_a_vowel_has_its_formants_and_its_level() -> None:
    levels = voice.mel_levels(voice.mfcc_of(vowel(500, 1700)))
    sound = voice.resynthesise(features(levels, 110.0), COLUMNS, 3.0)
    frames = np.lib.stride_tricks.sliding_window_view(sound[4000:44000], 1024)[::256] * np.hanning(1024)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2).mean(axis=0) / (np.hanning(1024) ** 2).sum()
    hertz = np.fft.rfftfreq(1024, 1 / voice.RATE)
    wanted = voice.envelope(levels, hertz) * voice.RATE / measure.RATE
    for low, high in ((350, 700), (900, 1300), (1500, 2000), (2500, 3500), (5000, 7000)):
        band = (hertz > low) & (hertz < high)
        assert abs(10 * np.log10(power[band].mean() / wanted[band].mean())) < 1.5, (low, high)


def test_a_gliding_pitch_is_followed() -> None:
    hertz = np.geomspace(100, 200, FRAMES)
    sound = voice.resynthesise(features(vowel(600, 1100), hertz), COLUMNS, 4.0)
    for part in (0.25, 0.5, 0.75):
        at = int(part * len(sound))
        wanted = 100 * 2 ** ((part * FRAMES - 0.5) / (FRAMES - 1))
        assert abs(1200 * np.log2(pitch_of(sound[at - 600 : at + 600])[0] / wanted)) < 20


def test_a_hiss_has_no_pitch_and_stays_high() -> None:
    levels = np.tile(hiss(), (FRAMES, 1))
    levels[:10] = vowel(700, 1200) + 25  # a loud vowel before it
    assert (voice.voiced_share(levels)[12:] < 0.05).all()
    assert (voice.voiced_share(levels)[:8] > 0.9).all()
    sound = voice.resynthesise(features(levels, 120.0), COLUMNS, 2.0)[10000:]
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / voice.RATE)
    assert power[hertz > 2500].sum() > 0.95 * power.sum()
    assert pitch_of(sound[8000:])[1] < 0.3


def test_silence_stays_silent() -> None:
    quiet = voice.resynthesise(features(np.full(measure.MELS, -80.0), 120.0), COLUMNS, 1.0)
    assert np.abs(quiet).max() < 1e-3
    lost = voice.resynthesise(np.full((FRAMES, 33), np.nan), COLUMNS, 1.0)
    assert np.abs(lost).max() < 1e-3


def test_the_same_seed_gives_the_same_sound_and_another_other_noise() -> None:
    x = features(vowel(500, 1500), 150.0)
    one = voice.resynthesise(x, COLUMNS, 1.3, seed=3)
    assert one.dtype == np.float32
    assert len(one) == round(1.3 * voice.RATE)
    assert np.array_equal(one, voice.resynthesise(x, COLUMNS, 1.3, seed=3))
    assert not np.array_equal(one, voice.resynthesise(x, COLUMNS, 1.3, seed=4))


def test_no_click_at_the_borders_of_frames_or_at_the_ends() -> None:
    x = features(np.where(voice.centres() < 900, 20.0, -60.0), 100.0)  # low and smooth, so that a click would stand out
    x[::2, 1] += 20
    sound = voice.resynthesise(x, COLUMNS, 2.0).astype(np.float64)
    spikes = np.abs(np.diff(sound, 2))
    borders = (np.arange(1, FRAMES) / FRAMES * len(sound)).astype(int)
    near = np.concatenate([spikes[b - 3 : b + 3] for b in borders])
    assert near.max() <= spikes.max()
    assert np.percentile(near, 99) < 1.6 * np.percentile(spikes, 99)
    assert abs(sound[0]) < 1e-6
    assert abs(sound[-1]) < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    x=arrays(np.float32, (6, 33), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    seconds=st.floats(0.001, 0.4),
)
def test_whatever_comes_the_sound_is_finite(x: np.ndarray, seconds: float) -> None:
    sound = voice.resynthesise(x, COLUMNS, seconds)
    assert np.isfinite(sound).all()
    assert np.abs(voice.levelled(sound)).max(initial=0) <= voice.LOUDEST + 1e-6


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), voice.MAX_SECONDS + 1])
def test_lengths_that_are_none_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        voice.resynthesise(features(vowel(500), 100.0), COLUMNS, seconds)


def test_loud_is_turned_down_and_quiet_stays() -> None:
    assert np.abs(voice.levelled(np.array([3.0, -6.0], np.float32))).max() == pytest.approx(voice.LOUDEST)
    assert voice.levelled(np.array([0.1, -0.2], np.float32)).tolist() == pytest.approx([0.1, -0.2])
    assert len(voice.levelled(np.zeros(0, np.float32))) == 0


def test_wav_is_what_players_take() -> None:
    with wave.open(io.BytesIO(voice.wav(np.array([0.0, 0.5, -2.0], np.float32)))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (voice.RATE, 1, 2)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [0, 16384, -32767]


def test_columns_are_found_by_name_or_not_at_all() -> None:
    assert COLUMNS.log_f0 == 0
    assert COLUMNS.mfcc == tuple(range(1, 21))
    assert voice.VoiceColumns.find(["mfcc_1", "mfcc_0", "log_f0"]) == voice.VoiceColumns(2, (1, 0))
    assert voice.VoiceColumns.find([f"audio_{i}" for i in range(33)]) is None
    assert voice.VoiceColumns.find(["log_f0"]) is None


# -- the corpus -------------------------------------------------------------------------------------------------------


def test_true_voices_keep_what_the_original_sound_keeps() -> None:
    """Measured again from the sound, as the corpus measured it: `python -m imder bench voice`."""
    pytest.importorskip("librosa")
    pytest.importorskip("soundfile")
    rows = bench.run(argparse.Namespace(quick=True, clips=40, seed=0), lambda text: None)
    value = {(row["method"], row["name"]): row["value"] for row in rows}
    assert {row["n"] for row in rows} == {bench.QUICK}
    assert value["resynthesised", "pitch_cents"] < 25
    assert value["resynthesised", "level_correlation"] > 0.97
    assert value["resynthesised", "spectral_distance"] < value["original", "spectral_distance"] + 1
    assert "| resynthesised |" in bench.table(rows)
    with pytest.raises(ValueError, match="clips: 0"):
        bench.run(argparse.Namespace(quick=False, clips=0, seed=0), lambda text: None)
