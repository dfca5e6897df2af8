"""The embedder for Google's Gemini models: text, images, sound, film and PDF in one space.

Needs the extra `gemini`; the SDK is imported at the first call, not here.
"""

from mrlstore.embedders.gemini.batch_jobs import Collected, GeminiBatch, GeminiJob
from mrlstore.embedders.gemini.call_failures import GeminiEmbedError
from mrlstore.embedders.gemini.embedder import GeminiEmbedder
from mrlstore.embedders.gemini.models import MODELS, TASKS, VERTEX_MODELS, Model
from mrlstore.embedders.gemini.pace import Clock, Retry
from mrlstore.embedders.gemini.usage import Usage

__all__ = [
    "MODELS",
    "TASKS",
    "Clock",
    "Collected",
    "GeminiBatch",
    "GeminiEmbedError",
    "GeminiEmbedder",
    "GeminiJob",
    "Model",
    "Retry",
    "Usage",
    "VERTEX_MODELS",
]
