"""What the Gemini embedding models take, how they are told the task, and what they cost.

Tables only. The figures are Google's documentation of the dates given; where it contradicts itself, the
newest edition is taken. Any of them can be changed: `dataclasses.replace(MODELS[name], audio_s=80)` is a
model too. None means "not checked".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mrlstore.errors import InvalidInput


@dataclass(frozen=True)
class Model:
    """One model: its length, its limits for one embedding, and its way of being told the task."""

    name: str
    dim: int = 3072
    prefixes: bool = True  # the task goes into the text; False: into `task_type`
    multimodal: bool = True
    tokens: int | None = 8192
    images: int | None = 6
    audio_s: float | None = 180.0
    video_s: float | None = 120.0
    pdf_pages: int | None = 6
    batch: int = 100  # embeddings in one HTTP request; more is a 400
    batch_bytes: int = 15_000_000  # of media in one HTTP request: 20 MB once in base64


MODELS: Final[Mapping[str, Model]] = {
    model.name: model
    for model in (
        Model("gemini-embedding-2"),
        Model("gemini-embedding-2-preview", audio_s=80.0),
        Model("gemini-embedding-001", prefixes=False, multimodal=False, tokens=2048),
    )
}


@dataclass(frozen=True)
class Task:
    """How queries and documents are marked: by prefixes in the text, or by `task_type`."""

    query_prefix: str
    query_type: str
    symmetric: bool = False  # documents are marked as queries are

    @property
    def document_type(self) -> str:
        """The `task_type` of the stored side."""
        return self.query_type if self.symmetric else "RETRIEVAL_DOCUMENT"


TASKS: Final[Mapping[str, Task]] = {
    "retrieval": Task("task: search result | query: ", "RETRIEVAL_QUERY"),
    "question answering": Task("task: question answering | query: ", "QUESTION_ANSWERING"),
    "fact checking": Task("task: fact checking | query: ", "FACT_VERIFICATION"),
    "code retrieval": Task("task: code retrieval | query: ", "CODE_RETRIEVAL_QUERY"),
    "classification": Task("task: classification | query: ", "CLASSIFICATION", symmetric=True),
    "clustering": Task("task: clustering | query: ", "CLUSTERING", symmetric=True),
    "similarity": Task("task: sentence similarity | query: ", "SEMANTIC_SIMILARITY", symmetric=True),
}

# Tokens of a medium, as the prices per image, second and frame imply them: an estimate.
TOKENS_PER_IMAGE: Final = 258
TOKENS_PER_PAGE: Final = 258
TOKENS_PER_AUDIO_SECOND: Final = 25
TOKENS_PER_FRAME: Final = 66
FRAMES: Final = 32  # of a film at most, one a second up to there

PRICES_AS_OF: Final = "2026-10"
PRICES: Final[Mapping[str, Mapping[str, float]]] = {  # US dollars for 1,000,000 tokens; the Batch API: half
    "gemini-embedding-2": {"text": 0.20, "image": 0.45, "audio": 6.50, "video": 12.00},
    "gemini-embedding-2-preview": {"text": 0.20, "image": 0.45, "audio": 6.50, "video": 12.00},
    "gemini-embedding-001": {"text": 0.15},
}


def find_model(model: str | Model) -> Model:
    """Return the model of this name ("models/" before it is allowed); InvalidInput if there is none."""
    if isinstance(model, Model):
        return model
    found = MODELS.get(model.removeprefix("models/"))
    if found is None:
        raise InvalidInput(
            f"model {model!r} is not known; known are {', '.join(MODELS)}. For another one give a "
            "mrlstore.embedders.gemini.Model with its limits"
        )
    return found


def find_task(task: str) -> Task:
    """Return the task of this name; InvalidInput if there is none."""
    if task not in TASKS:
        raise InvalidInput(f"task {task!r} is not known; known are {', '.join(map(repr, TASKS))}")
    return TASKS[task]
