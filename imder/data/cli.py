"""`python -m imder data`: convert, encode, describe, publish and pull data sets, and build the bundled one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imder.data import remote
from imder.data.convert import convert
from imder.data.dataset import BUNDLED, FeatureSet, sound_name
from imder.data.encode import encode
from imder.data.encoder import open_encoder
from imder.data.export import export_mmsa
from imder.data.extract import extract
from imder.data.hidden import Told
from imder.data.upload import template
from imder.modality import MODALITIES, NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions convert, encode, extract, export, info, push, pull and build."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="convert|encode|extract|export|info|push|pull|build"
    )

    action = actions.add_parser("convert", help="files of features to a data set folder")
    action.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="a pickle of MMSA, MulT or MISA, an npz with {split}_{text,audio,vision,label,...}, or a pickle a split",
    )
    action.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    action.add_argument("--name", help="the name in results (default: the file's)")
    action.add_argument("--title", help="the name shown in the page (default: the name)")
    action.add_argument("--label-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="default: from the labels")
    action.add_argument(
        "--word-vectors", type=Path, metavar="TXT", help="a word and its vector a line (GloVe's), for files of words"
    )
    action.add_argument("--drop-faulty", action="store_true", help="leave out clips with a fault, and name them")
    _add_encoder(action, required=False, text="text features by this BERT from the file's token ids (text_bert): ")

    action = actions.add_parser("encode", help="a data set with text features by another encoder")
    action.add_argument("path", metavar="PATH", help="a data set folder, 'bundled', or owner/name on the Hub")
    _add_encoder(action, required=True, text="a BERT, which reads the set's token ids, else its texts: ")
    action.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")

    action = actions.add_parser("extract", help="a recording of yours to a clip that the page opens")
    action.add_argument("--audio", type=Path, metavar="A.wav", help="a sound of one utterance")
    action.add_argument("--face", type=Path, metavar="F.csv", help="its face, by OpenFace 2")
    action.add_argument("--text", metavar="SENTENCE", help="its words")
    action.add_argument("--label", type=float, help="its sentiment, if it is known")
    action.add_argument("--data", default="bundled", metavar="PATH", help="whose features (default: %(default)s)")
    action.add_argument("--encoder", metavar="E", help="the encoder of its text, where the data set does not find it")
    action.add_argument("--out", type=Path, required=True, metavar="CLIP.npz", help="the file to write")

    action = actions.add_parser("export", help="a data set in a layout of the field")
    action.add_argument("path", metavar="PATH", help="a data set folder, or 'bundled'")
    action.add_argument("--format", choices=("mmsa",), default="mmsa", help="default: %(default)s")
    action.add_argument("--out", type=Path, required=True, metavar="FILE.pkl", help="the file to write")

    action = actions.add_parser("info", help="what a data set holds")
    action.add_argument("path", metavar="PATH", help="a data set folder, 'bundled', or owner/name on the Hub")
    action.add_argument("--measure", action="store_true", help="also fit simple models: how hard the data set is")

    action = actions.add_parser("push", help="publish a data set folder on the Hub; HF_TOKEN holds the token")
    action.add_argument("path", metavar="PATH", help="a data set folder, or 'bundled'")
    action.add_argument("repository", metavar="owner/name", help="the data set repository; made if it does not exist")
    action.add_argument("--private", action="store_true", help="the repository is private")
    action.add_argument("--license", metavar="ID", help="the Hub's name of it (default: as in README.md)")

    action = actions.add_parser("pull", help="copy a data set of the Hub into a folder")
    action.add_argument("source", metavar="owner/name[@revision]")
    action.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")

    action = actions.add_parser("build", help="build the bundled corpus from one seed")
    action.add_argument("--out", type=Path, default=BUNDLED, metavar="DIR", help="default: where the bundled corpus is")
    action.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    action.add_argument("--clips", type=int, nargs=3, default=(1400, 200, 400), metavar=("TRAIN", "VALID", "TEST"))


def _add_encoder(action: argparse.ArgumentParser, *, required: bool, text: str) -> None:
    where = "a folder as transformers saves one, owner/name[@revision] on the Hub, or minilm (the installed package)"
    action.add_argument("--encoder", required=required, metavar="E", help=text + where)
    add_cache(action)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """The option --cache."""
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where hidden states are kept (default: ~/.cache/imder/text)"
    )


def main(args: argparse.Namespace) -> int:
    """Runs the action; a fault is a ValueError of one sentence."""
    try:
        return _ACTIONS[args.action](args)
    except OSError as error:
        raise ValueError(f"{error.filename or 'file system'}: {error.strerror or error}") from None


def _convert(args: argparse.Namespace) -> int:
    bounds = tuple(args.label_range) if args.label_range else None
    encoder = open_encoder(args.encoder) if args.encoder else None
    with encoding() as told, tqdm(unit="B", unit_scale=True, unit_divisor=1000, desc="read", disable=None) as bar:
        data, said = convert(
            args.files,
            args.out,
            name=args.name,
            title=args.title,
            label_range=bounds,
            words=args.word_vectors,
            drop_faulty=args.drop_faulty,
            encoder=encoder,
            cache=args.cache,
            progress=bar.update,
            told=told,
        )
    print(summary(data))
    for sentence in said:
        print(f"- {sentence}")
    return 0


@contextmanager
def encoding() -> Iterator[Told]:
    """A bar over texts that appears with the first."""
    bars: list[tqdm] = []

    def told(done: int, of: int) -> None:
        if not bars:
            bars.append(tqdm(total=of, unit=" texts", desc="encode", disable=None))
        bars[0].update(done - bars[0].n)

    try:
        yield told
    finally:
        for bar in bars:
            bar.close()


def _encode(args: argparse.Namespace) -> int:
    data, encoder = FeatureSet.open(args.path), open_encoder(args.encoder)
    with encoding() as told:
        made, said = encode(data, encoder, args.out, cache=args.cache, told=told)
    print(summary(made))
    for sentence in [encoder.notice, *said]:
        if sentence:
            print(f"- {sentence}")
    return 0


def _export(args: argparse.Namespace) -> int:
    for sentence in export_mmsa(FeatureSet.open(args.path), args.out):
        print(f"- {sentence}")
    return 0


def _info(args: argparse.Namespace) -> int:
    data = FeatureSet.open(args.path)
    print(summary(data))
    if args.measure:
        from imder.data.corpus.report import measure

        print(measure(data))
    return 0


def _extract(args: argparse.Namespace) -> int:
    data = FeatureSet.open(args.data)
    if args.out.suffix != ".npz":
        raise ValueError(f"out: {args.out.name} is not allowed; a name that ends in .npz is")
    encoder = open_encoder(args.encoder) if args.encoder else None
    given = {"audio": args.audio, "face": args.face, "text": args.text, "label": args.label}
    found = extract(data, **given, name=args.out.stem, encoder=encoder)
    partial = args.out.with_name(f".{args.out.name}.partial")
    partial.write_bytes(template(found.clip, synthetic=False))
    partial.replace(args.out)
    *first, last = [NAMES[k] for k in MODALITIES if k not in found.clip.absent]
    there = f"{', '.join(first)} and {last}" if first else last
    lasts = f" of {found.clip.seconds:g} s" if found.clip.seconds is not None else ""
    print(f"{args.out}: {there}{lasts} on {len(found.clip.features['text'])} frames")
    for sentence in found.said:
        print(f"- {sentence}")
    print("Open it on the page Your data.")
    return 0


def _push(args: argparse.Namespace) -> int:
    from imder.data import published

    done = published.push(args.path, args.repository, private=args.private, licence=args.license)
    print(done.told(args.repository))
    return 0


def _pull(args: argparse.Namespace) -> int:
    print(summary(FeatureSet(remote.keep(args.source, args.out))))
    return 0


def _build(args: argparse.Namespace) -> int:
    try:
        from imder.data.corpus.build import build
    except ImportError as error:
        raise ValueError(
            f"building needs {error.name}; requirements-dev.txt lists what the corpus is built with"
        ) from None
    build(args.out, seed=args.seed, clips=tuple(args.clips))
    print(summary(FeatureSet.open(args.out)))
    return 0


_ACTIONS = {
    "convert": _convert, "encode": _encode, "extract": _extract, "export": _export, "info": _info, "push": _push,
    "pull": _pull, "build": _build,
}  # fmt: skip


def summary(data: FeatureSet) -> str:
    """What a data set holds: clips, shapes, lengths and labels of each split."""
    label = f"{data.label_name}, {data.label_range[0]:g} to {data.label_range[1]:g}"
    if data.label_classes:
        label += f" ({', '.join(data.label_classes)})"
    lines = [
        f"{data.title} ({data.name}, {'synthetic' if data.synthetic else 'not synthetic'}, {data.fingerprint})",
        data.notice or "",
        data.note,
        f"label   {label}",
    ]
    for split in data.splits:
        records = data.split(split).records  # not the clips, whose features would be read
        labels = np.array([record["label"] for record in records])
        lines.append(
            f"{split:7} {len(records)} clips of {len(data.videos(split))} videos, label {labels.min():g} to "
            f"{labels.max():g}, mean {labels.mean():.2f}"
        )
        for k in MODALITIES:
            lengths = [record["lengths"][k] for record in records]
            gone = sum(k in record.get("absent", ()) for record in records)
            lines.append(
                f"        {k:7} {NAMES[k]:8} {data.feature_dims[k]:4} wide, "
                f"frames {min(lengths)} / {np.median(lengths):g} / {max(lengths)} (min / median / max)"
                + (f", absent in {gone} clips" if gone else "")
            )
    with_sound = sum(
        Path(sound_name(record["id"])).name in data.split(split).sounds
        for split in data.splits
        for record in data.split(split).records
    )
    if with_sound:
        lines.append(f"sound   {with_sound} clips")
    if data.encoder:
        lines.append(f"encoder {data.encoder['name']} ({data.encoder['fingerprint']}) made the text")
        if "tuned" in data.encoder:
            lines.append("        tuned on this set: its text has seen the training labels")
    if data.tokens(data.splits[0]) is not None:
        lines.append("tokens  token ids of the texts are kept")
    if data.vocabulary:
        lines.append(f"words   {len(data.vocabulary[0])} with a vector")
    if data.redraw_ids:
        lines.append(f"redraws {len(data.redraw_ids)} clips performed again")
    return "\n".join(line for line in lines if line)
