"""The MODEL argument: a folder or Hub id, and how to decode with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from sharpseq.cli.quiet import quiet_libraries
from sharpseq.cli.settings import parse_settings
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sharpseq.data import Example
    from sharpseq.generation import SequenceGenerator
    from sharpseq.runtime import ExportedModel

MODEL_HELP = "A run folder, a model folder, an exported folder, or a Hub id."

Model: TypeAlias = Annotated[str, typer.Argument(help=MODEL_HELP)]
Decoder: TypeAlias = Annotated[
    str | None, typer.Option(help="One of `sharpseq decoders`; by default the model's own default.")
]
Settings: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A decoder's setting, such as num_beams=5.")
]
RescoreWith: TypeAlias = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Autoregressive model that chooses among length candidates.")
]
DraftWith: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="One-pass model that drafts; the model writes what greedy search would, in fewer passes.",
    ),
]
LanguageModelFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="n-gram model over the model's tokens (.safetensors or .arpa) for a decoder with an lm_weight; by default "
        "the one saved with the model.",
    ),
]
PromptText: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Prompt of a causal language model, with {source} in it; by default the one saved with the model.",
    ),
]
SourceLanguage: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Language of the sources, as a multilingual tokenizer names it; by default the one saved with the model.",
    ),
]
TargetLanguage: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Language of the outputs, such as deu_Latn, de or de_DE; likewise.")
]
BatchTokens: TypeAlias = Annotated[int, typer.Option(help="Token budget of a batch.", min=1)]


def load_generator(
    model: str,
    *,
    decoder: str | None,
    settings: Sequence[str],
    rescore_with: str | None = None,
    draft_with: str | None = None,
    language_model: str | None = None,
    batch_tokens: int = 4000,
    is_tuned: bool = True,
    **reading: Any,
) -> SequenceGenerator:
    """Load a model with a decoder and its settings, and check that they work together.

    Args:
        model: A run folder, a model folder, or a Hub id.
        decoder: Name of the decoder; the model's own default when None.
        settings: Its settings, each as ``KEY=VALUE``.
        rescore_with: Model that chooses among candidates.
        draft_with: One-pass model whose drafts the model verifies; the decoder is then `verified_draft`.
        language_model: File of a language model; the one in the model folder, if there is one, when None.
        batch_tokens: Token budget of a batch.
        is_tuned: Whether settings that `sharpseq tune` wrote into the model folder count.
        reading: ``prompt``, ``source_language`` and ``target_language``, None where they are not given.

    Raises:
        UserError: If the model cannot be loaded, or the decoder, a setting, the rescorer, the prompt or a language does
            not fit it.
    """
    options: dict[str, Any] = parse_settings(settings)
    if draft_with is not None:
        decoder = decoder or "verified_draft"
    quiet_libraries()
    from sharpseq.generation import SequenceGenerator
    from sharpseq.processor_threads import choose_num_threads

    choose_num_threads()
    try:
        generator = SequenceGenerator.from_pretrained(
            model, decoder=decoder, options=options, batch_tokens=batch_tokens, is_tuned=is_tuned, **reading
        )
        if language_model is not None:
            generator = _with_language_model(generator, language_model)
        if draft_with is not None:
            generator = _with_drafter(generator, draft_with)
        if rescore_with is not None:
            generator = _with_rescorer(generator, rescore_with)
        generator.try_out()
    except ValueError as error:
        raise UserError(f"{model}: {error}") from error
    return generator


def load_exported(model: str, *, batch_tokens: int = 4000, **decoding: Any) -> ExportedModel:
    """Load an exported folder.

    Args:
        model: The folder.
        batch_tokens: Token budget of a batch.
        decoding: Options of models that are not exported; none may be given.

    Raises:
        UserError: If it is broken, a package is missing, or an option is given that an export does not have.
    """
    given = [name for name, value in decoding.items() if value]
    if given:
        option = given[0].replace("_", "-").replace("settings", "set")
        raise UserError(
            f"{model} decodes as it was exported; leave out --{option}, and export again with other settings"
        )
    from sharpseq.runtime import load

    try:
        return load(model, batch_tokens=batch_tokens)
    except ImportError as error:
        raise UserError(str(error)) from error


def report_unknown_characters(tokenizer: PreTrainedTokenizerBase, sources: Sequence[str | Example]) -> None:
    """Report on standard error the characters of sources that a tokenizer does not know, if there are any."""
    from sharpseq.data import UnknownCharacters, encode_sources, prepare_sources

    unknown = UnknownCharacters(tokenizer)
    unknown.add(prepare_sources(tokenizer, sources), encode_sources(tokenizer, sources))
    if unknown:
        typer.echo(str(unknown), err=True)


def _with_rescorer(generator: SequenceGenerator, name: str) -> SequenceGenerator:
    from sharpseq.generation import load_rescorer

    try:
        rescorer = load_rescorer(name, tokenizer=generator.tokenizer)
    except ValueError as error:
        raise UserError(f"--rescore-with {name}: {error}") from error
    return _with(generator, rescorer=rescorer)


def _with_drafter(generator: SequenceGenerator, name: str) -> SequenceGenerator:
    from sharpseq.generation import load_drafter

    try:
        drafter = load_drafter(name, tokenizer=generator.tokenizer)
    except ValueError as error:
        raise UserError(f"--draft-with {name}: {error}") from error
    return _with(generator, drafter=drafter)


def _with_language_model(generator: SequenceGenerator, file: str) -> SequenceGenerator:
    from sharpseq.generation import load_language_model

    vocab_size = generator.model.config.vocab_size
    return _with(generator, language_model=load_language_model(file, generator.tokenizer, vocab_size=vocab_size))


def _with(generator: SequenceGenerator, **objects: Any) -> SequenceGenerator:
    from sharpseq.generation import SequenceGenerator

    return SequenceGenerator(
        generator.model,
        generator.tokenizer,
        decoder=generator.decoder,
        options=generator.options,
        batch_tokens=generator.batch_tokens,
        **{"language_model": generator.language_model, **objects},
    )
