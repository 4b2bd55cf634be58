"""See what every node of a trained network has learned to recognise.

>>> import torch
>>> import nodelens as nl
>>> m = nl.NodalMatrices(class_means=torch.eye(3, 2), weight=torch.eye(3, 2))
>>> m.clusters(node=0, threshold=0.3)
[[0]]
>>> nl.site_statistics(m, threshold=0.3).diagonal
1.0
"""

import lazy_loader

__version__ = "0.1.0"

# `nodelens --help`, a mistyped option or a missing file need not wait seconds for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
