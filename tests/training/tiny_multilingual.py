"""Multilingual models of a few thousand weights, with the tokenizers of NLLB, mBART, mBART-50 and M2M100."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerBase,
)

LANGUAGES = {
    "nllb": ("eng_Latn", "deu_Latn", "fra_Latn"),
    "mbart": ("en_XX", "de_DE", "fr_XX"),
    "mbart50": ("en_XX", "de_DE", "fr_XX"),
    "m2m100": ("en", "de", "fr"),
}
"""Names of English, German and French, as each tokenizer knows them."""

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
LETTERS = list("▁abcdefghijklmnopqrstuvwxyz")


def multilingual_tokenizer(kind: str, folder: Path, **settings: Any) -> PreTrainedTokenizerBase:
    """Return a tokenizer of letters, set to no target language unless ``tgt_lang`` says so.

    Args:
        kind: A key of `LANGUAGES`.
        folder: An existing folder for the files that M2M100's needs; it needs SentencePiece too.
        settings: ``src_lang``, ``tgt_lang`` and so on.
    """
    if kind == "nllb":
        vocabulary = {token: number for number, token in enumerate([*SPECIALS, *LETTERS])}
        return NllbTokenizer(vocabulary, extra_special_tokens=list(LANGUAGES[kind]), **settings)
    if kind == "m2m100":
        model, vocabulary = folder / "sentencepiece.bpe.model", folder / "vocab.json"
        model.write_bytes(_sentencepiece_model())
        vocabulary.write_text(json.dumps({token: number for number, token in enumerate([*SPECIALS, *LETTERS])}))
        # The files on the Hub name the codes as special tokens; without that, only the tokenizer itself knows them.
        codes = list(M2M100Tokenizer(str(vocabulary), str(model)).lang_token_to_id)
        return M2M100Tokenizer(str(vocabulary), str(model), additional_special_tokens=codes, **settings)
    scores = [*((token, 0.0) for token in SPECIALS), *((letter, -2.0) for letter in LETTERS)]
    codes = [(name, 0.0) for name in LANGUAGES[kind]]
    return {"mbart": MBartTokenizer, "mbart50": MBart50Tokenizer}[kind](
        vocab=[*scores, *codes, ("<mask>", 0.0)], **settings
    )


def _sentencepiece_model() -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(LETTERS[1:])] * 9),
        model_writer=model,
        vocab_size=len(LETTERS) + 3,
        model_type="char",
        minloglevel=2,
    )
    return model.getvalue()


def multilingual_model(kind: str, num_tokens: int, *, seed: int = 0, **settings: Any) -> Any:
    """Return a random model that varies what it writes and never writes padding, BOS and unknown tokens."""
    torch.manual_seed(seed)
    sizes = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes |= {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 40}
    ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": EOS}
    is_mbart = kind.startswith("mbart")
    config, model_class = (
        (MBartConfig, MBartForConditionalGeneration) if is_mbart else (M2M100Config, M2M100ForConditionalGeneration)
    )
    if kind == "mbart":
        ids["decoder_start_token_id"] = None
    plain = {"dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.5, "scale_embedding": False}
    plain |= {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "tie_word_embeddings": False}
    # As the real models have a few rows more than their tokenizers.
    spare = 0 if is_mbart else 8 if kind == "m2m100" else 2
    model = model_class(config(vocab_size=num_tokens + spare, **{**sizes, **ids, **plain, **settings})).eval()
    with torch.no_grad():
        # The first of the last hidden states is nearly constant, which makes it a bias of the output.
        model.model.decoder.layer_norm.bias[0] = 10.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[EOS, 0] = 0.25
        model.lm_head.weight[[BOS, PAD, UNK, *range(num_tokens, num_tokens + spare)], 0] = -10.0
    return model


def write_multilingual(folder: Path, kind: str = "nllb", **settings: Any) -> Path:
    """Write a model with its tokenizer, which is set to no target language, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = multilingual_tokenizer(kind, folder)
    model = multilingual_model(kind, len(tokenizer), **settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
