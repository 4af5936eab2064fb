"""From source text to target text with a saved model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import (
    Example,
    Prompt,
    TokenBudgetBatchSampler,
    UnknownCharacters,
    attach_prompt,
    chosen_languages,
    encode_sources,
    end_token_id,
    is_blank,
    load_tokenizer,
    normalize_text,
    prepare_sources,
    prompt_of,
    source_batch,
    unicode_normalization_of,
)
from sharpseq.decoding import (
    DECODERS,
    Batch,
    DecodeOutput,
    Drafter,
    LanguageModel,
    ReachedLimit,
    Rescorer,
)
from sharpseq.decoding.protocols import SECOND_PROMPT
from sharpseq.generation.decoder_choice import check_decoder, default_decoder
from sharpseq.generation.language_model_files import language_model_of
from sharpseq.generation.model_loading import load_model, max_source_length, model_folder
from sharpseq.generation.second_prompt import encode_second_prompt, second_prompt_in
from sharpseq.generation.target_languages import with_languages
from sharpseq.generation.tuned_decoding import read_tuned_decoding
from sharpseq.models.pretrained import fit_special_tokens, is_causal


@dataclass(frozen=True)
class Generation:
    """One output.

    Args:
        text: The text, without line breaks; empty for a blank source, and where there is an ``error``.
        log_prob: Its log-probability under the model in nats; 0 for a blank source.
        num_tokens: Its length in tokens, as the log-probability counts them.
        num_passes: Target-side network passes of its batch, with that of a rescorer; 0 for a blank source.
        error: Why there is no text, in a few words; None for an ordinary output.
        reached_limit: The length limit that the output reached, so that its end may be missing; None for an output that
            ended by itself.
    """

    text: str
    log_prob: float = 0.0
    num_tokens: int = 0
    num_passes: int = 0
    error: str | None = None
    reached_limit: ReachedLimit | None = None


class SequenceGenerator:
    """A model with its tokenizer and a way to decode.

    Args:
        model: One of our models, or a Hugging Face seq2seq or causal model.
        tokenizer: The tokenizer it was trained with; for a causal model, one with a prompt.
        decoder: Name of a row of `sharpseq.decoding.DECODERS`; by default the one made for the model.
        options: Options of the decoder, such as ``num_beams``, ``length_beam`` or ``iterations``.
        rescorer: Chooses between the candidates of a one-pass decoder, such as `autoregressive_rescorer(teacher)`.
        language_model: Steers the search of a decoder that can ask one, with the weight ``lm_weight`` of its options.
        drafter: Writes the drafts that `verified_draft` corrects; see `load_drafter`.
        batch_tokens: Token budget of a batch, padding included.
        source_language: Language of sources, for a tokenizer with language codes and by its name for it, such as
            ``eng_Latn`` (NLLB), ``en`` (M2M100) or ``en_XX`` (mBART); the one that the tokenizer is set to when not
            given.
        target_language: Language of outputs, likewise; when not given, the one that the model's generation
            configuration or the tokenizer is set to.

    Attributes:
        model: The model; a copy with the same weights where its outputs have to begin in another way.
        tokenizer: The tokenizer; a copy where it has to be set to another language.
        unknown_characters: Counts the characters of all sources so far that the tokenizer does not know.

    Raises:
        ValueError: If the tokenizer or the decoder does not fit the model, an option is unknown or of another type, the
            decoder takes no rescorer, or a language is unknown, does not fit the model or is missing.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        decoder: str | None = None,
        options: Mapping[str, Any] | None = None,
        rescorer: Rescorer | None = None,
        language_model: LanguageModel | None = None,
        drafter: Drafter | None = None,
        batch_tokens: int = 4000,
        source_language: str | None = None,
        target_language: str | None = None,
    ) -> None:
        self.model, self.tokenizer = with_languages(
            model.eval(), tokenizer, source=source_language, target=target_language
        )
        self.decoder = decoder or default_decoder(model)
        self.options = dict(options or {})
        self.batch_tokens = batch_tokens
        self.unknown_characters = UnknownCharacters(self.tokenizer)
        if is_causal(model.config) and prompt_of(tokenizer) is None:
            raise ValueError(
                "`tokenizer` has no prompt, which a causal language model needs; attach one with "
                "`sharpseq.data.attach_prompt`, or give `prompt` (`--prompt` on the command line)"
            )
        embeddings: Any = model.get_input_embeddings()
        num_embeddings = len(embeddings.weight)
        if len(tokenizer) > num_embeddings:
            raise ValueError(f"`tokenizer` has {len(tokenizer)} entries, but the model knows only {num_embeddings}")
        check_decoder(model, self.decoder, self.options)
        if rescorer is not None and not DECODERS[self.decoder].takes_rescorer:
            raise ValueError(f"`rescorer` has nothing to choose from: the decoder {self.decoder} has no candidates")
        if language_model is not None and not DECODERS[self.decoder].takes_language_model:
            raise ValueError(f"`language_model` has nothing to steer: the decoder {self.decoder} asks none")
        if drafter is not None and not DECODERS[self.decoder].takes_drafter:
            raise ValueError(f"`drafter` has nothing to draft for: the decoder {self.decoder} verifies no drafts")
        self.language_model = language_model
        given: dict[str, Any] = {"rescorer": rescorer, "language_model": language_model, "drafter": drafter}
        self._objects = {name: each for name, each in given.items() if each is not None}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        prompt: Prompt | str | None = None,
        merge: bool = False,
        dtype: torch.dtype | None = None,
        is_tuned: bool = True,
        **kwargs: Any,
    ) -> SequenceGenerator:
        """Load a model folder, a run folder, or a model of the Hub.

        Where `sharpseq tune` has written decoder settings into the folder, they count unless another decoder is given;
        ``options`` win over them. A language model in the folder is there for decoders that ask one.

        Args:
            name_or_path: What ``save_pretrained`` wrote, a run folder with a finished model in it, or a Hub id.
            prompt: Prompt of a causal language model, or its template, for a chat where the tokenizer has a template
                for chats; the one saved with the tokenizer when not given.
            merge: Add an adapter to the weights, which makes decoding faster.
            dtype: Type of the weights; as they were saved when not given, float32 below an adapter.
            is_tuned: Whether settings that `sharpseq tune` wrote into the folder count.
            kwargs: See the class: ``decoder``, ``options``, ``target_language`` and so on.

        Returns:
            The generator.

        Raises:
            UserError: If there is no model, or it is broken or of a kind that sharpseq cannot decode.
            ValueError: If the prompt or another argument does not fit the model.
        """
        folder = model_folder(name_or_path)
        tuned = read_tuned_decoding(Path(folder)) if is_tuned else None
        if tuned is not None and kwargs.get("decoder") in (None, tuned.decoder):
            kwargs |= {"decoder": tuned.decoder, "options": {**tuned.options, **(kwargs.get("options") or {})}}
        model = load_model(folder, merge=merge, dtype=dtype)
        tokenizer = load_tokenizer(folder, pad_with_end=is_causal(model.config))
        if prompt is not None:
            if not is_causal(model.config):
                raise ValueError("`prompt` is for causal language models, and this one is not")
            if isinstance(prompt, str):
                prompt = Prompt("chat" if tokenizer.chat_template else "plain", prompt)
            attach_prompt(tokenizer, prompt)
        if is_causal(model.config) and prompt_of(tokenizer) is not None:
            fit_special_tokens(model, tokenizer, end_token_id=end_token_id(tokenizer))
        if kwargs.get("language_model") is None:
            decoder = kwargs.get("decoder") or default_decoder(model)
            if decoder in DECODERS and DECODERS[decoder].takes_language_model:
                kwargs["language_model"] = language_model_of(
                    folder, tokenizer, vocab_size=model.config.vocab_size, device=model.device
                )
        return cls(model, tokenizer, **kwargs)

    @property
    def languages(self) -> dict[str, str]:
        """``source_language`` and ``target_language``; empty for a tokenizer without language codes."""
        return chosen_languages(self.tokenizer)

    def try_out(self) -> None:
        """Decode the shortest source there is, so that an option out of its range is found before real work begins.

        Raises:
            ValueError: If an option is out of its range, or the rescorer does not fit.
        """
        with torch.inference_mode():
            batch = self.batch_of(encode_sources(self.tokenizer, [""])) | self._second_prompt(self.options, [""])
            self._decode(batch, self.options, model=self.model)

    def generate(self, lines: Iterable[str | Example], *, window: int = 1000, **options: Any) -> Iterator[Generation]:
        """Write one output for each line, in order.

        Args:
            lines: Source texts; or examples, whose history a model with a chat prompt reads too. Blank ones, without a
                visible character, give empty outputs; ones that are longer than the model allows give an empty output
                with an ``error``, never a cut one.
            window: Lines that are read before the first output, to make batches of similar length.
            options: Options of the decoder for this call, such as ``num_beams=5``; they win over the generator's own.

        Yields:
            One output a line.

        Raises:
            ValueError: If an option is unknown, of another type or out of range.

        Example:
            >>> generator = SequenceGenerator.from_pretrained("runs/g2p")  # doctest: +SKIP
            >>> [output.text for output in generator.generate(["hello"])]  # doctest: +SKIP
            ['HH AH L OW']
        """
        generator = self.with_options(**options) if options else self
        return generator._windows(lines, window=window)

    def with_options(self, **options: Any) -> SequenceGenerator:
        """Return a generator with the same model and other options of the decoder, added to those that there are.

        Raises:
            ValueError: If an option is unknown, of another type or out of range.
        """
        check_decoder(self.model, self.decoder, options)
        other = copy(self)
        other.options = {**self.options, **options}
        return other

    def _windows(self, lines: Iterable[str | Example], *, window: int) -> Iterator[Generation]:
        gathered: list[str | Example] = []
        for line in lines:
            gathered.append(line)
            if len(gathered) == window:
                yield from self.generate_batch(gathered)
                gathered = []
        if gathered:
            yield from self.generate_batch(gathered)

    def generate_batch(self, lines: Sequence[str | Example]) -> list[Generation]:
        """Write one output for each line; see `generate`."""
        return self.generate_with_each(lines, [{}])[0]

    @torch.inference_mode()
    def generate_with_each(
        self,
        lines: Sequence[str | Example],
        variants: Sequence[Mapping[str, Any]],
        *,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[Generation]]:
        """Write one output for each line with each of several sets of options.

        Where options steer only the search in what the network has computed, it runs once a batch for all of them.

        Args:
            lines: See `generate`.
            variants: Sets of options; they win over the generator's own.
            on_progress: Called with the number of lines that are written.

        Returns:
            The outputs for each set of options.

        Raises:
            ValueError: If an option is unknown, of another type or out of range.
        """
        options = [{**self.options, **variant} for variant in variants]
        for each in options:
            check_decoder(self.model, self.decoder, each)
        outputs: list[list[Generation]] = [[Generation("")] * len(lines) for _ in variants]
        encoded = encode_sources(self.tokenizer, lines)
        longest = self.max_source_length
        wanted = []
        for position, (line, ids) in enumerate(zip(lines, encoded, strict=True)):
            if len(ids) > longest:
                unread = Generation("", error=f"{len(ids)} tokens, the model reads at most {longest}")
                for written in outputs:
                    written[position] = unread
            elif not is_blank(line if isinstance(line, str) else line.source):
                wanted.append(position)
        read = prepare_sources(self.tokenizer, [lines[position] for position in wanted])
        self.unknown_characters.add(read, [encoded[position] for position in wanted])
        lengths = [len(encoded[position]) for position in wanted]
        budget = max(self.batch_tokens, *lengths, 1)
        remember, num_done = DECODERS[self.decoder].remember, len(lines) - len(wanted)
        for batch in TokenBudgetBatchSampler(lengths, lengths, batch_tokens=budget, shuffle=False):
            positions = [wanted[index] for index in batch]
            tensors = self.batch_of([encoded[position] for position in positions])
            model = remember(self.model) if remember is not None and len(options) > 1 else self.model
            for written, each in zip(outputs, options, strict=True):
                second = self._second_prompt(each, [lines[position] for position in positions])
                decoded = self._decode({**tensors, **second}, each, model=model)
                for position, output in zip(positions, decoded, strict=True):
                    written[position] = output
            num_done += len(positions)
            on_progress(num_done)
        return outputs

    @property
    def max_source_length(self) -> int:
        """How many tokens a source may have, prompt included."""
        longest = max_source_length(self.model)
        return longest - int(self.options.get("min_new_tokens", 0)) if is_causal(self.model.config) else longest

    def decode(self, batch: Batch) -> DecodeOutput:
        """Decode a batch of token ids, ``input_ids`` and ``attention_mask`` (B, S)."""
        return DECODERS[self.decoder].decode(self.model, batch, **self.options, **self._objects)

    def _decode(self, batch: Batch, options: Mapping[str, Any], *, model: Any) -> list[Generation]:
        decoded = DECODERS[self.decoder].decode(model, batch, **options, **self._objects)
        texts = self.tokenizer.batch_decode(decoded.sequences, skip_special_tokens=True)
        form = unicode_normalization_of(self.tokenizer)
        limits = decoded.reached_limits or [None] * len(texts)
        return [
            Generation(
                _without_breaks(normalize_text(text, form)),
                log_prob,
                num_tokens,
                decoded.num_passes + ("rescorer" in self._objects),
                reached_limit=reached_limit,
            )
            for text, log_prob, num_tokens, reached_limit in zip(
                texts, decoded.log_prob.tolist(), decoded.num_tokens.tolist(), limits, strict=True
            )
        ]

    def _second_prompt(self, options: Mapping[str, Any], lines: Sequence[str | Example]) -> dict[str, Tensor]:
        """Return what a batch needs besides for processors that read a second prompt."""
        text = second_prompt_in(options)
        if text is None:
            return {}
        batch = self.batch_of(encode_second_prompt(self.tokenizer, text, lines))
        return dict(zip(SECOND_PROMPT, (batch["input_ids"], batch["attention_mask"]), strict=True))

    def batch_of(self, sources: list[list[int]]) -> dict[str, Tensor]:
        """Return what a decoder reads of encoded sources, ``input_ids`` and ``attention_mask`` (B, S)."""
        pad = self.tokenizer.pad_token_id if self.model.config.pad_token_id is None else self.model.config.pad_token_id
        batch = source_batch(sources, pad_token_id=pad)
        return {name: ids.to(self.model.device) for name, ids in batch.items()}


def _without_breaks(text: str) -> str:
    # A line break inside would put every later line beside the wrong source.
    return text.strip().replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def sources_of(examples: Iterable[Example]) -> list[str | Example]:
    """Return what a generator reads of examples: their sources, and those with a history whole."""
    return [example if example.history else example.source for example in examples]
