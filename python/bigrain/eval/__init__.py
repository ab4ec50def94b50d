# SPDX-License-Identifier: Apache-2.0
"""Judged retrieval: metrics, significance, baselines, readers of collections and runs; no torch."""
