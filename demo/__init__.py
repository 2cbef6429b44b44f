"""The main job on rendered walk-pasts, for anyone to see."""
