"""Synthetic runs for the stage's tests; run as a script it serves the stage alone, on GRADIO_SERVER_PORT."""

from __future__ import annotations

import base64
import io
import sys
import time
import wave
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from imder.data.clip import Clip, Word
from imder.pipeline import Recovery, RecoveryChunk, RecoveryRequest, RecoveryStart
from imder.ui import messages

CHANNELS, FRAMES, LENGTH = 32, 48, 50
NAMES = {
    "text": [f"pc_{i}" for i in range(64)],
    "audio": ["log_f0", *(f"mfcc_{i}" for i in range(20)), *(f"chroma_{i}" for i in range(12))],
    "vision": [spellings[0] for spellings in messages.FACE],
}
BASELINE = {"complete": 1.62, "zero": 0.31}
CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
SENTENCE = "the first half was slow but the ending was absolutely wonderful and I loved it"


def make_clip(seed: int = 0) -> Clip:
    """A smiling, slightly nodding speaker."""
    rng = np.random.default_rng(seed)
    time_ = np.linspace(0, 1, LENGTH)
    beat = np.abs(np.sin(time_ * 21)) * np.sin(np.pi * time_) ** 0.3
    column = {name: i for i, name in enumerate(NAMES["vision"])}
    vision = np.abs(rng.normal(0, 0.1, (LENGTH, len(column))))
    smile = np.clip((time_ - 0.35) * 6, 0, 1)
    for name, values in {
        "AU01": 1.5 * np.clip(np.sin(time_ * 9), 0, 1),
        "AU02": 1.2 * np.clip(np.sin(time_ * 9), 0, 1),
        "AU06": 2.4 * smile,
        "AU12": 3.6 * smile,
        "AU25": 3.2 * beat,
        "AU26": 2.2 * beat,
        "AU45": 5.0 * (np.abs(time_ - 0.3) < 0.025),
        "pose_pitch": 0.10 * np.sin(time_ * 8),
        "pose_yaw": 0.22 * np.sin(time_ * 5),
        "pose_roll": 0.07 * np.sin(time_ * 4),
        "gaze_x": 0.15 * np.sin(time_ * 6),
        "gaze_y": 0.05 * np.sin(time_ * 7),
    }.items():
        vision[:, column[name]] = values
    audio = rng.normal(0, 1, (LENGTH, len(NAMES["audio"])))
    audio[:, 0] = np.log(170 + 45 * np.sin(time_ * 8) + 20 * np.sin(time_ * 23))
    audio[:, 1] = -260 + 130 * beat
    words = SENTENCE.split()
    edges = np.cumsum([0, *(len(w) + 1 for w in words)]) / sum(len(w) + 1 for w in words)
    timed = tuple(Word(w, float(a), float(b) - 0.008) for w, a, b in zip(words, edges[:-1], edges[1:], strict=True))
    features = {"text": rng.normal(0, 1, (LENGTH, 64)), "audio": audio, "vision": vision}
    return Clip(
        id="video_07$_$3",
        video="video_07",
        index=3,
        text=SENTENCE,
        features={k: v.astype(np.float32) for k, v in features.items()},
        label=1.8,
        words=timed,
        seconds=4.2,
    )


def shares(scores: np.ndarray) -> np.ndarray:
    """Probabilities of scores (..., classes)."""
    powers = np.exp(scores)
    return powers / powers.sum(axis=-1, keepdims=True)


def make_run(
    run_id: str = "r1", missing: tuple = ("vision",), steps: int = 60, saved: int = 60, chunks: int = 6, seed: int = 0,
    classes: tuple = (),
):  # fmt: skip
    """A start, its chunks and a result that look like a recovery: noise that falls, an estimate that settles.

    With `classes` a prediction is of them: the first when nothing is recovered, in the end mostly the third, which is
    the true one.
    """
    rng = np.random.default_rng(seed)
    clip = make_clip(seed)
    if classes:
        clip = replace(clip, label=2.0)
    available = tuple(k for k in ("text", "audio", "vision") if k not in missing)
    smooth = np.ones(9) / 9

    def field_() -> np.ndarray:
        noise = rng.normal(0, 1.7, (CHANNELS, FRAMES + 8))
        return np.stack([np.convolve(row, smooth, "valid") for row in noise]) + rng.normal(0, 0.7, (CHANNELS, 1))

    truth = {k: field_().astype(np.float32) for k in missing}
    at = np.arange(len(classes))
    baseline = {"complete": shares(3.0 * (at == 2)), "zero": shares(2.0 * (at == 0))} if classes else BASELINE
    start = RecoveryStart(
        run_id=run_id,
        clip=clip,
        available=available,
        missing=missing,
        sampler="dpmpp-2m",
        steps=steps,
        nfe_total=steps * 2,
        label=clip.label,
        truth=truth,
        predictions=baseline,
        classes=classes,
        cloud={k: rng.normal(0, [3.0, 1.8], (400, 2)).astype(np.float32) for k in missing},
        truth_path=dict.fromkeys(missing, (2.1, 1.2)),
        readable_truth={k: clip.features[k] for k in missing},
    )
    part = np.linspace(0, 1, saved)
    std = 25.0 ** (1 - part) * 0.02**part
    end = {k: truth[k] * 0.85 + 0.35 * field_() for k in missing}
    begin = {k: 0.3 * field_() for k in missing}
    settle = (1 / (1 + std**1.3))[:, None, None]
    denoised = {k: (begin[k] * (1 - settle) + end[k] * settle).astype(np.float32) for k in missing}
    state = {
        k: (denoised[k] + std[:, None, None] * rng.normal(0, 1, denoised[k].shape) * 5).astype(np.float32)
        for k in missing
    }
    rebuilt = {k: (denoised[k] * 0.92 + truth[k] * 0.06).astype(np.float32) for k in missing}
    jitter = {"text": 1.0, "audio": np.array([0.25, 60.0, *[1.0] * 31]), "vision": np.array([1.6] * 17 + [0.2] * 5)}
    width = {k: clip.features[k].shape[1] for k in missing}
    shown = {}
    for k in missing:
        mean = clip.features[k].mean(axis=0, keepdims=True)
        clean = mean + (clip.features[k] - mean) * 0.8
        noise = rng.normal(0, 1, (saved, LENGTH, width[k])) * jitter[k]
        shown[k] = (mean * (1 - settle) + clean * settle + noise * (1 - settle) ** 0.7).astype(np.float32)
    arrays = {
        "step": np.linspace(0, steps, saved).round(),
        "t": 1 - part,
        "std": std,
        "nfe": np.linspace(2, steps * 2, saved),
        "prediction": 0.3 + 1.2 * settle[:, 0, 0] + 0.1 * np.sin(part * 9),
    }
    if classes:
        arrays["prediction"] = shares(2 * (1 - settle[:, 0]) * (at == 0) + 2.2 * settle[:, 0] * (at == 2))
    per = {
        "state": state,
        "denoised": denoised,
        "reconstructed": rebuilt,
        "path_state": {
            k: (np.array([2.0, 1.0]) * settle[:, :, 0] + std[:, None] * rng.normal([4, -3], 0.6, (saved, 2)))
            for k in missing
        },
        "path_denoised": {k: np.array([1.9, 0.9]) * settle[:, :, 0] + rng.normal(0, 0.05, (saved, 2)) for k in missing},
        "error": {k: ((denoised[k] - truth[k]) ** 2).mean(axis=(1, 2)) for k in missing},
        "error_reconstructed": {k: ((rebuilt[k] - truth[k]) ** 2).mean(axis=(1, 2)) for k in missing},
        "score_norm": dict.fromkeys(missing, 40 / std),
        "readable": shown,
    }
    pieces = []
    for rows in np.array_split(np.arange(saved), chunks):
        pieces.append(
            RecoveryChunk(
                run_id=run_id,
                first=int(rows[0]),
                **{name: values[rows].astype(np.float32) for name, values in arrays.items()},
                **{name: {k: v[rows].astype(np.float32) for k, v in values.items()} for name, values in per.items()},
            )
        )
    draws = rng.normal(1.45, 0.35, 16)
    if classes:
        draws = shares(rng.normal(1.4 * (at == 2), 0.9, (16, len(classes))))
    words = [
        [(w, 0.62), ("film", 0.2), ("story", 0.11)] if i % 3 else [("great", 0.4), (w, 0.3), ("good", 0.2)]
        for i, w in enumerate(SENTENCE.split())
    ]
    result = Recovery(
        run_id=run_id,
        request=RecoveryRequest(clip, available, draws=16),
        sampler="dpmpp-2m",
        steps=steps,
        latents={},
        reconstructed={},
        predictions=baseline
        | {"recovered": draws.mean(axis=0) if classes else float(arrays["prediction"][-1]), "label": clip.label},
        draws=draws,
        interval=None if classes else tuple(np.quantile(draws, (0.05, 0.95))),
        classes=classes,
        feature_error={k: {"draw": 0.9, "draw_refined": 0.8, "mean": 0.5, "mean_refined": 0.45} for k in missing},
        nfe=steps * 2,
        seconds=0.6,
        words=words if "text" in missing else [],
        readable_draws={
            k: np.stack([shown[k][-1] + rng.normal(0, 0.1, shown[k][-1].shape) * jitter[k] for _ in range(16)])
            for k in missing
            if k != "text"
        },
    )
    return start, pieces, result


def run_messages(run_id: str = "r1", missing: tuple = ("vision",), names: dict = NAMES, **options) -> list[dict]:
    """sample, start, chunks and done of a synthetic run."""
    start, pieces, result = make_run(run_id, missing, **options)
    title = "A slow start, a good end"
    label = {"label_name": "emotion", "classes": start.classes}
    return [
        messages.sample_message(
            start.clip, start.available, names=names, title=title, sound=tone(), synthetic=True, **label
        ),
        messages.start_message(start, names=names, title=title, label_name="emotion"),
        *(messages.chunk_message(run_id, piece, names=names) for piece in pieces),
        messages.done_message(run_id, result, names=names),
    ]


def tone() -> str:
    """A quiet tone of the clip's length as a WAV data URI."""
    rate = 8000
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((200 * np.sin(np.arange(int(rate * 4.2)) * 0.3)).astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def build():
    """The page: the stage with a stored run, and buttons that stream others into it."""
    import gradio as gr

    from imder.ui.stage import stage_component

    def slowly(sent: list[dict]):
        for message in sent:
            yield message
            time.sleep(0.05)

    def fail():
        yield run_messages("never", ("audio",))[1]
        yield messages.notice_message("steps: 5000 is not offered; allowed: 1 to 1000")

    def twice():
        sent = run_messages("twice", ("vision",))
        yield from slowly([m for m in sent for _ in range(2)])

    def plain():
        names = {k: [f"f{i}" for i in range(len(v))] for k, v in NAMES.items()}
        yield from slowly(run_messages("plain", ("audio", "vision"), names=names))

    def many():
        yield from slowly(run_messages("many", ("vision",), classes=tuple(f"class {i} of many" for i in range(20))))

    handlers = {
        "one": lambda: slowly(run_messages("live-one", ("vision",))),
        "two": lambda: slowly(run_messages("live-two", ("text", "audio"))),
        "twice": twice,
        "plain": plain,
        "classes": lambda: slowly(run_messages("classes", ("vision",), classes=CLASSES)),
        "many": many,
        "fail": fail,
    }
    with gr.Blocks(analytics_enabled=False) as demo:
        stage = stage_component(messages.bundle(run_messages("stored", ("audio", "vision")), rest=True))
        for name, handler in handlers.items():
            gr.Button(name, elem_id=name).click(_generator(handler), outputs=stage, show_progress="hidden")
    return demo


def _generator(handler):
    def stream():
        yield from handler()

    return stream


if __name__ == "__main__":
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    build().launch(quiet=True, ssr_mode=False, theme=gr.themes.Default(**fonts))
