# SPDX-License-Identifier: Apache-2.0
"""Judged retrieval: metrics, significance, and readers of collections, qrels and runs; no torch."""
