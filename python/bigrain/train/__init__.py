# SPDX-License-Identifier: Apache-2.0
"""Training for embedding-based recall, the index in the loop; needs `pip install bigrain[train]`.

Each module stands alone and works on plain tensors: `losses`, `dist`, `gradcache`, `samplers`,
`negatives`, `distill`, `quantize`, `user`, `speedy`; text enters in `encoders` and `data` only,
`trainer.fit` is the loop. Nothing here is imported by `import bigrain`.
"""
