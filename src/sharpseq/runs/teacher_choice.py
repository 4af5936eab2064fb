"""The teacher that a stage of a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from sharpseq.data import EncodedExample, load_tokenizer
from sharpseq.errors import UserError
from sharpseq.generation import fit_target_start, load_model, model_folder
from sharpseq.generation.fingerprints import vocabulary_fingerprint
from sharpseq.recipe.stages import BASE_TEACHER
from sharpseq.recipe.stages import Teacher as TeacherSection
from sharpseq.training.distillation import AdapterBaseTeacher, ModelTeacher, StoredTeacher, Teacher, TeacherStore
from sharpseq.training.distillation.teacher_store import example_key

_SAME_TOKENIZER = (
    "train the student with the teacher's, such as `tokenizer: {kind: pretrained, name: runs/teacher/tokenizer}`"
)


def check_teacher(section: TeacherSection) -> None:
    """Check that there is such a teacher, without loading it.

    Raises:
        UserError: If there is none, or its store is not finished.
    """
    if section.store is not None:
        TeacherStore(Path(section.store).expanduser())
    elif section.model != BASE_TEACHER:
        model_folder(str(section.model))


def load_teacher(
    section: TeacherSection,
    tokenizer: PreTrainedTokenizerBase,
    *,
    training: Sequence[EncodedExample] | None,
    validation: Sequence[EncodedExample],
) -> Teacher:
    """Load the teacher of a stage and check that it knows the student's tokens and data.

    Args:
        section: The recipe's section.
        tokenizer: The student's tokenizer.
        training: The student's training examples; None where they are streamed, and looked up one by one.
        validation: Its validation examples.

    Raises:
        UserError: If there is no such teacher, or it was made with another tokenizer or from other data.
    """
    if section.model == BASE_TEACHER:
        return AdapterBaseTeacher()
    own = vocabulary_fingerprint(tokenizer)
    if section.store is not None:
        store = TeacherStore(Path(section.store).expanduser())
        if store.record.vocabulary != own:
            raise UserError(f"{store.folder} was made with another tokenizer than the student's; {_SAME_TOKENIZER}")
        for name, examples in (("training", training or ()), ("validation", validation)):
            store.check_examples([example_key(each.input_ids, each.labels) for each in examples], of=name)
        return StoredTeacher(store)
    folder = model_folder(str(section.model))
    if vocabulary_fingerprint(load_tokenizer(folder)) != own:
        raise UserError(f"the teacher {section.model} has another vocabulary than the student; {_SAME_TOKENIZER}")
    dtype = None if section.dtype is None else getattr(torch, section.dtype)
    teacher = load_model(folder, merge=True, dtype=dtype)
    fit_target_start(teacher, tokenizer)
    return ModelTeacher(teacher)
