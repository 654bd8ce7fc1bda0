"""One check for every way in: the page, the API and the address line end in the same `RecoveryRequest`."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imder.data.clip import Clip
from imder.modality import MODALITIES, NAMES, missing, names_of
from imder.pipeline import MAX_DRAWS, MAX_GUIDANCE, MAX_SEED, RecoveryPipeline, RecoveryRequest
from imder.samplers import MAX_STEPS, SAMPLERS

DEFAULT_DRAWS = 8
#: Network evaluations x draws x dropped modalities of one job: some 20 s of one core.
MAX_WORK = 12_000

_BY_NAME = {name.casefold(): k for k, name in NAMES.items()} | {k: k for k in MODALITIES}
_ALLOWED_DROP = "one or two of " + ", ".join(NAMES.values())


class BadInput(ValueError):
    """A value from outside that is not allowed; the text is one sentence for the visitor."""


def shown(value: object) -> str:
    """`value` as at most some eighty characters, whatever it is."""
    try:
        text = reprlib.repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True)
class Choice:
    """What a visitor asks for, every field checked; `drop` in the order of `MODALITIES`."""

    sample: str
    drop: tuple[str, ...]
    sampler: str
    steps: int
    seed: int = 0
    draws: int = DEFAULT_DRAWS
    guidance: float = 1.0


def named(values: Sequence[object]) -> dict[str, object]:
    """The values of a `Choice` by name, as they came from the wire; BadInput where there are too many or too few."""
    names = list(Choice.__annotations__)
    if len(values) != len(names):
        raise BadInput(f"values: {shown(values)} are {len(values)}; {len(names)} are needed: {', '.join(names)}.")
    return dict(zip(names, values, strict=True))


def one_of(name: str, value: object, allowed: Collection[str]) -> str:
    """`value` if it is one of those names."""
    if type(value) is not str or value not in allowed:
        raise BadInput(f"{name}: {shown(value)} is unknown; allowed: {', '.join(allowed)}.")
    return value


def some_of(name: str, value: object, allowed: Collection[str]) -> tuple[str, ...]:
    """The names of a list, at least one, in the order of the allowed ones and once each."""
    if type(value) not in (list, tuple):
        raise BadInput(f"{name}: {shown(value)} is not a list; allowed in one: {', '.join(allowed)}.")
    found = {one_of(name, one, allowed) for one in value}
    if not found:
        raise BadInput(f"{name}: none is chosen; choose at least one of {', '.join(allowed)}.")
    return tuple(one for one in allowed if one in found)


def whole(name: str, value: object, low: int, high: int) -> int:
    """`value` if it is an int (no bool, no float) from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise BadInput(f"{name}: {shown(value)} is not allowed; a whole number from {low} to {high} is.")
    return value


def check_sample(pipeline: RecoveryPipeline, value: object) -> Clip:
    """The test clip of that id."""
    if type(value) is str and len(value) <= 200:
        try:
            return pipeline.data.clip(value)
        except ValueError:
            pass
    clips = pipeline.data.split("test")
    raise BadInput(
        f"sample: {shown(value)} is not a clip of this data set; "
        f"the id of a clip is, such as {clips[0].id!r} ({len(clips)} to choose from)."
    )


def default_drop(pipeline: RecoveryPipeline, clip: Clip) -> tuple[str, ...]:
    """What is dropped where nobody says: what the clip has not, else its face, or its voice if no clip has a face."""
    gone = tuple(k for k in clip.absent if k not in pipeline.lacks)
    return gone or tuple(k for k in ("vision", "audio") if k not in pipeline.lacks)[:1]


def check_drop(value: object, lacks: Collection[str] = ()) -> tuple[str, ...]:
    """The dropped modalities, given as `text` or `Language` and so on, in order and once each.

    lacks: those of which the data set has nothing, which cannot be dropped.
    """
    if type(value) not in (list, tuple):
        raise BadInput(f"drop: {shown(value)} is not a list; {_ALLOWED_DROP} can be dropped.")
    found = set()
    for name in value:
        k = _BY_NAME.get(name.casefold()) if type(name) is str else None
        if k is None:
            raise BadInput(f"drop: {shown(name)} is not a modality; {_ALLOWED_DROP} can be dropped.")
        found.add(k)
    others = [NAMES[k] for k in MODALITIES if k not in lacks]
    if lacks and (found & set(lacks) or len(found) != 1):
        raise BadInput(f"drop: this data set has no {names_of(lacks)}; {' or '.join(others)} can be dropped.")
    if not 1 <= len(found) < len(MODALITIES):
        what = "nothing is dropped" if not found else "Language, Voice and Face are all dropped"
        raise BadInput(f"drop: {what}; {_ALLOWED_DROP} can be, and at least one stays.")
    return tuple(k for k in MODALITIES if k in found)


def check_sampler(value: object) -> str:
    """The name of one of `SAMPLERS`."""
    if type(value) is not str or value not in SAMPLERS:
        raise BadInput(f"sampler: {shown(value)} is unknown; allowed: {', '.join(SAMPLERS)}.")
    return value


def check_guidance(value: object) -> float:
    """A finite number from 0 (the condition is ignored) to 8."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_GUIDANCE:  # NaN is not
        raise BadInput(f"guidance: {shown(value)} is not allowed; a number from 0 to {MAX_GUIDANCE:g} is.")
    return float(value)


def default_steps(pipeline: RecoveryPipeline, sampler: str) -> int:
    """The model's own number of steps for its own sampler, the sampler's for any other."""
    config = pipeline.model.config
    return config.steps if sampler == config.sampler else SAMPLERS[sampler].steps


def validate(
    pipeline: RecoveryPipeline,
    *,
    sample: object = None,
    drop: object = None,
    sampler: object = None,
    steps: object = None,
    seed: object = 0,
    draws: object = DEFAULT_DRAWS,
    guidance: object = 1.0,
    clip: Clip | None = None,
    share: int | None = None,
) -> RecoveryRequest:
    """The request, or BadInput whose text names the value and what was allowed. None stands for the default.

    `clip`: one that is not of the data set, already checked, in the place of `sample`. `share`: the modalities drawn
    in all requests of one job, where it makes several.
    """
    if clip is None:
        clip = pipeline.data.split("test")[0] if sample is None else check_sample(pipeline, sample)
    clip = pipeline.seen(clip)
    dropped = default_drop(pipeline, clip) if drop is None else check_drop(drop, pipeline.lacks)
    name = pipeline.model.config.sampler if sampler is None else check_sampler(sampler)
    count = default_steps(pipeline, name) if steps is None else whole("steps", steps, 1, MAX_STEPS)
    rows = whole("draws", draws, 1, MAX_DRAWS)
    if lacking := [NAMES[k] for k in clip.absent if k not in dropped]:
        raise BadInput(f"drop: {lacking[0]} is not in the file, so it has to be dropped too.")
    a_draw = (2 * count - 1 if name == "heun" else count) * (share or len(dropped))
    if a_draw * rows > MAX_WORK:
        raise BadInput(
            f"draws: {rows} is too much for this page with {count} steps and {share or len(dropped)} dropped; "
            f"at most {MAX_WORK // a_draw} is allowed."
        )
    return RecoveryRequest(
        clip=clip,
        available=missing(dropped),
        sampler=name,
        steps=count,
        seed=whole("seed", seed, 0, MAX_SEED),
        guidance=check_guidance(guidance),
        draws=rows,
    )


def validate_choice(pipeline: RecoveryPipeline, values: tuple[object, ...], **more: Any) -> RecoveryRequest:
    """`validate` of the values of a `Choice` in the order of its fields."""
    return validate(pipeline, **named(values), **more)


def _number(text: str) -> object:
    """A whole number written in at most ten digits as int, anything else as it came."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) else text


def _decimal(text: str) -> object:
    return float(text) if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text, re.ASCII) else text


def from_link(pipeline: RecoveryPipeline, query: Mapping[str, str]) -> tuple[Choice, list[str]]:
    """What a link asks for, and a sentence for every parameter that was refused and left at its default."""
    checks: dict[str, Callable[[str], Any]] = {
        "sample": lambda text: check_sample(pipeline, text).id,
        "drop": lambda text: check_drop(text.split(","), pipeline.lacks),
        "sampler": check_sampler,
        "steps": lambda text: whole("steps", _number(text), 1, MAX_STEPS),
        "seed": lambda text: whole("seed", _number(text), 0, MAX_SEED),
        "draws": lambda text: whole("draws", _number(text), 1, MAX_DRAWS),
        "guidance": lambda text: check_guidance(_decimal(text)),
    }
    values, refused = {}, []
    for name, check in checks.items():
        if name in query:
            try:
                values[name] = check(query[name])
            except BadInput as error:
                refused.append(str(error))
    values.setdefault("sample", pipeline.data.split("test")[0].id)
    values.setdefault("drop", default_drop(pipeline, pipeline.data.clip(values["sample"])))
    values.setdefault("sampler", pipeline.model.config.sampler)
    values.setdefault("steps", default_steps(pipeline, values["sampler"]))
    return Choice(**values), refused
