"""Losses on the way to the image and to other workers: their sums by hop, whom they put in doubt, what was skipped."""
