"""What every worker of a build needs, and what takes longest to import: see `workers`. Importing this imports it."""

from __future__ import annotations

from .workers import quieten

quieten()

import torch  # noqa: E402
import torch._dynamo  # noqa: E402, F401  `torch.export` would import it when it is first called
