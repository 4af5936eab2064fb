"""Joining sharpseq to other libraries; each module imports its library when it is used."""

from sharpseq.integrations.ctranslate2 import Ctranslate2Generator, export_ctranslate2, is_ctranslate2_export
from sharpseq.integrations.hugging_face import export_hugging_face
from sharpseq.integrations.openvino import export_openvino

__all__ = [
    "Ctranslate2Generator",
    "export_ctranslate2",
    "export_hugging_face",
    "export_openvino",
    "is_ctranslate2_export",
]
