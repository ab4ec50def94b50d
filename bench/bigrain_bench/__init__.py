# SPDX-License-Identifier: Apache-2.0
"""Measures Bigrain beside its peers: recall, queries per second, build time, bytes.

Every engine, ours too, runs in a worker process of its own, and the workers take turns, so that
all of them meet the same machine in the same minute and none sees another's threads or memory.
This file imports nothing: a worker may run under an interpreter that has only NumPy and its peer.
"""
