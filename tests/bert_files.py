"""A small random BERT with a tokenizer, as transformers saves one, and field files whose token ids are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from field_files import Sizes, Truth, mmsa

from imder.data.encoder import Encoder, open_encoder

WORDS = ["train", "valid", "test", "says", "naive", "one", "two", "three", "four", "five", *map(str, range(10))]


def tiny_bert(folder: Path, *, layers: int = 2, width: int = 16, vocabulary: int = 60) -> Path:
    """A BERT of random weights; its [CLS] is 2, its [SEP] 3."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
    config = BertConfig(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, ".", ","]
    vocab = {word: i for i, word in enumerate(words[:vocabulary])}
    BertTokenizer(vocab=vocab).save_pretrained(folder)
    return folder


def with_ids(sizes: Sizes, made: Truth, encoder: Encoder) -> dict[str, dict[str, Any]]:
    """MMSA's layout, where `text_bert` is what the encoder's tokenizer makes of the texts, as float32."""
    tree = mmsa(sizes, made)
    for split, columns in tree.items():
        ids, _ = encoder.tokens(made.texts[split])
        ids = ids[:, :, : sizes.text[0]]
        padded = np.zeros((len(ids), 3, sizes.text[0]), dtype=np.float32)
        padded[:, :, : ids.shape[2]] = ids
        last = np.maximum(padded[:, 1].sum(1).astype(int) - 1, 0)
        padded[np.arange(len(ids)), 0, last] = encoder.tokenizer.sep_token_id  # also where it was cut
        columns["text_bert"] = padded
    return tree


def opened(folder: Path, **sizes: int) -> Encoder:
    """`tiny_bert`, opened."""
    return open_encoder(tiny_bert(folder, **sizes))
