"""Files of any kind: written whole, locked, measured and opened safely. No torch, no MONAI."""
