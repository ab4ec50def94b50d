# SPDX-License-Identifier: Apache-2.0
"""Published claims about training, each with an experiment: `make claims`."""
