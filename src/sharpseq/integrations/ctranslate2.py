"""CTranslate2: autoregressive models in the fastest engine that there is for them on a CPU.

Whoever claims that a one-pass model is fast compares it with this.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import encode_sources, languages_of, load_tokenizer, set_languages
from sharpseq.decoding import longest_training_target, reached_new_token_limits, with_margin
from sharpseq.errors import UserError
from sharpseq.generation import Generation, load_model, max_source_length, read_tuned_decoding, with_languages
from sharpseq.generation import model_folder as find_model
from sharpseq.models.adapters import is_adapter_folder
from sharpseq.whole_files import whole_folder

QUANTIZATIONS = (
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
)
"""How CTranslate2 stores weights."""

OPTIONS: Mapping[str, float | int | None] = {
    "num_beams": 1,
    "length_penalty": 1.0,
    "min_new_tokens": 0,
    "max_new_tokens": None,
    "patience": 2.0,
}
"""Options of `Ctranslate2Generator` and their defaults."""

_MANIFEST = "sharpseq.json"


def export_ctranslate2(
    model_folder: str | Path,
    output_folder: str | Path,
    *,
    quantization: str | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
) -> Path:
    """Convert an autoregressive model to CTranslate2.

    Greedy outputs stay the same, token for token, unless the weights are quantized. The folder also gets the tokenizer
    and what `Ctranslate2Generator` must know of the model; it is there whole or not at all.

    Args:
        model_folder: A model folder, a run folder with a finished model in it, or a Hub id.
        output_folder: The folder to make; it must not exist, or be empty.
        quantization: How weights are stored, one of `QUANTIZATIONS`; as they are when not given.
        source_language: Language of sources that is saved with the tokenizer, as for `sharpseq.SequenceGenerator`.
        target_language: Language of outputs, likewise; the code that stands for it begins every output.

    Returns:
        The output folder.

    Raises:
        ValueError: If ``quantization`` is unknown, or a language is unknown, does not fit the model or is missing.
        UserError: If there is no model, CTranslate2 cannot run it, or the output folder is not empty.
        ImportError: If ``ctranslate2`` is not installed.

    Example:
        >>> export_ctranslate2("runs/multi30k-ar", "exported", quantization="int8")  # doctest: +SKIP
        PosixPath('exported')
    """
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization` must be one of {', '.join(QUANTIZATIONS)}; got {quantization!r}")
    ctranslate2 = _ctranslate2()
    source, output = find_model(model_folder), Path(output_folder)
    with whole_folder(output) as folder:
        if is_adapter_folder(Path(source)):
            raise UserError(
                f"{source} is an adapter; merge it first with `sharpseq export {source} FOLDER --to hugging_face`"
            )
        loaded, tokenizer = load_model(source), load_tokenizer(source)
        _check_convertible(loaded, tokenizer, where=source)
        loaded, tokenizer = with_languages(loaded, tokenizer, source=source_language, target=target_language)
        ctranslate2.converters.TransformersConverter(source).convert(str(folder), quantization=quantization, force=True)
        tokenizer.save_pretrained(folder)
        manifest = {**_manifest(loaded, tokenizer), "options": _tuned_options(Path(source))}
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return output


class Ctranslate2Generator:
    """An exported model with a way to decode; from outside, the same as `sharpseq.SequenceGenerator`.

    Args:
        folder: What `export_ctranslate2` wrote.
        options: ``num_beams`` (1), ``length_penalty`` (1.0), ``min_new_tokens`` (0), ``max_new_tokens`` (None: the
            default of the exported model) as for `sharpseq.decoding.autoregressive_decode`; and ``patience`` (2.0): the
            search ends when ``patience · num_beams`` outputs are finished. At 1, CTranslate2's own default, it ends
            earlier than that of transformers and up to one output in fifteen differs, none for the better; at 2, one in
            some three hundred. A beam search that runs into the largest length is cut there, where ours weighs how
            probable the end is. After the code of a target language, it leaves an output empty only where EOS is the
            most probable token. What `sharpseq tune` had chosen before the export holds where nothing else is given.
        batch_tokens: Token budget of a batch, padding included.
        with_log_probs: Whether log-probabilities are computed; without, decoding is faster and they are NaN.
        num_threads: Threads of a batch; by default as many as torch uses, for a fair race.
        compute_type: What CTranslate2 computes in; by default what fits the stored weights.
        device: ``cpu``, ``cuda`` or ``auto``.
        source_language: Language of sources, as for `sharpseq.SequenceGenerator`; the exported one when not given.
        target_language: Language of outputs, likewise.

    Raises:
        ValueError: If an option is unknown or out of its range, or a language is unknown.
        UserError: If the folder was not written by `export_ctranslate2`, or is broken.
        ImportError: If ``ctranslate2`` is not installed.

    Example:
        >>> generator = Ctranslate2Generator("exported", options={"num_beams": 5})  # doctest: +SKIP
        >>> [output.text for output in generator.generate(["two dogs run ."])]  # doctest: +SKIP
        ['zwei Hunde rennen .']

    References:
        Klein et al. 2020, "The OpenNMT neural machine translation toolkit: 2020 edition".
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        batch_tokens: int = 4000,
        with_log_probs: bool = True,
        num_threads: int | None = None,
        compute_type: str = "default",
        device: str = "cpu",
        source_language: str | None = None,
        target_language: str | None = None,
    ) -> None:
        ctranslate2 = _ctranslate2()
        manifest = _read_manifest(Path(folder))
        chosen = {**manifest.get("options", {}), **(options or {})}
        self.options = {**OPTIONS, **_checked(chosen, max_new_tokens=manifest["max_target_length"])}
        self.batch_tokens = batch_tokens
        self.with_log_probs = with_log_probs
        self._max_source_length: int = manifest["max_source_length"]
        self._max_target_length: int = manifest["max_target_length"]
        self._longest_training_target: int | None = manifest.get("longest_training_target")
        self._never_written: list[str] = manifest["never_written"]
        self.tokenizer = load_tokenizer(folder)
        set_languages(self.tokenizer, source=source_language, target=target_language)
        self._target_prefix: list[str] = manifest.get("target_prefix", [])
        if target_language is not None:
            code = languages_of(self.tokenizer)[target_language]
            self._target_prefix = list(self.tokenizer.convert_ids_to_tokens([code]))
        try:
            self._translator = ctranslate2.Translator(
                str(folder),
                device=device,
                compute_type=compute_type,
                inter_threads=1,
                intra_threads=num_threads or torch.get_num_threads(),
            )
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder}: CTranslate2 cannot load it ({reason}); export the model again") from error

    @property
    def compute_type(self) -> str:
        """What CTranslate2 computes in."""
        return str(self._translator.compute_type)

    def with_options(self, **options: Any) -> Ctranslate2Generator:
        """Return a generator that shares the engine, with other options, which win over its own.

        Raises:
            ValueError: If an option is unknown or out of its range.
        """
        other = copy(self)
        other.options = {**self.options, **_checked(options, max_new_tokens=self._max_target_length)}
        return other

    def generate(self, lines: Iterable[str], *, window: int = 1000) -> Iterator[Generation]:
        """Write one output for each line, in order.

        Args:
            lines: Source texts. Empty ones give empty outputs; ones that are longer than the model allows give an
                empty output with an ``error``, never a cut one.
            window: Lines that are read before the first output, to make batches of similar length.

        Yields:
            One output a line, with the ``reached_limit`` of one that is as long as it may be. ``log_prob`` includes
            EOS, and is under the softmax without padding and begin mark, which are never written.
        """
        reader = iter(lines)
        while gathered := list(islice(reader, window)):
            yield from self._generate(gathered)

    def _generate(self, lines: Sequence[str]) -> list[Generation]:
        outputs = [Generation("")] * len(lines)
        encoded = encode_sources(self.tokenizer, lines)
        wanted = []
        for position, (line, ids) in enumerate(zip(lines, encoded, strict=True)):
            if len(ids) > self._max_source_length:
                message = f"{len(ids)} tokens, the model reads at most {self._max_source_length}"
                outputs[position] = Generation("", error=message)
            elif line.strip():
                wanted.append(position)
        if wanted:
            # CTranslate2 never appends the end token itself: the encoded sources end with it.
            sources = [list(self.tokenizer.convert_ids_to_tokens(encoded[position])) for position in wanted]
            for position, output in zip(wanted, self._decode(sources), strict=True):
                outputs[position] = output
        return outputs

    def _decode(self, sources: list[list[str]]) -> list[Generation]:
        limits = [self._limit(len(source)) for source in sources]
        # One step more than the limit, in which an output of just the limit's length ends.
        decoded = self._translate(sources, max_new_tokens=max(limits) + 1)
        late: dict[int, list[int]] = {}
        for position, (output, limit) in enumerate(zip(decoded, limits, strict=True)):
            if output.num_tokens > limit:
                late.setdefault(limit, []).append(position)
        # The engine has one limit for a whole batch. What ran over its own is rare, and decoded again.
        for limit, positions in late.items():
            again = self._translate([sources[position] for position in positions], max_new_tokens=limit)
            for position, output in zip(positions, again, strict=True):
                decoded[position] = output
        lengths = torch.tensor([output.num_tokens for output in decoded])
        reached = reached_new_token_limits(lengths, torch.tensor(limits), room=self._max_target_length)
        return [replace(output, reached_limit=limit) for output, limit in zip(decoded, reached, strict=True)]

    def _limit(self, source_length: int) -> int:
        """Return the largest number of tokens of an output, EOS not counted."""
        if self.options["max_new_tokens"] is not None:
            return int(self.options["max_new_tokens"])
        longest = self._longest_training_target
        limit = 2 * source_length + 10 if longest is None else with_margin(longest)
        return min(max(limit, int(self.options["min_new_tokens"] or 0)), self._max_target_length)

    def _translate(self, sources: list[list[str]], *, max_new_tokens: int) -> list[Generation]:
        batches: dict[str, Any] = {"max_batch_size": self.batch_tokens, "batch_type": "tokens"}
        # The engine counts the prefix in lengths and returns it, but leaves its probability out of the sum.
        num_given = len(self._target_prefix)
        results = self._translator.translate_batch(
            sources,
            **batches,
            target_prefix=[self._target_prefix] * len(sources) if num_given else None,
            beam_size=self.options["num_beams"],
            patience=self.options["patience"] if self.options["num_beams"] > 1 else 1,
            length_penalty=self.options["length_penalty"],
            # By default it is 1, and nothing is ever left empty.
            min_decoding_length=self.options["min_new_tokens"] and self.options["min_new_tokens"] + num_given,
            max_decoding_length=max_new_tokens + num_given,
            suppress_sequences=[[token] for token in self._never_written] or None,
            return_scores=self.with_log_probs,
        )
        written = [result.hypotheses[0][num_given:] for result in results]
        log_probs = [math.nan] * len(written)
        if self.with_log_probs:
            log_probs = self._log_probs(
                results, written=written, sources=sources, max_new_tokens=max_new_tokens, batches=batches
            )
        ids: Any = [self.tokenizer.convert_tokens_to_ids(tokens) for tokens in written]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            Generation(text.strip(), log_prob, len(tokens), num_passes=len(tokens) + 1)
            for text, log_prob, tokens in zip(texts, log_probs, written, strict=True)
        ]

    def _log_probs(
        self,
        results: Sequence[Any],
        *,
        written: list[list[str]],
        sources: list[list[str]],
        max_new_tokens: int,
        batches: Mapping[str, Any],
    ) -> list[float]:
        """Return the log-probability of each output."""
        num_given = len(self._target_prefix)
        # The engine divides the sum by a power of the length, EOS counted.
        penalty = float(self.options["length_penalty"] or 0)
        log_probs = [
            result.scores[0] * (num_given + len(tokens) + 1) ** penalty
            for result, tokens in zip(results, written, strict=True)
        ]
        # The score of a cut output lacks EOS, and a least length takes it out of the softmax.
        # What is longer than all positions is decoded again, and could not be scored.
        unfit = [
            n
            for n, tokens in enumerate(written)
            if (self.options["min_new_tokens"] or len(tokens) == max_new_tokens)
            and len(tokens) <= self._max_target_length
        ]
        if unfit:
            scored = self._translator.score_batch(
                [sources[n] for n in unfit], [[*self._target_prefix, *written[n]] for n in unfit], **batches
            )
            for number, scores in zip(unfit, scored, strict=True):
                log_probs[number] = sum(scores.log_probs[num_given:])
        return log_probs


def is_ctranslate2_export(folder: str | Path) -> bool:
    """Return whether `export_ctranslate2` wrote a folder."""
    return (Path(folder) / _MANIFEST).is_file() and (Path(folder) / "model.bin").is_file()


def _ctranslate2() -> Any:
    try:
        import ctranslate2
    except ImportError:
        raise ImportError(
            "CTranslate2 models need the package `ctranslate2`: pip install 'sharpseq[ctranslate2]'"
        ) from None
    return ctranslate2


def _check_convertible(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, where: str) -> None:
    """Refuse what CTranslate2 would refuse with a riddle, or convert to something that writes other outputs."""
    kind = model.config.model_type
    if kind.startswith("sharpseq-"):
        raise UserError(
            f"{where}: CTranslate2 has no architecture for one-pass models ({kind}); export an autoregressive model"
        )
    if kind != "m2m_100":
        raise UserError(
            f"{where}: only the autoregressive family of sharpseq (m2m_100) is exported, and this is {kind}; "
            "CTranslate2's own `ct2-transformers-converter` may know it"
        )
    if model.config.pad_token_id != 1:
        # CTranslate2 drops the first two rows of the position table, which is right for one id of the padding only.
        raise UserError(
            f"{where}: the padding has id {model.config.pad_token_id}, and with any but 1 CTranslate2 would shift all "
            "positions silently; train with a tokenizer of sharpseq"
        )
    for name in ("bos_token", "eos_token", "unk_token"):
        if getattr(tokenizer, name) is None:
            raise UserError(f"{where}: the tokenizer has no `{name}`, which CTranslate2 needs; add one and save it")
    # The models of NLLB and M2M100 have a few rows more than their tokenizers, which CTranslate2 names by itself.
    spare = model.config.vocab_size - len(tokenizer.get_vocab()) if languages_of(tokenizer) else 0
    if sorted(tokenizer.get_vocab().values()) != list(range(model.config.vocab_size - max(spare, 0))):
        raise UserError(
            f"{where}: the tokenizer's {len(tokenizer)} entries are not the ids 0 to {model.config.vocab_size - 1} of "
            "the model; it is the tokenizer of another model"
        )


def _manifest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    first = model.generation_config.forced_bos_token_id
    names = ("pad_token_id", "bos_token_id", "mask_token_id")
    ids: set[Any] = {getattr(model.config, name, None) for name in names} - {None, model.config.eos_token_id}
    return {
        "max_source_length": max_source_length(model),
        # The decoder start takes the first position, a target prefix the next.
        "max_target_length": model.config.max_position_embeddings - (1 if first is None else 2),
        "target_prefix": tokenizer.convert_ids_to_tokens([] if first is None else [first]),
        "longest_training_target": longest_training_target(model),
        "never_written": tokenizer.convert_ids_to_tokens(sorted(ids)),
    }


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no exported model; make one with `sharpseq export MODEL {folder}`") from error
    return manifest


def _tuned_options(source: Path) -> dict[str, Any]:
    """Return the options that `sharpseq tune` chose for a model, those that CTranslate2 has as well."""
    tuned = read_tuned_decoding(source)
    options = {} if tuned is None or tuned.decoder != "autoregressive" else tuned.options
    return {name: value for name, value in options.items() if name in OPTIONS}


def _checked(options: Mapping[str, Any], *, max_new_tokens: int) -> Mapping[str, Any]:
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"`{name}` is not an option of CTranslate2 models; there are: {', '.join(OPTIONS)}")
    for name, least in (("num_beams", 1), ("min_new_tokens", 0), ("max_new_tokens", 1), ("patience", 1)):
        if options.get(name) is not None and options[name] < least:
            raise ValueError(f"`{name}` must be at least {least}; got {options[name]}")
    for name in ("min_new_tokens", "max_new_tokens"):
        if (options.get(name) or 0) > max_new_tokens:
            raise ValueError(f"`{name}` must be at most {max_new_tokens}, the model's positions; got {options[name]}")
    return options
