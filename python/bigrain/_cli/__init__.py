# SPDX-License-Identifier: Apache-2.0
"""What the verbs of the command `bigrain` do; bigrain.cli holds their arguments."""
