"""The store behind the interfaces of other projects, one module each; each needs the extra of its name.

Nothing is imported here: `from mrlstore.integrations.langchain import MrlVectorStore` and its like import
their framework, and say which extra to install if it is missing.
"""
