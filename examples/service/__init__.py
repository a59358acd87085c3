"""A GraphRAG service with several workers over one Redis: ``app`` answers, ``index`` fills it."""
