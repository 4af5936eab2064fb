"""Plain folders of transformers: what was trained here, for anything that loads models of Hugging Face."""

from __future__ import annotations

import shutil
from pathlib import Path

from sharpseq.data import load_tokenizer
from sharpseq.generation import (
    LANGUAGE_MODEL_FILE,
    fit_target_start,
    load_model,
    model_folder,
    read_tuned_decoding,
    with_languages,
    write_tuned_decoding,
)
from sharpseq.models.pretrained import is_causal
from sharpseq.whole_files import whole_folder


def export_hugging_face(
    model: str | Path,
    output_folder: str | Path,
    *,
    source_language: str | None = None,
    target_language: str | None = None,
) -> Path:
    """Write a model as a plain folder that ``from_pretrained`` loads, with an adapter added to its weights.

    Args:
        model: A model or adapter folder, a run folder with a finished model in it, or a Hub id.
        output_folder: The folder to make; it must not exist, or be empty. It is there whole or not at all.
        source_language: Language of sources that is saved with the tokenizer, as for `sharpseq.SequenceGenerator`.
        target_language: Language of outputs, likewise; it is saved with the model's generation configuration too.

    Returns:
        The output folder.

    Raises:
        ValueError: If a language is unknown or does not fit the model.
        UserError: If there is no model, or the output folder is not empty.

    Example:
        >>> export_hugging_face("runs/language-model-translation", "merged")  # doctest: +SKIP
        PosixPath('merged')
    """
    output = Path(output_folder)
    with whole_folder(output) as folder:
        source = model_folder(model)
        loaded = load_model(source, merge=True)
        tokenizer = load_tokenizer(source, pad_with_end=is_causal(loaded.config))
        if source_language or target_language:
            loaded, tokenizer = with_languages(loaded, tokenizer, source=source_language, target=target_language)
        fit_target_start(loaded, tokenizer)
        tuned = read_tuned_decoding(Path(source))
        if tuned is not None:
            write_tuned_decoding(folder, tuned)
        if (Path(source) / LANGUAGE_MODEL_FILE).is_file():
            shutil.copyfile(Path(source) / LANGUAGE_MODEL_FILE, folder / LANGUAGE_MODEL_FILE)
        loaded.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return output
