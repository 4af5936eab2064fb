"""Train and load the tokenizers that turn text into token ids and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.normalizers import Normalizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sharpseq.data.chat_templates import end_of_turn
from sharpseq.data.hub_names import expanded_path, is_missing_path
from sharpseq.data.prompts import prompt_is_usable, prompt_of
from sharpseq.data.unicode_text import set_unicode_normalization, surrogate_fault
from sharpseq.errors import UserError
from sharpseq.plain_text import UnicodeNormalization, check_form

TokenizerKind = Literal["bpe", "unigram", "characters"]

#: Ids 0 to 4. CTranslate2 shifts positions silently unless the pad token has id 1, and fails without a BOS token.
SPECIAL_TOKENS = ("</s>", "<pad>", "<unk>", "<s>", "<mask>")

DEFAULT_VOCAB_SIZE = 8000

_SPACE = "▁"


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: TokenizerKind = "bpe",
    vocab_size: int | None = None,
    symbols: str | None = None,
    source_lowercase: bool = False,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> PreTrainedTokenizerFast:
    r"""Train one tokenizer for sources and targets.

    The same texts always give the same ``bpe`` and ``characters`` tokenizer. The library's unigram trainer adds up
    numbers in no fixed order, so its scores differ in the last digits from run to run; keep the saved tokenizer.

    ``bpe`` and ``unigram`` mark each space with ``▁`` at the start of the next piece, as SentencePiece does, and put
    one before the text: ``"A dog"`` becomes ``▁A ▁dog``. Decoding returns the text itself, repeated and leading spaces
    included, so no detokenizer is needed. A byte-level alphabet would also cover characters that were never seen, but
    it spends 256 pieces on bytes that a one-pass model, which chooses every token independently, cannot join into
    valid characters; here unseen characters become ``<unk>``. Only the character ``▁`` itself comes back as a
    space.

    Texts are normalised to NFC, in training and whenever the tokenizer is used, so that both spellings of ``ü`` are the
    same tokens; ``unicode_normalization="none"`` leaves them as they are. They are not normalised in any other way.

    ``characters`` makes each character a token. Spaces are tokens too, and decoding joins without spaces. With
    ``symbols``, which says which strings are one token each, spaces only separate and decoding joins with one space.

    Names of special tokens inside a text (``</s>``) are ordinary characters. ``tokenizer(text).input_ids`` ends with
    ``</s>`` and has no BOS token.

    Args:
        texts: Sources and targets together, read once.
        kind: Byte-pair encoding, unigram language model, or characters.
        vocab_size: Size of the vocabulary, including the five special tokens; smaller if the texts have fewer pieces.
            8000 when not given; for ``characters``, all characters.
        symbols: Regular expression of multi-character tokens, for ``characters`` only: ``"[A-Z]+[0-2]?"`` for phonemes.
        source_lowercase: Make :func:`encode_sources` lower-case its sources; the sources in ``texts`` should be
            lower-cased too.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        A tokenizer with the special tokens ``</s>`` 0, ``<pad>`` 1, ``<unk>`` 2, ``<s>`` 3 and ``<mask>`` 4.

    Raises:
        ValueError: If an argument is out of range, there is no text, a text has half a character (a lone surrogate), or
            ``vocab_size`` is too small for all characters.

    Example:
        >>> tokenizer = train_tokenizer(["a dog", "a  cat"], kind="bpe", vocab_size=20)
        >>> tokenizer.decode(tokenizer("a  dog").input_ids, skip_special_tokens=True)
        'a  dog'
        >>> phonemes = train_tokenizer(["hello", "HH AH L OW"], kind="characters", symbols="[A-Z]+[0-2]?")
        >>> phonemes.tokenize("HH AH L OW"), phonemes.tokenize("hello")
        (['HH', 'AH', 'L', 'OW'], ['h', 'e', 'l', 'l', 'o'])

    References:
        Sennrich et al. 2016, "Neural machine translation of rare words with subword units"; Kudo 2018, "Subword
        regularization".
    """
    if kind not in get_args(TokenizerKind):
        raise ValueError(f"`kind` must be one of {', '.join(get_args(TokenizerKind))}; got {kind!r}")
    if symbols is not None and kind != "characters":
        raise ValueError(f"`symbols` is for kind 'characters' only; got kind {kind!r}")
    if vocab_size is not None and vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(f"`vocab_size` must be more than the {len(SPECIAL_TOKENS)} special tokens; got {vocab_size}")
    check_form(unicode_normalization)
    spelling = [normalizers.NFC()] if unicode_normalization == "nfc" else []
    texts = _whole_texts(texts)
    if kind == "characters":
        backend = _train_characters(texts, vocab_size=vocab_size, symbols=symbols, spelling=spelling)
    else:
        backend = _train_pieces(texts, kind=kind, vocab_size=vocab_size or DEFAULT_VOCAB_SIZE, spelling=spelling)
    if backend.get_vocab_size() == len(SPECIAL_TOKENS):
        raise ValueError("`texts` must hold at least one character")
    end = SPECIAL_TOKENS[0]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=end,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        mask_token="<mask>",
        clean_up_tokenization_spaces=False,
        # A corpus may be about markup: without this, a source with `</s>` in it would end there.
        split_special_tokens=True,
        source_lowercase=source_lowercase,
    )
    set_unicode_normalization(tokenizer, unicode_normalization)
    return tokenizer


def load_tokenizer(name_or_path: str | os.PathLike[str], *, pad_with_end: bool = False) -> PreTrainedTokenizerBase:
    """Load any Hugging Face tokenizer, from the Hub or a local folder.

    Args:
        name_or_path: Hub id, or a folder written by ``save_pretrained``; a leading ``~`` and variables are expanded.
        pad_with_end: Use EOS as the pad token if there is none, as in the tokenizers of most causal language models.
            Only for those: our batches and decoders recognise their padding by the attention mask.

    Returns:
        The tokenizer, which has a pad token and an EOS token.

    Raises:
        UserError: If it cannot be found, is broken, or lacks a pad token or an EOS token.
    """
    name_or_path = expanded_path(name_or_path)
    if is_missing_path(name_or_path):
        raise UserError(f"{name_or_path}: no such folder; check the path of the tokenizer")
    folder = Path(name_or_path)
    lost = " (tokenizer_config.json is missing there)"
    where = name_or_path + (lost if folder.is_dir() and not (folder / "tokenizer_config.json").exists() else "")
    try:
        # Without the explicit False, transformers would ask on standard input, where the sources come from.
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except Exception as error:
        # A broken folder fails with whatever its parser raises: KeyError, JSONDecodeError, a bare Exception.
        reason = " ".join(str(error).split()) or type(error).__name__
        if "SentencePiece" in reason and isinstance(error, ImportError):
            raise UserError(
                f"{name_or_path}: this tokenizer needs the package `sentencepiece`: "
                "pip install 'sharpseq[sentencepiece]'"
            ) from error
        raise UserError(
            f"{where}: no tokenizer can be loaded from here ({type(error).__name__}: {reason[:200]}); "
            "check the name, or save it again with `tokenizer.save_pretrained`"
        ) from error
    if not prompt_is_usable(tokenizer):
        raise UserError(
            f"{name_or_path}: the chat template is missing or broken, which the tokenizer's prompt needs; copy the "
            "folder again, chat_template.jinja included"
        )
    if tokenizer.pad_token_id is None and pad_with_end:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{where}: the tokenizer has no pad token; add one with "
            "`tokenizer.add_special_tokens({'pad_token': '<pad>'})`, save it with `save_pretrained` and use that folder"
        )
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is None:
        raise UserError(
            f"{name_or_path}: the tokenizer has no EOS token; add one with "
            "`tokenizer.add_special_tokens({'eos_token': '</s>'})`, save it with `save_pretrained` and use that folder"
        )
    return tokenizer


def end_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that ends a sequence: EOS, or SEP for tokenizers without EOS, such as BERT's.

    With a chat prompt it is the token that ends an assistant turn in the chat template. A model that is trained on such
    targets needs this id as the ``eos_token_id`` of its configurations, so that generation ends with the turn.

    Args:
        tokenizer: Any Hugging Face tokenizer.

    Returns:
        The id.

    Raises:
        ValueError: If it has neither.
    """
    prompt = prompt_of(tokenizer)
    if prompt is not None and prompt.kind == "chat":
        return end_of_turn(tokenizer)[-1]
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise ValueError("`tokenizer` must have an `eos_token` or a `sep_token`")
    return int(end)


def _whole_texts(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts, start=1):
        fault = surrogate_fault(text)
        if fault:
            raise ValueError(f"`texts` must hold whole characters; text {number} has {fault}")
        yield text


def _train_pieces(
    texts: Iterable[str], *, kind: TokenizerKind, vocab_size: int, spelling: Sequence[Normalizer]
) -> Tokenizer:
    normalizer = normalizers.Sequence([*spelling, normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    pre_tokenizer = pre_tokenizers.Sequence(
        [
            # The normalizer prepends the `▁`: Metaspace would not do so if a text starts with a space.
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never", split=True),
            # A piece `</s>` would get the id of the special token, so `<` is never joined to the rest of such a name.
            pre_tokenizers.Split(Regex(f"<(?={'|'.join(token[1:] for token in SPECIAL_TOKENS)})"), behavior="isolated"),
        ]
    )
    is_unigram = kind == "unigram"
    backend = Tokenizer(models.Unigram() if is_unigram else models.BPE(unk_token=SPECIAL_TOKENS[2]))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer
    specials = list(SPECIAL_TOKENS)
    settings: dict[str, Any] = {"vocab_size": vocab_size, "special_tokens": specials, "show_progress": False}
    trainer = (
        trainers.UnigramTrainer(unk_token=SPECIAL_TOKENS[2], **settings)
        if is_unigram
        else trainers.BpeTrainer(**settings)
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() > vocab_size:
        raise ValueError(
            f"`vocab_size` must be at least {backend.get_vocab_size()}, the different characters in the texts plus the "
            f"special tokens; got {vocab_size}"
        )
    backend.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always", split=True)
    return backend


def _train_characters(
    texts: Iterable[str], *, vocab_size: int | None, symbols: str | None, spelling: Sequence[Normalizer]
) -> Tokenizer:
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(list(spelling))
    if symbols is None:
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        backend.decoder = decoders.Fuse()
    else:
        try:
            pattern = Regex(rf"(?:{symbols})|\S")
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"`symbols` must be a regular expression; got {symbols!r} ({error})") from None
        # Inverted: what matches becomes a token, and what does not, the spaces, is removed.
        backend.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size or sys.maxsize, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend
