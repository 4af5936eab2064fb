"""Encoded corpora: sources always end, targets end for autoregressive models only."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sharpseq.data import EncodedExample, Example, encode, train_tokenizer

TOKENIZER = train_tokenizer(["ab"], kind="characters")
EXAMPLES = [Example("ab", "b"), Example("", ""), Example("b", "ba")]


def test_autoregressive_targets_end_with_eos() -> None:
    assert encode(EXAMPLES, TOKENIZER, append_eos_to_target=True) == [
        EncodedExample(0, [5, 6, 0], [6, 0]),
        EncodedExample(1, [0], [0]),
        EncodedExample(2, [6, 0], [6, 5, 0]),
    ]


def test_one_pass_targets_are_bare() -> None:
    assert encode(EXAMPLES, TOKENIZER, append_eos_to_target=False, first_index=10) == [
        EncodedExample(10, [5, 6, 0], [6]),
        EncodedExample(11, [0], []),
        EncodedExample(12, [6, 0], [6, 5]),
    ]


def test_only_sources_are_lower_cased() -> None:
    tokenizer = train_tokenizer(["ab", "AB"], kind="characters", source_lowercase=True)
    (encoded,) = encode([Example("AB", "AB")], tokenizer, append_eos_to_target=False)
    assert tokenizer.decode(encoded.input_ids, skip_special_tokens=True) == "ab"
    assert tokenizer.decode(encoded.labels) == "AB"


def test_nothing_is_cut() -> None:
    tokenizer = train_tokenizer(["ab"], kind="characters")
    tokenizer.model_max_length = 3
    (encoded,) = encode([Example("ab" * 50, "b" * 70)], tokenizer, append_eos_to_target=True)
    assert (len(encoded.input_ids), len(encoded.labels)) == (101, 71)


def test_empty_corpus() -> None:
    assert encode([], TOKENIZER, append_eos_to_target=True) == []


@pytest.mark.parametrize(
    ("template", "target"),
    [("$A </s>", "x </s>"), ("<s> $A </s>", "<s> x </s>"), ("$A </s> en", "x </s>"), ("$A", "x </s>")],
)
def test_targets_of_foreign_tokenizers(template: str, target: str) -> None:
    ids = {token: number for number, token in enumerate(["<s>", "</s>", "<pad>", "<unk>", "en", "x"])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(ids.items())[:5])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="</s>",
        bos_token="<s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=["en"],
    )
    examples = [Example("x", "x")]
    (ended,) = encode(examples, tokenizer, append_eos_to_target=True)
    assert tokenizer.convert_ids_to_tokens(ended.labels) == target.split()
    (bare,) = encode(examples, tokenizer, append_eos_to_target=False)
    assert tokenizer.convert_ids_to_tokens(bare.labels) == ["x"]


def test_text_target_is_asked_for() -> None:
    class TwoSided(PreTrainedTokenizerFast):
        """Marks targets, as multilingual tokenizers do by their language code."""

        def _switch_to_target_mode(self) -> None:
            self.backend_tokenizer.post_processor = processors.TemplateProcessing(
                single="<mask> $A </s>", special_tokens=[("<mask>", 4), ("</s>", 0)]
            )

        def _switch_to_input_mode(self) -> None:
            self.backend_tokenizer.post_processor = TOKENIZER.backend_tokenizer.post_processor

    backend = Tokenizer.from_str(TOKENIZER.backend_tokenizer.to_str())
    tokenizer = TwoSided(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", mask_token="<mask>")
    (encoded,) = encode([Example("a", "b")], tokenizer, append_eos_to_target=True)
    assert (encoded.input_ids, encoded.labels) == ([5, 0], [4, 6, 0])
