"""What the Gemini embedding models take, how the task is given to them, and what they cost.

Tables only, one for each of Google's two services. Each figure is from the page and date named above its
table; where Google's pages contradict each other, the newest one counts. Any figure can be changed:
`dataclasses.replace(MODELS[name], audio_s=80)` is a model too. None means "not checked".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from mrlstore.errors import InvalidInput

Modality = Literal["image", "audio", "video", "pdf"]


@dataclass(frozen=True)
class Model:
    """One model on one service: its vectors, its limits for one content and for one request."""

    name: str
    dim: int = 3072
    prefixes: bool = True  # the task goes into the text; False: into the field `task_type`
    multimodal: bool = True
    tokens: int | None = 8192  # of one content
    images: int | None = 6  # in one content, as the four that follow
    audio_s: float | None = 180.0
    video_s: float | None = 120.0
    pdf_pages: int | None = 6
    batch: int = 100  # contents in one HTTP request; the Developer API answers 400 to more
    batch_bytes: int = (
        15_000_000  # of the media of several contents in one HTTP request: 20 MB once in base64
    )
    video_with_sound_s: float | None = 80.0  # of film whose sound is embedded too (audio_track_extraction)
    recordings: int | None = None  # in one content, as the two that follow
    films: int | None = None
    documents: int | None = None
    pdf_bytes: int | None = 50_000_000  # of one PDF that is sent inline
    inline_bytes: int | None = 75_000_000  # of all media of one content: 100 MB once in base64
    batch_tokens: int | None = None  # estimated, in one HTTP request
    mime_types: frozenset[str] | None = None  # of media; None: those of the Developer API are not checked
    locations: tuple[str, ...] | None = None  # of Vertex AI that serve the model
    ended: str | None = None  # the date on which the service stopped serving the model
    successor: str | None = None  # the model that Google recommends instead


# The Developer API; docs/gemini.md has the addresses of the pages named here, all on ai.google.dev.
# Limits, MIME types: "Embeddings", edition of 2026-04-22.
# 100 contents a request: the text of the service's own error 400.
# 100 MB inline, 50 MB a PDF, Cloud Storage, signed URLs since 2026-01-08: "Changelog", "File input methods".
# End of the preview model on 2026-08-10: "Gemini deprecations".
FACTS_AS_OF: Final = "2026-11"

_DEVELOPER_MEDIA: Final = frozenset(
    {"image/png", "image/jpeg", "audio/mpeg", "audio/wav", "video/mp4", "video/quicktime", "application/pdf"}
)
_TWO: Final = Model("gemini-embedding-2", mime_types=_DEVELOPER_MEDIA)
_001: Final = Model("gemini-embedding-001", prefixes=False, multimodal=False, tokens=2048)

MODELS: Final[Mapping[str, Model]] = {
    model.name: model
    for model in (
        _TWO,
        replace(
            _TWO,
            name="gemini-embedding-2-preview",
            audio_s=80.0,
            ended="2026-08-10",
            successor="gemini-embedding-2",
        ),
        _001,
    )
}

# Vertex AI, since 2026 also "Gemini Enterprise Agent Platform"; pages on docs.cloud.google.com, read 2026-11.
# Limits, MIME types, locations of embedding 2: "Gemini Embedding 2".
# 001: "a single input text for Gemini Embedding models" and "250 input texts" stand on two pages ("Get text
# embeddings", "Text embeddings API"), so 250 are tried, and fewer from the first refusal on. 20,000 tokens a
# request: the former page.
_VERTEX_MEDIA: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "image/avif", "image/bmp"),
        *("audio/mpeg", "audio/wav", "video/mpeg", "video/mp4", "application/pdf"),
    }
)
_VERTEX_TWO: Final = replace(
    _TWO,
    mime_types=_VERTEX_MEDIA,
    batch=1,
    recordings=1,
    films=1,
    documents=1,
    pdf_bytes=None,
    inline_bytes=None,
    locations=("global", "us", "eu"),
)

VERTEX_MODELS: Final[Mapping[str, Model]] = {
    model.name: model
    for model in (
        _VERTEX_TWO,
        replace(_VERTEX_TWO, name="gemini-embedding-2-preview"),
        replace(_001, batch=250, batch_tokens=20_000),
    )
}

# Names under which Vertex AI documents a MIME type, where they differ from those used here.
VERTEX_MIME_TYPES: Final[Mapping[str, str]] = {"audio/mpeg": "audio/mp3"}


@dataclass(frozen=True)
class Task:
    """How queries and documents are marked: by prefixes in the text, or by `task_type`."""

    query_prefix: str
    query_type: str
    symmetric: bool = False  # documents are marked as queries are

    @property
    def document_type(self) -> str:
        """The `task_type` of documents."""
        return self.query_type if self.symmetric else "RETRIEVAL_DOCUMENT"


# "Embeddings" on ai.google.dev, edition of 2026-04-22.
TASKS: Final[Mapping[str, Task]] = {
    "retrieval": Task("task: search result | query: ", "RETRIEVAL_QUERY"),
    "question answering": Task("task: question answering | query: ", "QUESTION_ANSWERING"),
    "fact checking": Task("task: fact checking | query: ", "FACT_VERIFICATION"),
    "code retrieval": Task("task: code retrieval | query: ", "CODE_RETRIEVAL_QUERY"),
    "classification": Task("task: classification | query: ", "CLASSIFICATION", symmetric=True),
    "clustering": Task("task: clustering | query: ", "CLUSTERING", symmetric=True),
    "similarity": Task("task: sentence similarity | query: ", "SEMANTIC_SIMILARITY", symmetric=True),
}

# Tokens of a medium, as the prices per image, second and frame imply them: estimates, used for quotas and
# prices.
TOKENS_PER_IMAGE: Final = 258
TOKENS_PER_PAGE: Final = 258
TOKENS_PER_AUDIO_SECOND: Final = 25
TOKENS_PER_FRAME: Final = 66
MAX_FRAMES: Final = 32  # of one film: one frame a second, and from 32 s on 32 frames evenly spaced

PRICES_AS_OF: Final = "2026-10"
PRICES: Final[Mapping[str, Mapping[str, float]]] = {  # US dollars per 1,000,000 tokens; the Batch API: half
    "gemini-embedding-2": {"text": 0.20, "image": 0.45, "audio": 6.50, "video": 12.00},
    "gemini-embedding-2-preview": {"text": 0.20, "image": 0.45, "audio": 6.50, "video": 12.00},
    "gemini-embedding-001": {"text": 0.15},
}


def find_model(model: str | Model, *, vertex: bool = False) -> Model:
    """Return the model of this name ("models/" before it is allowed) as a service serves it.

    Raises:
        InvalidInput: there is none of this name.
    """
    if isinstance(model, Model):
        return model
    found = (VERTEX_MODELS if vertex else MODELS).get(model.removeprefix("models/"))
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
