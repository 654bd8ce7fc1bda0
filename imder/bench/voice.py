"""What a true voice loses when it is made audible: its features, resynthesised, are measured again.

Test clips of the bundled corpus, spread evenly. Each sound is measured as the corpus measured its own (librosa; see
`imder.data.sound`), on the clip's frames, and compared with the clip's stored features:

  pitch_cents              median over clips of the median distance in cents, over the loud, voiced frames
  pitch_correlation        of log pitch over those frames of all clips
  spectral_distance        mean over loud frames of the root mean square over the mel bands, dB
  level_correlation        mean over clips of the correlation of the mean level, all frames

The floor is the original sound, which lost something too when it was compressed and stretched to the sentence's timing.
The spectra's mean difference is taken off first, as the original was turned down where it was too loud. Loud is what is
within 25 dB of the clip's loudest band; the stored features hold 20 of 40 cosines, so a sound is smoothed likewise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from imder.bench.cli import Row
from imder.data import sound
from imder.data.clip import Clip
from imder.data.dataset import FeatureSet
from imder.voice import RATE, VoiceColumns, mel_levels, resynthesise, voiced_share

CLIPS, QUICK = 40, 6
LOUD, VOICED = 25.0, 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench voice`."""
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"how many test clips (default {CLIPS})")


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> list[Row]:
    """Resynthesises, measures and compares."""
    for package in ("librosa", "soundfile", "soxr"):
        if find_spec(package) is None:
            raise ValueError(f"measuring a sound needs the package {package}, which is not installed")
    import soundfile

    data = FeatureSet.open("bundled")
    columns = VoiceColumns.find(data.feature_names["audio"])
    split = data.split("test")
    count = min(QUICK if args.quick else args.clips, len(split))
    if count < 1:
        raise ValueError(f"clips: {args.clips} is not allowed; 1 to {len(split)} are")
    found: dict[str, list[tuple[np.ndarray, ...]]] = {"resynthesised": [], "original": []}
    tell(f"{count} true voices, resynthesised and measured again")
    for i in np.linspace(0, len(split) - 1, count).astype(int):
        clip = split[i]
        made = resynthesise(clip.features["audio"], columns, clip.seconds, seed=args.seed)
        found["resynthesised"].append(compared(clip, columns, made))
        if clip.sound is not None:
            found["original"].append(compared(clip, columns, soundfile.read(clip.sound, dtype="float32")[0]))
    return [row for method, clips in found.items() if clips for row in _rows(method, clips, args.seed)]


def measured(made: np.ndarray, frames: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Log pitch (frames,) and levels (frames, MELS) of `count` MFCC, of a sound at `RATE`."""
    import librosa

    table = sound.sound_features(librosa.resample(made, orig_sr=RATE, target_sr=sound.RATE, res_type="soxr_hq"), frames)
    return table[:, 0], mel_levels(table[:, 1 : 1 + count].astype(np.float64))


def compared(clip: Clip, columns: VoiceColumns, made: np.ndarray) -> tuple[np.ndarray, ...]:
    """Log pitch of voiced frames, true and measured; distance of loud frames in dB; mean levels, true and measured."""
    x = clip.features["audio"].astype(np.float64)
    true_f0, true = x[:, columns.log_f0], mel_levels(x[:, list(columns.mfcc)])
    log_f0, levels = measured(made, len(x), len(columns.mfcc))
    loud = true.max(axis=1) > true.max() - LOUD
    sung = loud & (voiced_share(true) > VOICED)
    difference = (levels - true)[loud]
    distance = np.sqrt(((difference - difference.mean()) ** 2).mean(axis=1))
    return true_f0[sung], log_f0[sung], distance, true.mean(axis=1), levels.mean(axis=1)


def _rows(method: str, clips: list[tuple[np.ndarray, ...]], seed: int) -> list[Row]:
    cents = [float(np.median(np.abs(1200 / np.log(2) * (b - a)))) for a, b, *_ in clips if len(a)]
    pitch = np.corrcoef(*(np.concatenate([clip[i] for clip in clips]) for i in (0, 1)))[0, 1]
    values = {
        "pitch_cents": float(np.median(cents)),
        "pitch_correlation": float(pitch),
        "spectral_distance": float(np.mean(np.concatenate([clip[2] for clip in clips]))),
        "level_correlation": float(np.mean([np.corrcoef(clip[3], clip[4])[0, 1] for clip in clips])),
    }
    more = {"method": method, "n": len(clips), "seed": seed}
    return [{"bench": "voice", "name": name, "value": round(value, 6), **more} for name, value in values.items()]


def table(rows: list[Row]) -> str:
    """A line for each kind of sound."""
    titles = {
        "pitch_cents": "pitch, cents",
        "pitch_correlation": "pitch, correlation",
        "spectral_distance": "spectrum, dB",
        "level_correlation": "level, correlation",
    }
    lines = [f"| {rows[0]['n']} true voices | " + " | ".join(titles.values()) + " |", "|---|" + "---|" * len(titles)]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = {row["name"]: row["value"] for row in rows if row["method"] == method}
        lines.append(f"| {method} | " + " | ".join(f"{mine[name]:.3g}" for name in titles) + " |")
    return "\n".join(lines)
