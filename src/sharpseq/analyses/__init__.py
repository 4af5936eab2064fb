"""What analyses share: their pictures, their page, and the files that they write.

Importing `sharpseq.evaluation` does not import this subpackage, which needs matplotlib.
"""

from __future__ import annotations

from sharpseq.analyses.analysis_files import AnalysisFiles, Row, record_json
from sharpseq.analyses.analysis_page import NumberTable, Picture, Section, analysis_page
from sharpseq.analyses.pictures import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SOFT,
    VERMILION,
    headline,
    new_figure,
    plain,
    png,
)

__all__ = [
    "BLUE",
    "FAINT",
    "GREEN",
    "INK",
    "ORANGE",
    "SOFT",
    "VERMILION",
    "AnalysisFiles",
    "NumberTable",
    "Picture",
    "Row",
    "Section",
    "analysis_page",
    "headline",
    "new_figure",
    "plain",
    "png",
    "record_json",
]
