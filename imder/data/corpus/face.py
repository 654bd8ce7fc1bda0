"""The face: 17 action units (0 to 5), head pose and gaze (radians) from gestures, sentiment and what the mouth says."""

from __future__ import annotations

import numpy as np

from imder.data.corpus.grammar import Sentence
from imder.data.corpus.latents import FRAMES, Delivery, Speaker, smooth_noise

UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
NAMES = (*(f"AU{unit}" for unit in UNITS), "pose_pitch", "pose_yaw", "pose_roll", "gaze_x", "gaze_y")

#: What each gesture does to which channel: action units in intensity, pose and gaze in units of 0.1 radian
#: (pose_pitch positive: head down).
ACTIONS: dict[str, dict[str, float]] = {
    "emphasis": {"AU01": 0.7, "AU02": 0.9, "AU05": 0.5, "AU25": 0.5, "AU26": 0.4, "pose_pitch": 0.7},
    "positive": {"AU06": 0.8, "AU12": 1.2, "AU25": 0.5, "AU05": 0.3, "pose_pitch": -0.5, "gaze_y": 0.25},
    "negative": {"AU04": 1.0, "AU09": 0.6, "AU10": 0.6, "AU15": 0.8, "AU17": 0.6, "AU07": 0.5, "gaze_y": -0.4},
    "negation": {"AU04": 1.0, "AU14": 1.3, "AU17": 0.7, "pose_yaw": 1.5, "gaze_x": -0.7},
    "intensifier": {"AU02": 1.3, "AU05": 1.3, "AU07": 0.8, "pose_pitch": -0.7, "AU20": 0.8},
    "hedge": {"AU14": 1.4, "AU01": 0.7, "pose_roll": 1.3, "AU15": 0.6, "gaze_x": 0.8},
    "contrast": {"AU01": 1.1, "AU23": 1.3, "pose_roll": -1.3, "pose_yaw": -1.0, "gaze_x": 0.6},
    "question": {"AU01": 1.3, "AU02": 1.1, "AU04": 0.6, "pose_pitch": -0.8, "pose_roll": 0.8},
    "self": {"gaze_y": -1.0, "pose_pitch": 0.6, "AU23": 0.4, "pose_yaw": -0.6},
    "topic": {"gaze_x": -0.8, "pose_yaw": 0.7, "AU07": 0.6, "AU10": 0.4},
    "content": {"gaze_y": 0.4, "AU07": 0.4, "AU20": 0.4},
    "function": {"AU26": -0.3, "AU02": -0.4, "AU05": -0.3, "AU14": 0.3, "gaze_y": -0.4, "gaze_x": 0.3},
    "link": {"pose_yaw": -0.5, "gaze_x": -0.4, "AU14": -0.3, "AU20": 0.5, "pose_pitch": 0.3},
    "close": {"AU45": 0.5, "AU17": 0.4, "pose_pitch": 0.5, "AU02": -0.3},
    "arousal": {"AU01": 0.3, "AU02": 0.4, "AU05": 0.5, "AU20": 0.25, "AU26": 0.3, "pose_pitch": -0.25, "AU07": 0.2},
    "opening": {"AU45": 0.3, "gaze_y": -0.3, "AU14": 0.3},
    "joy": {"AU06": 0.7, "AU12": 1.0, "AU25": 0.25, "pose_pitch": -0.2, "pose_roll": 0.2},
    "displeasure": {"AU04": 0.8, "AU15": 0.7, "AU17": 0.5, "AU09": 0.4, "AU10": 0.4, "AU07": 0.3, "pose_pitch": 0.2},
    "irony": {"AU14": 1.2, "AU12": 0.6, "pose_roll": 0.8, "AU02": 0.4, "gaze_x": 0.4},
    "pause": {"AU45": 1.5, "AU23": 0.4, "AU17": 0.3, "gaze_y": -0.3},
    "open": {"AU25": 1.6, "AU26": 1.5, "AU10": 0.2},
    "spread": {"AU20": 0.7, "AU12": 0.3, "AU14": 0.3},
    "rounded": {"AU23": 0.8, "AU17": 0.4, "AU20": -0.4},
    "closed": {"AU25": -0.8, "AU23": 0.6, "AU17": 0.5, "AU26": -0.4},
    "bright": {"AU06": 0.5, "AU12": 0.4, "pose_pitch": -0.6, "AU01": 0.3, "gaze_y": 0.3},
    "tense": {"AU07": 0.6, "AU23": 0.5, "AU04": 0.4, "AU14": 0.3, "pose_yaw": 0.4, "AU20": 0.3},
}

#: Where and how each topic is talked about: where the speaker looks, and the light.
PLACES: dict[str, dict[str, float]] = {
    "film": {"pose_yaw": 1.2, "gaze_x": 1.0, "AU05": 0.5, "AU25": 0.3},
    "hotel": {"pose_pitch": -1.2, "gaze_y": 1.0, "AU07": 0.9, "AU06": 0.4},
    "restaurant": {"pose_roll": 1.2, "AU23": 0.7, "AU10": 0.7, "gaze_x": -0.4},
    "phone": {"pose_pitch": 1.3, "gaze_y": -1.3, "AU04": 0.4, "AU45": 0.5},
    "book": {"pose_pitch": 0.9, "pose_yaw": -1.0, "gaze_y": -0.7, "AU07": -0.4, "AU01": 0.4},
    "concert": {"pose_yaw": -0.9, "gaze_x": -1.2, "AU02": 0.7, "AU20": 0.5},
    "game": {"AU07": 0.9, "AU05": -0.4, "gaze_x": 0.4, "AU17": 0.7, "pose_roll": -0.9},
    "course": {"pose_yaw": 0.8, "pose_pitch": -0.5, "gaze_y": 0.7, "AU14": 0.7, "AU04": 0.5, "gaze_x": -0.8},
}

#: The resting value of each channel.
REST = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.3, 0.5, 0.6, 0.5, 0.4, 0.5, 0.4, 0.4, 0.6, 0.4, 0.3] + [0.0] * 5)
_UNIT = np.array([1.0] * 17 + [0.1] * 5)


def perform(
    rng: np.random.Generator,
    sentence: Sentence,
    speaker: Speaker,
    delivery: Delivery,
    tracks: dict[str, np.ndarray],
    mouth: dict[str, np.ndarray],
) -> np.ndarray:
    """(FRAMES, 22) float32. mouth: tracks `open`, `spread`, `rounded`, `closed` of the speech, each 0 to about 1."""
    mood = 0.5 * delivery.shown
    rising = 0.6 + 0.4 * np.maximum(tracks["positive"], tracks["negative"]).clip(0, 1)
    own = {
        "joy": max(mood, 0) * rising,
        "displeasure": max(-mood, 0) * rising,
        "irony": np.full(FRAMES, float(delivery.irony)) * rising,
        "pause": 1 - tracks["speech"],
        "bright": np.full(FRAMES, speaker.bright),
        "tense": np.full(FRAMES, speaker.tense),
    }
    size = np.exp(0.2 * speaker.expressive)
    x = np.zeros((FRAMES, len(NAMES)))
    for name, track in (tracks | own | mouth).items():
        for channel, amount in ACTIONS.get(name, {}).items():
            scale = size if name in tracks else 1.0
            x[:, NAMES.index(channel)] += amount * scale * track
    for channel, amount in PLACES[sentence.topic].items():
        x[:, NAMES.index(channel)] += amount
    x += 0.2 * speaker.posture + 0.16 * smooth_noise(rng, (len(NAMES), FRAMES), 2.5).T
    x = REST + x * _UNIT
    x[:, :17] = np.clip(_soft(x[:, :17]), 0, 5)
    return x.astype(np.float32)


def _soft(x: np.ndarray) -> np.ndarray:
    """A soft floor at zero: a muscle does not push the other way, but small values stay graded."""
    return np.logaddexp(0, 3 * x) / 3
