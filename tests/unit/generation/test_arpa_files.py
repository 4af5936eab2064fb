from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sharpseq import UserError
from sharpseq.data import train_tokenizer
from sharpseq.generation import load_language_model

ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-0.5 </s>
-99 <s> -0.1
-1.0 <unk>
-0.7 a -0.2
-0.8 b

\\2-grams:
-0.3 a b

\\end\\
"""


def test_the_unknown_word_stands_for_every_token_that_is_not_named(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["abc"], kind="characters")
    (tmp_path / "lm.arpa").write_text(ARPA, encoding="utf-8")
    model = load_language_model(tmp_path / "lm.arpa", tokenizer, vocab_size=len(tokenizer))
    named, missing = tokenizer.convert_tokens_to_ids(["a", "c"])
    scores = model.score(model.start(1), torch.tensor([[named, missing]]))[0] / math.log(10)
    # After the begin, from which the file backs off with a weight of 10^-0.1.
    assert scores.tolist() == pytest.approx([-0.8, -1.1], abs=1e-4)


@pytest.mark.parametrize("cut", [60, 110, len(ARPA) - 8])
def test_a_file_that_is_cut(tmp_path: Path, cut: int) -> None:
    tokenizer = train_tokenizer(["abc"], kind="characters")
    (tmp_path / "lm.arpa").write_text(ARPA[:cut], encoding="utf-8")
    with pytest.raises(UserError, match=r"lm\.arpa"):
        load_language_model(tmp_path / "lm.arpa", tokenizer, vocab_size=len(tokenizer))
