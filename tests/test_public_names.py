"""The import paths that users may rely on: none is lost between releases."""

from __future__ import annotations

import importlib

import pytest

import mrlstore

# Each module and its public names, as of version 0.1, with the four result types that were renamed since:
# Audited -> AuditStats, Calibrated -> Calibration, Repaired -> RepairReport, Report -> VerifyReport.
PUBLIC = {
    "mrlstore": """
        AuditStats BatchResult Calibration CorruptStore DamagedPartWarning EmbedError Expected Explanation
        FormatTooNew FusedRank Hit HitRanks IdExists InvalidInput KeywordPlan LIMITS LimitExceeded
        MrlStoreError
        OriginError Plan Problem Progress Record RepairReport Result SegmentPlan Settings Stats StorageError
        StorageFull Store StoreClosed StoreExists StoreLocked StoreNotFound StorePoisoned Tier TierReport
        VerifyReport __version__ open
    """,
    "mrlstore.types": """
        AuditStats BatchResult Conflict Expected Explanation FusedRank Hit HitRanks Include KeywordPlan LIMITS
        Limits Metadata Plan Problem Progress Record RepairReport Result SegmentPlan Settings Stats Tokenizer
        VerifyReport Where
    """,
    "mrlstore.errors": """
        CorruptStore DamagedPartWarning EmbedError FormatTooNew IdExists InvalidInput LimitExceeded
        MrlStoreError
        OriginError StorageError StorageFull StoreClosed StoreExists StoreLocked StoreNotFound StorePoisoned
    """,
    "mrlstore.ingest": """
        FileSelection FilesOfRows IngestError Ingested Source Split digest_of ingest missing_rows re_embed
        read_sources
    """,
    "mrlstore.exchange": """
        Exported Imported Refusal export_rows import_rows to_arrow to_batches to_pandas to_polars
    """,
    "mrlstore.exchange.migrate": "Checked Choice Collection Migrated Origin migrate open_origin",
    "mrlstore.embedders": """
        Audio Chunk Content Embedder EmbeddingCache GeminiBatch GeminiEmbedError GeminiEmbedder Image
        LocalEmbedder Media Pdf Video split_text
    """,
    "mrlstore.embedders.gemini": """
        Clock Collected GeminiBatch GeminiEmbedError GeminiEmbedder MODELS Model Retry TASKS Usage
    """,
    "mrlstore.embedders.local": "LocalEmbedder words_of",
    "mrlstore.integrations.langchain": "MrlVectorStore",
    "mrlstore.integrations.haystack": "MrlDocumentStore MrlEmbeddingRetriever",
    "mrlstore.integrations.llama_index": "MrlVectorStore",
    "mrlstore.integrations.pinecone": "Index Vector",
    "mrlstore.integrations.mteb": "EmbedderModel MrlSearchBackend",
    "mrlstore.telemetry": "instrument uninstrument",
}
FRAMEWORKS = ("langchain_core", "haystack", "llama_index", "mteb")  # installed only beside their own tests


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_name_stays_where_it_was(module: str) -> None:
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        if not any(name in str(error) for name in ("mrlstore[", *FRAMEWORKS)):
            raise
        pytest.skip(str(error))
    missing = [name for name in PUBLIC[module].split() if not hasattr(loaded, name)]
    assert not missing, f"{module} has lost {missing}"


def test_the_list_of_names_to_import_from_the_package_is_whole() -> None:
    assert set(PUBLIC["mrlstore"].split()) <= set(mrlstore.__all__)
